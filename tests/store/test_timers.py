"""What firing does with the timers that are due: their records, their runs, and what is left for the next time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import OperationalError, connections

from canx_flow import states
from canx_flow.core.clock import now
from canx_flow.models import StepRecord, Timer, WorkflowRun
from canx_flow.states import Kind, RecordState
from canx_flow.store import children, timers
from canx_flow.store.db import engine
from canx_flow.worker.chores.fire import Fire

from .locking import locked_runs

pytestmark = pytest.mark.django_db

PAST = timedelta(seconds=1)
STATES = {Kind.SLEEP: states.SLEEPING, Kind.WAIT: states.WAITING, Kind.RETRY: states.RETRYING}


def _suspended(kind: str = Kind.SLEEP, *, due: timedelta = -PAST, held: bool = False, state: str = "") -> UUID:
    """A run that is suspended on a timer of this kind."""
    run = WorkflowRun.objects.create(workflow="w", state=state or STATES[kind], ready=False)
    step = Kind.STEP if kind == Kind.RETRY else kind
    StepRecord.objects.create(run=run, seq=1, name="it", kind=step, state=RecordState.OPEN, started_at=now())
    Timer.objects.create(run=run, step="it", kind=kind, due_at=now() + due, held=held)
    return run.id


def _stands(run_id: UUID) -> tuple[str, bool, str, int]:
    """The run's state and whether it is ready, its record's state, and how many timers it has."""
    run = WorkflowRun.objects.get(id=run_id)
    return run.state, run.ready, StepRecord.objects.get(run=run).state, Timer.objects.filter(run=run).count()


@pytest.mark.parametrize(
    ("kind", "record"),
    [(Kind.SLEEP, RecordState.COMPLETED), (Kind.WAIT, RecordState.DUE), (Kind.RETRY, RecordState.DUE)],
)
def test_a_due_timer_makes_its_run_ready(kind: str, record: str) -> None:
    """Its record says so, a sleep's for good, and the timer is gone."""
    run_id = _suspended(kind)
    fired = timers.fire("default")
    assert (fired.seen, fired.acted, fired.woken) == (1, 1, 1)
    assert _stands(run_id) == (states.PENDING, True, record, 0)
    finished_at = StepRecord.objects.get(run=run_id).finished_at
    assert (finished_at is not None) == (kind in (Kind.SLEEP, Kind.WAIT))


@pytest.mark.parametrize("given", [{"due": PAST}, {"held": True}])
def test_what_is_not_due_or_is_held_back_stays(given: dict[str, Any]) -> None:
    """Neither the timer nor its run is touched."""
    run_id = _suspended(**given)
    assert timers.fire("default").seen == 0
    assert _stands(run_id) == (states.SLEEPING, False, RecordState.OPEN, 1)


@pytest.mark.parametrize("state", [states.RUNNING, states.STOPPING])
def test_a_run_with_an_owner_is_told_by_its_record_alone(state: str) -> None:
    """The timer of a run that is not suspended is recorded as over, and its state stays its owner's."""
    run_id = _suspended(state=state)
    WorkflowRun.objects.filter(id=run_id).update(owner_id=uuid4())
    fired = timers.fire("default")
    assert (fired.acted, fired.woken) == (1, 0)
    assert _stands(run_id) == (state, False, RecordState.COMPLETED, 0)


def test_a_stopping_run_without_an_owner_is_ready_when_its_timer_is_due() -> None:
    """It waits for the next attempt of an undo: it stays stopping, and may be claimed."""
    run_id = _suspended(Kind.RETRY, state=states.STOPPING)
    fired = timers.fire("default")
    assert (fired.acted, fired.woken) == (1, 1)
    assert _stands(run_id) == (states.STOPPING, True, RecordState.DUE, 0)


def test_each_run_s_own_record_is_told() -> None:
    """Two runs wait under one name; one of them is due."""
    due, later = _suspended(), _suspended(due=PAST)
    timers.fire("default")
    assert _stands(due)[2] == RecordState.COMPLETED
    assert _stands(later)[2] == RecordState.OPEN


def test_a_deadline_ends_a_run_whose_sleep_is_over_as_well() -> None:
    """Both are due: the run has failed, and keeps its sleep for a retry."""
    run_id = _suspended()
    Timer.objects.create(run_id=run_id, kind=Kind.DEADLINE, due_at=now() - PAST)
    fired = timers.fire("default")
    assert fired.timed_out == [run_id]
    assert _stands(run_id) == (states.FAILED, False, RecordState.OPEN, 1)
    assert Timer.objects.get(run_id=run_id).held
    assert timers.fire("default").seen == 0


def test_timers_of_a_deleted_run_are_forgotten() -> None:
    """They would be due for ever."""
    Timer.objects.create(run_id=uuid4(), step="it", kind=Kind.SLEEP, due_at=now() - PAST)
    fired = timers.fire("default")
    assert (fired.seen, fired.acted) == (1, 0)
    assert not Timer.objects.exists()


def test_a_deadline_is_not_over_before_the_rest_of_its_batch_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever fires it hears of the run that has failed, or else it has not failed."""
    run_id = _suspended()
    Timer.objects.create(run_id=run_id, kind=Kind.DEADLINE, due_at=now() - PAST)
    Timer.objects.create(run_id=uuid4(), step="of a deleted run", kind=Kind.SLEEP, due_at=now() - PAST)

    def broken(*_arguments: object) -> None:
        raise OperationalError("the server has gone away")

    with monkeypatch.context() as breaking:
        breaking.setattr(timers, "_forget_orphans", broken)
        with pytest.raises(OperationalError):
            timers.fire("default")
    assert WorkflowRun.objects.get(id=run_id).state == states.SLEEPING
    assert timers.fire("default").timed_out == [run_id]


def test_more_than_a_batch_is_fired_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn leaves nothing due behind that was due when it began."""
    monkeypatch.setattr(timers, "MOST", 2)
    runs = [_suspended() for _ in range(5)]
    fired = Fire("default").run_once(0.0)
    assert (fired.seen, fired.acted, fired.woken) == (5, 5, 5)
    assert {_stands(run_id)[0] for run_id in runs} == {states.PENDING}


