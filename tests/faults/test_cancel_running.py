"""Cancel, pause and deadlines that meet a step in flight in a real worker."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from django.db import connections, transaction

from canx_flow import RunCancelled, RunFailed
from canx_flow.models import Event, StepRecord, Timer, Worker, WorkflowRun
from canx_flow.states import WorkerState

from .. import workflows
from ..processes import WorkerProcess, Workers
from ..waiting import wait_until

KINDS = [workflows.held, workflows.aheld, workflows.aheld_thread]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=["sync", "async", "thread"])


def _in_flight(workers: Workers, effects: ModuleType, kind: Any, **options: Any) -> tuple[WorkerProcess, UUID]:
    """A worker in the middle of the step "held" of a run labelled "x"."""
    run = kind.using(**options).start("x")
    worker = workers.start()
    wait_until(lambda: effects.count("at x"))
    return worker, run


def _counts(effects: ModuleType, label: str = "x") -> list[int]:
    return [effects.count(f"{label} {step}") for step in ("before", "held", "after")]


def _is_stored(run: UUID) -> bool:
    return StepRecord.objects.filter(run_id=run, name="held", state="completed").exists()


def _stays(run: UUID, state: str, worker: WorkerProcess) -> None:
    """The run is still in this state after the worker has had several turns, and the worker has let go of it."""
    row = Worker.objects.get(pid=worker.pid)
    # Beats and polls alternate: after so many beats it has looked several times.
    wait_until(lambda: Worker.objects.get(id=row.id).beat > row.beat + 3)
    run_row = WorkflowRun.objects.get(id=run)
    assert (run_row.state, run_row.owner_id, run_row.ready) == (state, None, False)


@each_kind
def test_c081_the_step_in_flight_may_finish_and_is_stored(workers: Workers, effects: ModuleType, kind: Any) -> None:
    """C081, C083: nothing after it starts, and cancelling again says the same."""
    _worker, run = _in_flight(workers, effects, kind)
    assert kind.cancel(run, "enough") is True
    assert kind.status(run).state == "stopping"
    assert kind.cancel(run) is True
    effects.release("x")
    with pytest.raises(RunCancelled, match="enough"):
        kind.result(run, timeout=20)
    assert _is_stored(run)
    assert _counts(effects) == [1, 1, 0]
    assert kind.cancel(run) is True


def test_c081_a_cancelled_run_whose_worker_is_killed_ends_elsewhere(workers: Workers, effects: ModuleType) -> None:
    """C081 over a crash: the step in flight is lost, is not called again, and the run ends cancelled."""
    worker, run = _in_flight(workers, effects, workflows.held)
    assert workflows.held.cancel(run)
    worker.kill()
    workers.start()
    with pytest.raises(RunCancelled):
        workflows.held.result(run, timeout=20)
    assert _counts(effects) == [1, 1, 0]


@each_kind
def test_c088_a_paused_run_keeps_the_result_of_its_step_in_flight(
    workers: Workers, effects: ModuleType, kind: Any
) -> None:
    """C087, C088: it is stored, the run stays paused and no further step starts; resume goes on after it."""
    worker, run = _in_flight(workers, effects, kind)
    assert kind.pause(run) is True
    assert kind.status(run).state == "paused"
    effects.release("x")
    wait_until(lambda: _is_stored(run) and WorkflowRun.objects.get(id=run).owner_id is None)
    _stays(run, "paused", worker)
    assert _counts(effects) == [1, 1, 0]
    assert kind.resume(run) is True
    assert kind.result(run, timeout=20) == "x"
    assert _counts(effects) == [1, 1, 1]


@each_kind
def test_c088_a_run_resumed_before_its_step_has_ended_just_goes_on(
    workers: Workers, effects: ModuleType, kind: Any
) -> None:
    """C088: paused and resumed while the step is in flight, it never changes hands."""
    _worker, run = _in_flight(workers, effects, kind)
    assert kind.pause(run)
    assert kind.resume(run)
    assert kind.status(run).state == "running"
    effects.release("x")
    assert kind.result(run, timeout=20) == "x"
    assert _counts(effects) == [1, 1, 1]
    assert WorkflowRun.objects.get(id=run).epoch == 1


def test_c087_a_pause_survives_the_worker(workers: Workers, effects: ModuleType) -> None:
    """C087: killed in the step in flight, its run stays paused; after resume the step is called again."""
    first, run = _in_flight(workers, effects, workflows.held)
    assert workflows.held.pause(run)
    first.kill()
    effects.release("x")
    second = workers.start()
    wait_until(lambda: WorkflowRun.objects.get(id=run).owner_id is None)
    _stays(run, "paused", second)
    assert _counts(effects) == [1, 1, 0]
    assert workflows.held.resume(run)
    assert workflows.held.result(run, timeout=20) == "x"
    assert _counts(effects) == [1, 2, 1]


@each_kind
def test_c131_a_deadline_lets_the_step_in_flight_finish(workers: Workers, effects: ModuleType, kind: Any) -> None:
    """C131: the run is stopping from its deadline on, the step is stored, and it fails with RunTimedOut."""
    _worker, run = _in_flight(workers, effects, kind, timeout=0.7)
    wait_until(lambda: kind.status(run).state == "stopping")
    effects.release("x")
    with pytest.raises(RunFailed, match="RunTimedOut"):
        kind.result(run, timeout=20)
    assert _is_stored(run)
    assert _counts(effects) == [1, 1, 0]
    assert not Timer.objects.filter(run_id=run).exists()


@pytest.mark.parametrize("verb", ["cancel", "pause"])
def test_p13_a_view_that_stays_in_its_transaction_delays_no_other_run(
    short_lease: None, workers: Workers, effects: ModuleType, tier: str, verb: str
) -> None:
    """P13: while one run's row is locked by an open transaction, all others step, sleep, start and complete."""
    if tier == "sqlite":
        pytest.skip("an open write transaction stops all writers of a SQLite file")
    others = {label: workflows.held.start(label) for label in ("a", "b", "c", "d")}
    nap = workflows.naps.start("n", 1)
    _worker, run = _in_flight(workers, effects, workflows.held)
    wait_until(lambda: all(effects.count(f"at {label}") for label in others))
    beat = Worker.objects.get().beat
    with transaction.atomic():
        assert getattr(workflows.held, verb)(run)
        for label in ("x", *others):
            effects.release(label)
        new = _elsewhere(lambda: workflows.two_steps.start("new"))
        everyone = [*others.values(), nap, new]
        _elsewhere(lambda: _wait_completed(everyone))
        # Twelve beats are two leases: nobody is missed meanwhile.
        _elsewhere(lambda: wait_until(lambda: Worker.objects.get().beat > beat + 12))
        assert not _elsewhere(lambda: _is_stored(run))
    wait_until(lambda: WorkflowRun.objects.get(id=run).owner_id is None)
    assert workflows.held.status(run).state == {"cancel": "cancelled", "pause": "paused"}[verb]
    assert _is_stored(run)
    assert _counts(effects) == [1, 1, 0]
    assert Worker.objects.get().state == WorkerState.ALIVE


