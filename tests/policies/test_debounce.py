"""`using(debounce=…)`: many starts, one run with the last arguments, after a time of quiet, never past the cap."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from freezegun import freeze_time

from canx_flow import AlreadyStarted
from canx_flow.core import clock, registry
from canx_flow.models import RunSingleton, Timer, WorkflowRun
from canx_flow.states import Kind
from canx_flow.store import timers
from canx_flow.testing import advance, run_until_idle

from ..elsewhere import elsewhere
from ..store.locking import open_transaction
from ..waiting import wait_until
from .shared import undone, work

pytestmark = pytest.mark.django_db(transaction=True)

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUIET, CAP = timedelta(seconds=30), timedelta(minutes=5)
quiet = work.using(singleton="sync:7", debounce=QUIET, debounce_max=CAP)


def result(run_id: UUID) -> Any:
    """What the run has returned."""
    return work.status(run_id).result


def test_c115_many_starts_are_one_run_with_the_last_arguments() -> None:
    """It starts once nobody has started it for the time of quiet."""
    first = quiet.start(1)
    assert work.status(first).state == "sleeping"
    for number in range(2, 6):
        advance(20)
        assert work.status(first).state == "sleeping"
        assert quiet.start(number) == first
    advance(29)
    assert work.status(first).state == "sleeping"
    advance(1)
    assert result(first) == 5
    assert WorkflowRun.objects.count() == 1


def test_c115_it_starts_no_later_than_the_cap_of_the_first_call() -> None:
    """However often it is started; the cap is the first call's, whatever later ones say."""
    with freeze_time(START, tick=False):
        first = quiet.start(0)
        for number in range(1, 15):
            advance(20)
            assert work.using(singleton="sync:7", debounce=QUIET, debounce_max=CAP * 9).start(number) == first
        assert work.status(first).resume_at == START + CAP
        advance(20)
        assert work.status(first).state == "completed"
        assert result(first) == 14
        assert work.status(first).started_at == START + CAP


def test_without_a_cap_each_start_moves_it() -> None:
    """For as long as they go on."""
    uncapped = work.using(singleton="sync:7", debounce=QUIET)
    first = uncapped.start(0)
    for number in range(1, 30):
        advance(29)
        assert uncapped.start(number) == first
    advance(30)
    assert result(first) == 29


def test_after_its_end_the_next_start_begins_anew() -> None:
    """With a cap of its own."""
    first = quiet.start(1)
    advance(30)
    second = quiet.start(2)
    assert second != first
    advance(30)
    assert (result(first), result(second)) == (1, 2)


def test_once_it_runs_the_conflict_policy_decides() -> None:
    """A run that has started keeps its arguments: the start gets it, is rejected, or cancels it and is debounced."""
    first = quiet.start("wait")
    advance(30)
    assert work.status(first).state == "waiting"
    assert quiet.start(2) == first
    with pytest.raises(AlreadyStarted):
        quiet.using(on_conflict="reject").start(2)
    second = quiet.using(on_conflict="cancel_other").start(2)
    assert work.status(first).state == "cancelled"
    assert quiet.using(on_conflict="cancel_other").start(3) == second
    advance(30)
    assert result(second) == 3


def test_a_plain_start_does_not_move_a_debounced_run() -> None:
    """Nor does a debounced start move a run that is not debounced: the conflict policy decides."""
    first = quiet.start(1)
    assert work.using(singleton="sync:7").start(2) == first
    plain = work.using(singleton="other", delay=60).start(1)
    assert work.using(singleton="other", debounce=10).start(2) == plain
    advance(60)
    assert (result(first), result(plain)) == (1, 1)


def test_a_run_that_is_due_and_not_claimed_is_moved_too() -> None:
    """As long as no worker has it, it has not started."""
    first = quiet.start(1)
    Timer.objects.update(due_at=clock.now() - timedelta(seconds=1))
    timers.fire("default")
    assert work.status(first).state == "pending"
    assert quiet.start(2) == first
    assert work.status(first).state == "sleeping"
    advance(30)
    assert result(first) == 2


@pytest.mark.parametrize("fired", [True, False], ids=["due", "not due"])
def test_a_paused_run_is_given_the_arguments_and_stays_paused(fired: bool) -> None:
    """And starts with them when it goes on."""
    first = quiet.start(1)
    if fired:
        WorkflowRun.objects.update(state="pending", ready=True)
        Timer.objects.all().delete()
    work.pause(first)
    assert quiet.start(2) == first
    advance(3600)
    assert work.status(first).state == "paused"
    work.resume(first)
    run_until_idle()
    assert result(first) == 2


def test_a_paused_run_that_was_due_is_put_off_too() -> None:
    """Resumed at once, it starts after the time of quiet all the same."""
    first = quiet.start(1)
    Timer.objects.update(due_at=clock.now() - timedelta(seconds=1))
    timers.fire("default")
    work.pause(first)
    assert quiet.start(2) == first
    work.resume(first)
    assert work.status(first).state == "sleeping"
    advance(29)
    assert work.status(first).state == "sleeping"
    advance(1)
    assert result(first) == 2


