"""A worker frozen past its lease and let go again: it has lost its runs, can write nothing of them, and begins anew."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from canx_flow import conf
from canx_flow.core import clock
from canx_flow.models import StepRecord, Worker
from canx_flow.states import WorkerState

from .. import workflows
from ..models import Effect
from ..processes import WorkerProcess, Workers
from ..waiting import wait_until

pytestmark = pytest.mark.usefixtures("short_lease")


def _taken_over(workers: Workers, effects: ModuleType, kind: Any, gate: str) -> tuple[WorkerProcess, Any]:
    """A run that was begun by a worker now frozen, and completed by another, which has left."""
    run = kind.start("x")
    frozen = workers.start()
    wait_until(lambda: effects.count(f"at {gate}"))
    frozen.stop()
    other = workers.start()
    wait_until(lambda: effects.count(f"at {gate}") == 2, message="nobody took the run over")
    effects.release(gate)
    assert kind.result(run, timeout=20) == "x"
    other.terminate()
    assert other.wait() == 0
    return frozen, run


def _assert_begins_anew(frozen: WorkerProcess) -> None:
    """Let go, it finds itself dead, registers as a new worker, and works."""
    frozen.wait_log("This worker was found dead")
    assert workflows.two_steps.result(workflows.two_steps.start("new"), timeout=20) == "new"
    lives = Worker.objects.filter(pid=frozen.pid).order_by("started_at")
    assert [life.state for life in lives] == [WorkerState.DEAD, WorkerState.ALIVE]
    assert "Traceback" not in frozen.log()


def _everything(run: Any) -> list[tuple[Any, ...]]:
    return sorted(StepRecord.objects.filter(run_id=run).values_list())


@pytest.mark.parametrize(
    ("kind", "gate"),
    [(workflows.held, "x"), (workflows.receipts, "encoding x")],
    ids=["in a step", "between a step's end and its commit"],
)
def test_c084_a_frozen_workers_write_is_refused(workers: Workers, effects: ModuleType, kind: Any, gate: str) -> None:
    """C031, C084: what it still stores is refused and in its log; it calls nothing more of that run."""
    frozen, run = _taken_over(workers, effects, kind, gate)
    stored, lines = _everything(run), effects.read()
    frozen.cont()
    frozen.wait_log(f"Write refused: run {run}")
    _assert_begins_anew(frozen)
    assert _everything(run) == stored
    assert [line for line in effects.read() if "new" not in line] == lines
    assert effects.count("x after") == 1


@pytest.mark.parametrize("kind", [workflows.aheld, workflows.aheld_thread], ids=["async", "thread"])
def test_c084_a_frozen_workers_async_step_is_cancelled_or_refused(
    workers: Workers, effects: ModuleType, kind: Any
) -> None:
    """C084: the tasks of a dead worker's event loop are cancelled, maybe before they have anything to store."""
    frozen, run = _taken_over(workers, effects, kind, "x")
    stored, lines = _everything(run), effects.read()
    frozen.cont()
    _assert_begins_anew(frozen)
    assert _everything(run) == stored
    assert [line for line in effects.read() if "new" not in line] == lines


def test_c084_a_frozen_workers_atomic_step_is_rolled_back(workers: Workers, effects: ModuleType, tier: str) -> None:
    """C084: its own writes go with its refused record: each row exists once."""
    if tier == "sqlite":
        pytest.skip("a transaction left open by a frozen process stops all writers of a SQLite file")
    frozen, run = _taken_over(workers, effects, workflows.atomic_held, "x")
    stored = _everything(run)
    frozen.cont()
    frozen.wait_log(f"Write refused: run {run}")
    _assert_begins_anew(frozen)
    assert _everything(run) == stored
    assert Effect.objects.filter(name="x").count() == 1


def test_a_frozen_worker_that_was_not_missed_goes_on(workers: Workers, effects: ModuleType) -> None:
    """Alone, nobody finds it dead: it keeps its lease however late it comes back, and its run."""
    run = workflows.held.start("x")
    frozen = workers.start()
    wait_until(lambda: effects.count("at x"))
    frozen.stop()
    (before,) = Worker.objects.all()
    wait_until(lambda: (workflows.held.status(run).state, _stood_still(before)) == ("running", True))
    effects.release("x")
    frozen.cont()
    assert workflows.held.result(run, timeout=20) == "x"
    assert [effects.count(f"x {step}") for step in ("before", "held", "after")] == [1, 1, 1]
    assert Worker.objects.get().state == WorkerState.ALIVE
    assert "refused" not in frozen.log()


def _stood_still(worker: Worker) -> bool:
    """Whether a lease has passed since its last beat, by the beat's own time."""
    worker.refresh_from_db()
    return (clock.now() - worker.beat_at).total_seconds() > conf.get().lease_seconds