def test_p13_suspended_runs_that_are_locked_when_they_are_due_delay_no_other(
    workers: Workers, effects: ModuleType, tier: str
) -> None:
    """P13: a sleeper that is due and a waiter whose event has come, both locked, hold up no timer and no claim."""
    if tier == "sqlite":
        pytest.skip("an open write transaction stops all writers of a SQLite file")
    locked = [workflows.naps.start("l", 1), workflows.waits.start("w")]
    nap = workflows.naps.start("n", 1)
    workers.start()
    wait_until(lambda: WorkflowRun.objects.filter(state__in=("sleeping", "waiting")).count() == 3)
    with transaction.atomic():
        assert all([workflows.naps.cancel(locked[0]), workflows.waits.cancel(locked[1])])
        # As its sender leaves it who is killed right after his commit: for the workers to deliver.
        _elsewhere(lambda: Event.objects.create(run_id=locked[1], name="go"))
        new = _elsewhere(lambda: workflows.two_steps.start("new"))
        _elsewhere(lambda: _wait_completed([nap, new]))
        later = _elsewhere(lambda: workflows.two_steps.start("later"))
        _elsewhere(lambda: _wait_completed([later]))
    assert WorkflowRun.objects.filter(id__in=(nap, new, later), state="completed").count() == 3
    assert set(WorkflowRun.objects.filter(id__in=locked).values_list("state", flat=True)) == {"cancelled"}


def test_p13_what_waits_for_a_locked_row_keeps_its_order(workers: Workers, effects: ModuleType, tier: str) -> None:
    """A result, and the sleep that follows it, are handed in while the row is locked: the result is stored first."""
    if tier == "sqlite":
        pytest.skip("an open write transaction stops all writers of a SQLite file")
    runs = {label: workflows.held_then_sleeps.start(label) for label in "abcdefgh"}
    workers.start()
    wait_until(lambda: all(effects.count(f"at {label}") for label in runs))
    with transaction.atomic():
        assert len(WorkflowRun.objects.select_for_update().filter(id__in=runs.values())) == len(runs)
        for label in runs:
            effects.release(label)
        _elsewhere(lambda: _wait_completed([workflows.two_steps.start("meanwhile")]))
    wait_until(lambda: WorkflowRun.objects.filter(state="sleeping").count() == len(runs))
    assert StepRecord.objects.filter(run_id__in=runs.values(), name="held", state="completed").count() == len(runs)


def _wait_completed(runs: list[UUID]) -> None:
    wait_until(lambda: WorkflowRun.objects.filter(id__in=runs, state="completed").count() == len(runs), 10)


def _elsewhere(call: Any) -> Any:
    """What `call` returns in a thread with a connection of its own."""

    def in_thread() -> Any:
        try:
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(in_thread).result()
