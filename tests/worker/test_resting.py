"""A chore that fails again and again keeps no worker from claiming."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, ProgrammingError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from canx_flow import conf
from canx_flow.core.clock import now
from canx_flow.models import Event, Worker, WorkflowRun
from canx_flow.states import PARKED
from canx_flow.store import timers
from canx_flow.worker.agenda import NEVER
from canx_flow.worker.life import Life
from canx_flow.worker.resting import REST, Resting
from canx_flow.worker.slots import Slots
from canx_flow.worker.turn import Turn
from tests.store.locking import open_transaction
from tests.worker.lives import StandingClock, asleep
from tests.workflows import two_steps

pytestmark = pytest.mark.django_db(transaction=True)

REFUSED = ProgrammingError("permission denied")


class _DeadlockError(Exception):
    sqlstate = "40P01"


def _deadlock() -> OperationalError:
    error = OperationalError("deadlock detected")
    error.__cause__ = _DeadlockError()
    return error


@pytest.fixture(autouse=True)
def claimed(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The workflows of the runs that were claimed."""
    found: list[str] = []
    monkeypatch.setattr(slots, "start", lambda run: found.append(run.workflow))
    return found


def _refuse(*_: object, **__: object) -> int:
    raise REFUSED


def _fail_a_turn(life: Life) -> None:
    with pytest.raises(DatabaseError) as failed:
        life.parts.turn.take(())
    life._survive(failed.value)


def _give_up_soon(connection: BaseDatabaseWrapper) -> None:
    with connection.cursor() as cursor:
        word = "statement_timeout = 200" if connection.vendor == "postgresql" else "innodb_lock_wait_timeout = 1"
        cursor.execute(f"SET SESSION {word}")


def test_an_old_broadcast_that_is_locked_keeps_nobody_from_claiming(
    life: Life, turn: Turn, clock: StandingClock, claimed: list[str], tier: str
) -> None:
    """Somebody's transaction may have it for hours: the worker tries to delete it once in ten minutes."""
    if tier == "sqlite":
        pytest.skip("there is one lock for all")
    old = now() - timedelta(days=conf.get().event_days + 1)
    Event.objects.create(name="old", delivered=True, created_at=old)
    WorkflowRun.objects.create(workflow=two_steps.name)
    turn._agenda.tidies_at = clock.now
    with open_transaction(lambda: list(Event.objects.select_for_update())):
        _give_up_soon(connections["default"])
        _fail_a_turn(life)
        assert claimed == []
        turn.take(())
        assert claimed == [two_steps.name]
        assert turn._agenda.tidies_at == NEVER


CHORES: dict[str, tuple[str, Callable[[], object]]] = {
    "announce_parked": ("recover.announce_parked", lambda: None),
    "declare_dead": ("declare_dead.run_once", lambda: None),
    "disown": ("disown.run_once", lambda: None),
    "recover": ("recover.run_once", lambda: WorkflowRun.objects.create(state="running", ready=False, owner=_gone())),
    "sweep": ("deliver.sweep", lambda: None),
    "park": ("park.run_once", lambda: WorkflowRun.objects.create(workflow="w", state=PARKED, ready=False)),
    "tidy": ("tidy.run_once", lambda: None),
    "make_room": ("make_room.run_once", lambda: None),
}


def _gone() -> Worker:
    return Worker.objects.create(state="dead")


@pytest.mark.parametrize("chore", CHORES)
def test_a_part_of_a_poll_that_fails_rests(
    life: Life, turn: Turn, clock: StandingClock, claimed: list[str], monkeypatch: pytest.MonkeyPatch, chore: str
) -> None:
    """The next polls do without it; half a minute later it is tried again."""
    path, prepare = CHORES[chore]
    name, _, method = path.partition(".")
    cls = type(getattr(turn._chores, name))
    calls: list[object] = []
    real = getattr(cls, method)

    def refuse(*arguments: Any, **keywords: Any) -> int:
        calls.append(arguments)
        raise REFUSED

    refuse.__qualname__ = real.__qualname__
    monkeypatch.setattr(cls, method, refuse)
    prepare()
    WorkflowRun.objects.create(workflow=two_steps.name)
    clock.now += 10
    _fail_a_turn(life)
    assert (len(calls), claimed) == (1, [])
    clock.now += REST - 1
    turn._agenda.poll.at_once()
    turn.take(())
    assert (len(calls), claimed) == (1, [two_steps.name])
    clock.now += 1
    turn._agenda.poll.at_once()
    _fail_a_turn(life)
    assert len(calls) == 2


def test_a_worker_whose_parked_runs_cannot_be_read_does_not_poll_without_a_pause(
    life: Life, turn: Turn, clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its first round through them is not over."""
    WorkflowRun.objects.create(workflow="w", state=PARKED, ready=False)
    monkeypatch.setattr(turn._chores.park._unparking, "some", _refuse)
    clock.now += 10
    _fail_a_turn(life)
    turn.take(())
    assert turn.take(()) == 10.0


def test_timers_that_cannot_be_fired_keep_nobody_from_claiming(
    life: Life, turn: Turn, clock: StandingClock, claimed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are due all the time, and the worker pauses all the same."""
    asleep(0)
    WorkflowRun.objects.create(workflow=two_steps.name)
    with monkeypatch.context() as patch:
        patch.setattr(timers, "fire", _refuse)
        clock.now += 10
        _fail_a_turn(life)
        turn.take(())
        assert claimed == [two_steps.name]
        assert turn.take(()) == 10.0
    clock.now += REST
    turn.take(())
    assert WorkflowRun.objects.filter(workflow="nobody.knows", ready=True).exists()


def test_events_of_single_runs_that_cannot_be_delivered_keep_nobody_from_claiming(
    life: Life, turn: Turn, clock: StandingClock, claimed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each poll finds them, and leaves them alone for a while; the worker pauses all the same."""
    monkeypatch.setattr("canx_flow.store.events.deliver_directed", _refuse)
    run = WorkflowRun.objects.create(workflow=two_steps.name)
    Event.objects.create(run_id=run.id, name="news")
    clock.now += 10
    _fail_a_turn(life)
    turn.take(())
    assert claimed == [two_steps.name]
    assert turn.take(()) == 10.0


@pytest.mark.parametrize(
    "error", [_deadlock(), OperationalError("server closed the connection")], ids=["deadlock", "away"]
)
def test_what_the_next_turn_mends_rests_not(clock: StandingClock, error: Exception) -> None:
    """A deadlock, and a database that was away: a chore is done at once then."""
    resting = Resting(clock)
    outcomes = iter([error, 7])

    def chore() -> int:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    with pytest.raises(OperationalError):
        resting.attempt(chore)
    assert resting.attempt(chore) == 7