def test_what_falls_due_meanwhile_waits_for_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that went on for as long as timers become due would leave its ready runs waiting."""
    fire = timers.fire

    def and_another_falls_due(*arguments: Any) -> timers.Fired:
        fired = fire(*arguments)
        _suspended()
        return fired

    monkeypatch.setattr(timers, "fire", and_another_falls_due)
    _suspended()
    assert Fire("default").run_once(0.0).acted == 1


@pytest.mark.django_db(transaction=True)
def test_firing_does_not_wait_for_a_locked_run(tier: str) -> None:
    """P13: a run that somebody's open transaction has locked keeps its timer for the next time; others wake."""
    if not connections["default"].features.has_select_for_update_skip_locked:
        pytest.skip(f"{tier} skips no locks")
    locked, free = _suspended(), _suspended()
    view = engine.open_connection("default")
    try:
        with engine.transaction(view), view.cursor() as cursor:
            key = WorkflowRun._meta.pk.get_db_prep_value(locked, view)
            cursor.execute(f"SELECT id FROM {WorkflowRun._meta.db_table} WHERE id = %s FOR UPDATE", [key])
            fired = timers.fire("default")
            assert (fired.seen, fired.acted) == (2, 1)
            assert _stands(locked)[0] == states.SLEEPING
            assert _stands(free)[0] == states.PENDING
    finally:
        engine.reset(view)
    assert timers.fire("default").woken == 1


def test_a_deadline_is_acted_on_though_another_timer_of_its_run_came_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not thrown away with the others of its run when a batch ends between them."""
    monkeypatch.setattr(timers, "MOST", 1)
    run_id = _suspended(Kind.WAIT, due=-2 * PAST, state=states.RUNNING)
    Timer.objects.create(run_id=run_id, kind=Kind.DEADLINE, due_at=now() - PAST)
    for _ in range(3):
        timers.fire("default")
    assert _stands(run_id)[0] == states.STOPPING


@pytest.mark.django_db(transaction=True)
def test_timers_fire_behind_as_many_locked_ones_as_a_batch_takes(tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that holds the runs of the oldest timers holds up nobody else's."""
    if tier == "sqlite":
        pytest.skip("there is one lock for all")
    monkeypatch.setattr(timers, "MOST", 3)
    behind = [_suspended(due=-PAST * (10 - number)) for number in range(4)]
    with locked_runs(behind[:3]):
        assert timers.fire("default").woken == 1
        assert _stands(behind[3])[0] == states.PENDING
    assert timers.fire("default").woken == 3


@contextmanager
def _before_timers_are_deleted(happens: Callable[[], object]) -> Iterator[None]:
    """Have this happen where another worker could do it: firing has read what it deletes."""
    pending = [happens]

    def deletes(execute: Any, sql: str, *rest: Any) -> Any:
        if "DELETE" in sql and "canx_flow_timer" in sql and pending:
            pending.pop()()
        return execute(sql, *rest)

    with connections["default"].execute_wrapper(deletes):
        yield
    assert pending == []


def test_a_timer_that_falls_due_while_others_fire_is_not_lost(tier: str) -> None:
    """Whoever gives back a place of a limit, or ends an outage's pause, has no lock on the run: it fires, or stays."""
    if tier == "postgresql":
        pytest.skip("there it is one statement")
    run_id = _suspended()
    StepRecord.objects.create(
        run_id=run_id, seq=2, name="limited", kind=Kind.STEP, state=RecordState.OPEN, started_at=now()
    )
    waits = Timer.objects.create(run_id=run_id, step="limited", kind=Kind.LIMIT, due_at=now() + PAST)
    with _before_timers_are_deleted(lambda: Timer.objects.filter(id=waits.id).update(due_at=now() - 2 * PAST)):
        assert timers.fire("default").woken == 1
    is_open = StepRecord.objects.get(run=run_id, name="limited").state == RecordState.OPEN
    assert Timer.objects.filter(id=waits.id).exists() is is_open
    timers.fire("default")
    assert StepRecord.objects.get(run=run_id, name="limited").state == RecordState.DUE


def test_a_child_that_is_to_be_cancelled_while_its_own_timer_fires_is_cancelled() -> None:
    """Its parent asks for that without a lock on it: at the latest the next turn does it."""
    run_id = _suspended(due=PAST)
    WorkflowRun.objects.filter(id=run_id).update(started_at=now())
    Timer.objects.create(run_id=run_id, kind=Kind.EXPIRE, due_at=now() - PAST)

    def asked_before() -> None:  # And committed only now.
        children.stop("default", [run_id])
        Timer.objects.filter(kind=Kind.CANCEL).update(due_at=now() - PAST)

    with _before_timers_are_deleted(asked_before):
        timers.fire("default")
    timers.fire("default")
    assert _stands(run_id)[0] == states.CANCELLED


@pytest.mark.parametrize(("later", "held"), [(True, False), (False, False), (True, True)])
def test_firing_tells_when_the_next_timer_is_due(later: bool, held: bool) -> None:
    """That of what is not due yet, unless it is held back; there may be none."""
    _suspended()
    if later:
        _suspended(due=2 * PAST)
        _suspended(due=PAST, held=held)
    fired = timers.fire("default")
    dues = Timer.objects.filter(held=False).order_by("due_at").values_list("due_at", flat=True)
    assert fired.next_due == dues.first()
