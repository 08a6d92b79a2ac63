"""What a worker leaves to others: whom it tells, and when it does not."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from uuid import uuid4

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from canx_flow.models import Worker, WorkflowRun
from canx_flow.store import telling
from canx_flow.store.telling import Message, Needs
from canx_flow.worker.capacity import Bounds
from canx_flow.worker.exitcodes import CLEAN
from canx_flow.worker.life import Life
from canx_flow.worker.slots import Slots
from canx_flow.worker.turn import Turn
from canx_flow.worker.wakeup import Listener
from tests.worker.lives import StandingClock, asleep
from tests.workflows import two_steps

pytestmark = pytest.mark.django_db(transaction=True)

WORK = Message("work", Needs("default", two_steps.name, two_steps.version))


@pytest.fixture
def other(life: Life) -> Iterator[Listener]:
    """The listener of another worker of this host, which serves another queue, too."""
    listener = Listener(uuid4().hex)
    known = json.dumps([(two_steps.name, two_steps.version), ("of.another", "")])
    Worker.objects.create(host=socket.gethostname(), socket=listener.address, workflows=known)
    telling.forget()
    yield listener
    listener.close()
    telling.forget()


def told(other: Listener) -> list[Message]:
    """What the other worker was told since this was asked last."""
    return telling.heard(other.wait(0))


def ready(number: int, workflow: str = two_steps.name) -> None:
    """So many runs that are ready."""
    for _ in range(number):
        WorkflowRun.objects.create(workflow=workflow)


@pytest.fixture(autouse=True)
def _runs_stay_in_flight(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_run: object) -> None:
        slots.in_flight += 1

    monkeypatch.setattr(slots, "start", start)


def test_a_worker_with_room_tells_nobody(turn: Turn, other: Listener) -> None:
    """It takes what it was told of; there is nothing left."""
    ready(1)
    turn.take([WORK.text()])
    assert told(other) == []


def test_a_full_worker_passes_on_what_it_is_told(turn: Turn, slots: Slots, other: Listener) -> None:
    """As it heard it, with one hop less."""
    slots.in_flight = 3
    turn._agenda.runs_may_be_ready = True
    turn.take([WORK.text()])
    assert told(other) == [Message("work", WORK.needs, WORK.hops - 1)]


def test_a_full_worker_asks_the_database_nothing(
    turn: Turn, slots: Slots, other: Listener, clock: StandingClock
) -> None:
    """To be told costs it no statement, once it knows its neighbours and where those are on its own host."""
    slots.in_flight = 3
    turn.take([WORK.text()])
    told(other)
    clock.now += 1
    with CaptureQueriesContext(connections["default"]) as queries:
        turn.take([WORK.text()])
    assert len(told(other)) == 1
    assert queries.captured_queries == []


def test_what_was_passed_on_often_enough_ends_there(turn: Turn, slots: Slots, other: Listener) -> None:
    """Where all are full, no message goes round for ever."""
    slots.in_flight = 3
    turn.take([Message("work", WORK.needs, 0).text()])
    assert told(other) == []


def test_a_claim_that_leaves_more_tells_another(turn: Turn, other: Listener, clock: StandingClock) -> None:
    """Once, when it is full: who has told of a backlog does not do so again at each claim."""
    ready(6)
    turn.take([WORK.text()])
    assert [message.reason for message in told(other)] == ["work"]
    clock.now += 1
    turn.take(["free"])
    assert told(other) == []


def test_full_workers_do_not_tell_one_another_all_the_time(
    turn: Turn, slots: Slots, other: Listener, clock: StandingClock
) -> None:
    """Once in a while is enough for those that have become free meanwhile."""
    slots.in_flight = 3
    for _ in range(10):
        turn.take([WORK.text()])
    assert len(told(other)) == 1
    clock.now += 0.06
    turn.take([WORK.text()])
    assert len(told(other)) == 1


def test_what_is_heard_too_soon_after_the_last_time_is_passed_on_a_moment_later(
    turn: Turn, slots: Slots, other: Listener, clock: StandingClock
) -> None:
    """It is about another run, which another worker could take; the worker pauses no longer than that."""
    slots.in_flight = 3
    turn.take([WORK.text()])
    told(other)
    clock.now += 0.02
    others = Needs("default", "of.another", "")
    assert turn.take([Message("work", others).text()]) == pytest.approx(0.03)
    assert told(other) == []
    clock.now += 0.03
    assert turn.take([]) == pytest.approx(10.0, abs=0.1)
    assert told(other) == [Message("work", others, 1)]


def test_that_more_is_left_is_told_though_something_else_was_just_told(
    turn: Turn, slots: Slots, other: Listener, clock: StandingClock
) -> None:
    """Once it is full it would not tell of it again."""
    asleep(0, "of.another")
    turn._ask()
    turn.take([])
    assert len(told(other)) == 1
    ready(6)
    clock.now += 0.02
    turn.take(["free"])
    assert slots.in_flight > 1
    assert told(other) == []
    clock.now += 0.03
    turn.take([])
    assert told(other) == [Message()]


def test_who_passes_something_on_also_tells_of_what_it_has_woken(
    turn: Turn, slots: Slots, other: Listener, clock: StandingClock
) -> None:
    """Those are other runs, of another queue, say."""
    slots.in_flight = 3
    asleep(0, "of.another")
    turn._ask()
    turn.take([WORK.text()])
    assert set(told(other)) == {Message(), Message("work", WORK.needs, 1)}


def test_runs_of_others_that_it_wakes_are_told_of(turn: Turn, other: Listener) -> None:
    """A timer fires in any worker: those that know its run are told."""
    asleep(0, "of.another")
    turn._ask()
    turn.take([])
    assert [message.reason for message in told(other)] == ["work"]


def test_what_it_wakes_for_itself_is_told_to_nobody(turn: Turn, other: Listener) -> None:
    """It claims in the same turn."""
    asleep(0, two_steps.name)
    turn._ask()
    turn.take([])
    assert told(other) == []


def test_who_may_claim_no_more_passes_on(turn: Turn, other: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --max-runs: its last run may take hours."""
    spent = Bounds(burst=False, max_runs=0)
    monkeypatch.setattr(turn._capacity, "_bounds", spent)
    turn.take([WORK.text()])
    assert len(told(other)) == 1


@pytest.mark.parametrize("reason", ["work", "timer", "event"])
def test_a_worker_that_leaves_passes_on(turn: Turn, other: Listener, reason: str) -> None:
    """Whatever it is: it does nothing of it any more."""
    turn.pass_on([Message(reason).text(), "free"])
    assert [message.reason for message in told(other)] == [reason]


def test_a_worker_that_leaves_passes_on_what_it_hears_at_the_last_moment(life: Life, other: Listener) -> None:
    """What has ended its last pause, and what comes while its steps end."""
    life.parts.slots.in_flight = 0
    life.parts.turn.pass_on([Message("timer").text()])
    assert [message.reason for message in told(other)] == ["timer"]
    life._listener.wake(Message("broadcast").text())
    assert life._hand_back([Message("event").text()]) == CLEAN
    assert {message.reason for message in told(other)} == {"event", "broadcast"}
