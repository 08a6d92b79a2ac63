"""What a worker has to do when: with the time as the test says it, without a database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from freezegun import freeze_time

from canx_flow.core.clock import now
from canx_flow.worker.agenda import Agenda, Every, NextTimer

pytestmark = pytest.mark.once

LATER = timedelta(seconds=3)


@pytest.fixture(autouse=True)
def _wall_clock_stands() -> Iterator[None]:
    with freeze_time("2026-03-01 12:00:00"):
        yield


@pytest.fixture
def agenda() -> Agenda:
    """The agenda of a worker that polls every ten seconds and has just polled; its own clock stands."""
    agenda = Agenda(10.0, lambda: 1000.0)
    agenda.poll.done(1000.0)
    return agenda


def test_a_chore_is_due_at_once_and_then_at_intervals() -> None:
    """Counted from when it was last done, and `at_once` ends the interval."""
    every = Every(5.0)
    assert every.is_due(0.0)
    every.done(0.0)
    assert (every.is_due(4.9), every.left(4.0), every.is_due(5.0)) == (False, 1.0, True)
    every.at_once()
    assert (every.is_due(0.0), every.left(0.0)) == (True, 0.0)


def test_a_timer_that_is_opened_while_the_database_is_asked_is_not_forgotten() -> None:
    """The answer may not have seen it yet: the earlier of both counts."""
    timer = NextTimer()
    timer.ask()
    assert timer.opened(now() + LATER)
    timer.learn(now() + 2 * LATER)
    assert timer.left() == 3.0


def test_an_answer_replaces_what_was_known_before_it_was_asked_for() -> None:
    """A timer that has fired since is not waited for."""
    timer = NextTimer()
    timer.learn(now())
    timer.ask()
    timer.learn(None)
    assert (timer.left(), timer.is_due()) == (None, False)


def test_only_a_timer_before_all_others_ends_the_pause_of_a_worker() -> None:
    """Whether it does is what `opened` returns."""
    timer = NextTimer()
    assert timer.opened(now() + 2 * LATER)
    assert timer.opened(now() + LATER)
    assert not timer.opened(now() + 2 * LATER)


def test_a_worker_pauses_until_its_next_timer_or_poll(agenda: Agenda) -> None:
    """Whichever comes first; a timer that is due ends the pause at once."""
    assert agenda.pause(full=False) == 10.0
    agenda.timer.opened(now() + LATER)
    assert agenda.pause(full=False) == 3.0
    agenda.timer.opened(now())
    assert agenda.pause(full=False) == 0.0


def test_what_other_transactions_have_locked_is_tried_again_soon(agenda: Agenda) -> None:
    """Not at once, which would be a loop without a pause, and not at the next poll only."""
    agenda.timer.opened(now())
    agenda.fired(seen=2, acted=0)
    assert agenda.pause(full=False) == 0.05
    agenda.fired(seen=2, acted=1)
    assert agenda.pause(full=False) == 0.0


def test_a_worker_pauses_until_it_delivers_or_deletes_next(agenda: Agenda) -> None:
    """A chore that does a little at a time says when it goes on; what is late already ends the pause at once."""
    agenda.delivers_at = agenda.now() + 0.5
    assert agenda.pause(full=False) == pytest.approx(0.5)
    agenda.tidies_at = agenda.now() - 1.0
    assert agenda.pause(full=False) == 0.0


def test_a_worker_without_a_free_slot_fires_now_and_then(agenda: Agenda) -> None:
    """And takes a turn as soon as a slot is free: the runs of those timers may be ready for it."""
    assert agenda.may_fire(full=True)
    agenda.begin_firing()
    assert not agenda.may_fire(full=True)
    assert agenda.runs_may_be_ready
    assert agenda.may_fire(full=False)


def test_of_many_workers_few_fire_a_timer_that_they_have_polled(agenda: Agenda) -> None:
    """Three of them, whichever timer it is; one that is late is everybody's."""
    for number in range(20):
        due = now() + timedelta(seconds=3, milliseconds=number)
        on_time = 0
        for place in range(10):
            agenda.place = (place, 10)
            agenda.timer.ask()
            agenda.learn_polled(due)
            on_time += agenda.timer.left() is not None
            agenda.timer.ask()
            agenda.learn_polled(now())
            assert agenda.timer.is_due()
        assert on_time == 3


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_of_few_workers_each_fires_every_timer(agenda: Agenda, workers: int) -> None:
    """If one is busy, another is on time."""
    for place in range(workers):
        agenda.place = (place, workers)
        agenda.timer.ask()
        agenda.learn_polled(now() + LATER)
        assert agenda.timer.left() == 3.0


def test_a_worker_fires_on_time_what_it_has_opened(agenda: Agenda) -> None:
    """A poll may find it, or another one before it, that is for others to fire; it stays its own."""
    opened, others = now() + LATER, now() + LATER - timedelta(milliseconds=5)
    agenda.place = (next(place for place in range(10) if (int(others.timestamp() * 1000) + place) % 10 > 2), 10)
    agenda.timer.opened(opened)
    agenda.timer.ask()
    agenda.learn_polled(others)
    assert agenda.timer.left() == 3.0
    agenda.timer.ask()
    agenda.learn_polled(None)
    assert agenda.timer.left() is None


def test_what_is_opened_while_it_polls_is_its_own(agenda: Agenda) -> None:
    """The poll's answer may be another timer, which others fire."""
    others = now() + LATER - timedelta(milliseconds=5)
    agenda.place = (next(place for place in range(10) if (int(others.timestamp() * 1000) + place) % 10 > 2), 10)
    agenda.timer.ask()
    agenda.timer.opened(now() + LATER)
    agenda.learn_polled(others)
    assert agenda.timer.left() == 3.0


def test_a_worker_that_others_are_quicker_than_leaves_the_next_timers_to_them(agenda: Agenda) -> None:
    """Not the first time: the timer may have been closed, and nobody fired it."""
    agenda.fired(seen=0, acted=0)
    assert not agenda.is_beaten()
    agenda.fired(seen=0, acted=0)
    assert agenda.is_beaten()
    agenda.fired(seen=3, acted=3)
    assert not agenda.is_beaten()