@pytest.mark.parametrize("known", ["before its moment", "after its moment", "after its cap"])
def test_a_run_that_was_parked_before_it_began_keeps_the_moment_of_its_last_start(known: str) -> None:
    """Whenever a worker begins to know its workflow: it begins then, and not before, and expires as that start says."""
    debounced = work.using(singleton="sync:7", debounce=QUIET, debounce_max=CAP, expires=2 * CAP)
    registry.forget("policies.work")
    try:
        first = debounced.start(1)
        advance(40)
        assert work.status(first).state == "parked"
        if known == "after its cap":
            advance(300)
        moved_at = clock.now()
        assert debounced.start(2) == first
        if known == "after its moment":
            advance(40)
        if known != "before its moment":
            assert work.status(first).state == "parked"
        else:
            assert (work.status(first).state, work.status(first).reason) == ("sleeping", "")
            assert Timer.objects.get(kind=Kind.EXPIRE).held is False
    finally:
        registry.add(work)
    if known == "before its moment":
        advance(29)
        assert work.status(first).state == "sleeping"
        advance(1)
    run_until_idle()
    assert result(first) == 2
    started_at = work.status(first).started_at
    assert started_at is not None
    assert (started_at - moved_at >= QUIET) is (known != "after its cap")


def test_the_end_that_lets_it_go_forgets_no_start_that_moves_it(tier: str) -> None:
    """A start that is not committed yet moves a run that waits for another one's end, which comes at this moment."""
    if tier == "sqlite":
        pytest.skip("one transaction at a time writes")
    replace = undone.using(singleton="u", on_conflict="cancel_other")
    other = replace.start("a")
    run_until_idle()
    waiting = replace.using(debounce=30).start("b")
    assert undone.status(other).state == "stopping"

    def move() -> None:
        assert replace.using(debounce=3600).start("c") == waiting

    with open_transaction(move):
        assert elsewhere(lambda: undone.cancel(other, undo=False)).result(30)
        assert undone.status(other).state == "cancelled"
        timers.fire("default")
        assert Timer.objects.get(run_id=waiting, kind=Kind.START).event is not None
    timers.fire("default")
    timer = Timer.objects.get(run_id=waiting)
    assert timer.event is None
    assert timer.due_at is not None
    assert timer.due_at > clock.now() + timedelta(minutes=50)


def test_a_start_in_a_transaction_locks_the_run_until_its_end(tier: str) -> None:
    """Rolled back, it has changed nothing; meanwhile nobody claims the run with the old arguments."""
    first = quiet.start(1)
    with transaction.atomic():
        quiet.start(2)
        transaction.set_rollback(True)
    advance(30)
    assert result(first) == 1
    second = quiet.start(1)
    Timer.objects.update(due_at=clock.now() - timedelta(seconds=1))
    with transaction.atomic():
        quiet.start(2)
        if tier != "sqlite":
            assert elsewhere(run_until_idle).result(30) == 0
    assert work.status(second).state == "sleeping"
    advance(30)
    assert result(second) == 2


def test_a_claim_at_the_same_moment_wins_or_loses_cleanly() -> None:
    """Whatever comes first: no arguments are lost that were stored before the claim, and no run is changed after it."""
    for turn in range(6):
        begun = quiet.start(("first", turn))
        Timer.objects.filter(run_id=begun).update(due_at=clock.now() + timedelta(milliseconds=15 * turn))
        calls = [elsewhere(partial(quiet.start, ("second", turn))), elsewhere(run_until_idle)]
        started = calls[0].result(60)
        calls[1].result(60)
        advance(30)
        if started != begun:  # The first had ended by then.
            assert result(started) == ("second", turn)
        assert result(begun) in (("first", turn), ("second", turn))
        assert not RunSingleton.objects.exists()


def test_a_thousand_starts_at_once_are_one_run_with_the_last_arguments() -> None:
    """In eight threads; the last of all that were committed is what it runs with."""
    order: list[tuple[int, int]] = []
    mutex = threading.Lock()

    def many(thread: int) -> set[UUID]:
        ids = set()
        for number in range(124):
            ids.add(quiet.start((thread, number)))
        with mutex:
            order.append((thread, number))
        return ids

    calls = [elsewhere(lambda thread=thread: many(thread)) for thread in range(8)]
    ids = set().union(*(call.result(300) for call in calls))
    last = [quiet.start(("last", number)) for number in range(8)]
    assert ids == set(last) == {WorkflowRun.objects.get().id}
    assert len(order) == 8
    advance(30)
    assert result(last[0]) == ("last", 7)


def test_a_real_worker_runs_it_once(worker: Any) -> None:
    """A start that moves it to an earlier moment is told to workers."""
    from .shared import step

    soon = step.using(singleton="a", debounce=30)
    first = soon.start("early")
    worker.start()
    assert soon.using(debounce=0.3).start("late") == first
    wait_until(lambda: step.status(first).state == "completed", message="it was not started")
    assert step.status(first).result == "late"


def test_its_timer_is_one_row() -> None:
    """However often it is moved."""
    for number in range(5):
        quiet.start(number)
    assert list(Timer.objects.values_list("kind", flat=True)) == [Kind.START]


def test_start_many_debounces_to_the_last() -> None:
    """One run, with the arguments of the last tuple."""
    ids = quiet.start_many([(1,), (2,), (3,)])
    assert len(set(ids)) == 1
    advance(30)
    assert result(ids[0]) == 3


def test_why_says_until_when_it_waits() -> None:
    """And for which name."""
    assert "unless another start of singleton sync:7 moves it" in work.status(quiet.start(1)).why
