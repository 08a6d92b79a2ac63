"""A worker asked to stop with work in flight: it leaves in time, nothing is lost, and another goes on.

What an idle worker does, and every option by itself, is in tests/management/test_runflowworker.py.
"""

from __future__ import annotations

import os
import signal
from types import ModuleType
from uuid import UUID

import pytest

from canx_flow.models import StepRecord, Worker, WorkflowRun
from canx_flow.states import WorkerState

from .. import workflows
from ..processes import WorkerProcess, Workers
from ..waiting import wait_until

HELD = [workflows.held, workflows.aheld, workflows.aheld_thread]
each_kind = pytest.mark.parametrize("workflow", HELD, ids=["sync", "async", "thread"])
each_signal = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


def _at_the_gate(workers: Workers, effects: ModuleType, workflow: object, *options: str) -> tuple[WorkerProcess, UUID]:
    """A worker that stands in the middle of the step of a run of `workflow`, labelled "x"."""
    run = workflow.start("x")
    worker = workers.start(*options)
    wait_until(lambda: effects.count("at x"))
    return worker, run


def _is_leaving(worker: WorkerProcess) -> None:
    """It has seen the signal: it claims nothing more. Its row is no sign of it, so a run that it leaves alone is."""
    run = workflows.two_steps.start("not yours")
    workflows.two_steps.cancel(run)
    assert worker.alive


def _counts(effects: ModuleType) -> list[int]:
    return [effects.count(f"x {step}") for step in ("before", "held", "after")]


def _assert_handed_back(run: UUID) -> None:
    row = WorkflowRun.objects.get(id=run)
    assert (row.state, row.ready, row.owner_id, row.recoveries) == ("pending", True, None, 0)


@each_signal
@each_kind
def test_c104_the_step_in_flight_is_stored_and_the_run_handed_back(
    workers: Workers, effects: ModuleType, workflow: object, number: signal.Signals
) -> None:
    """C104: TERM or INT in the middle of a step: it ends, is stored, and the next step is another worker's."""
    worker, run = _at_the_gate(workers, effects, workflow)
    worker.signal(number)
    # A second run is left alone: the signal was seen, and the gate is not opened before.
    left = _left_alone(worker)
    effects.release("x")
    assert worker.wait() == 0
    assert _counts(effects) == [1, 1, 0]
    assert StepRecord.objects.get(run_id=run, name="held").state == "completed"
    _assert_handed_back(run)
    assert not Worker.objects.filter(state=WorkerState.ALIVE).exists()
    workers.start()
    assert workflow.result(run, timeout=20) == "x"
    assert workflows.two_steps.result(left, timeout=20) == "left"
    assert _counts(effects) == [1, 1, 1]


def _left_alone(worker: WorkerProcess) -> UUID:
    """A new run that this worker does not take, for it is leaving: told of it, it would have at once."""
    ...
