"""A worker asked to stop with work in flight: it leaves in time, nothing is lost, and another goes on.

What an idle worker does, and every option by itself, is in tests/management/test_runflowworker.py.
"""

from __future__ import annotations

import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from canx_flow.models import StepRecord, Worker, WorkflowRun
from canx_flow.states import WorkerState

from .. import workflows
from ..processes import WorkerProcess, Workers
from ..waiting import wait_until

KINDS = [workflows.held, workflows.aheld, workflows.aheld_thread]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=["sync", "async", "thread"])
each_signal = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])


@dataclass
class Busy:
    """A worker in the middle of a step of `run`, labelled "x"; `ticking` shows what it does about other runs."""

    worker: WorkerProcess
    run: UUID
    ticking: UUID

    def wait_told(self) -> None:
        """Wait until it starts no further step: it has handed the run back that always has a next one."""
        wait_until(lambda: _is_handed_back(self.ticking), message="no run was handed back")


def _busy(workers: Workers, effects: ModuleType, kind: Any, *options: str) -> Busy:
    busy = Busy(workers.new(), kind.start("x"), workflows.ticks.start("t"))
    busy.worker.start(*options)
    wait_until(lambda: effects.count("at x") and StepRecord.objects.filter(run_id=busy.ticking).exists())
    return busy


def _is_handed_back(run: UUID) -> bool:
    row = WorkflowRun.objects.get(id=run)
    return (row.state, row.ready, row.owner_id, row.recoveries) == ("pending", True, None, 0)


def _assert_another_completes(workers: Workers, effects: ModuleType, kind: Any, busy: Busy) -> None:
    effects.append("enough t")
    workers.start()
    assert kind.result(busy.run, timeout=20) == "x"
    assert workflows.ticks.result(busy.ticking, timeout=20) == "t"


def _counts(effects: ModuleType) -> list[int]:
    return [effects.count(f"x {step}") for step in ("before", "held", "after")]


@each_signal
@each_kind
def test_c104_the_step_in_flight_is_stored_and_its_run_handed_back(
    workers: Workers, effects: ModuleType, kind: Any, number: signal.Signals
) -> None:
    """C104: TERM or INT in the middle of a step: it ends and is stored, and the next step is another worker's."""
    busy = _busy(workers, effects, kind)
    busy.worker.signal(number)
    busy.wait_told()
    assert busy.worker.alive
    effects.release("x")
    assert busy.worker.wait() == 0
    assert _counts(effects) == [1, 1, 0]
    assert StepRecord.objects.get(run_id=busy.run, name="held").state == "completed"
    assert _is_handed_back(busy.run)
    assert _is_handed_back(busy.ticking)  # It claims nothing more.
    assert not Worker.objects.filter(state=WorkerState.ALIVE).exists()
    _assert_another_completes(workers, effects, kind, busy)
    assert _counts(effects) == [1, 1, 1]


@each_kind
def test_a_second_signal_means_now(workers: Workers, effects: ModuleType, kind: Any) -> None:
    """Exit 3 at once; the step in flight leaves no trace, no failed attempt either, and is called again elsewhere."""
    busy = _busy(workers, effects, kind)
    busy.worker.terminate()
    busy.wait_told()
    busy.worker.terminate()
    assert busy.worker.wait(10) == 3
    assert not StepRecord.objects.filter(run_id=busy.run, name="held").exists()
    assert _is_handed_back(busy.run)
    effects.release("x")
    _assert_another_completes(workers, effects, kind, busy)
    assert _counts(effects) == [1, 2, 1]
    assert StepRecord.objects.get(run_id=busy.run, name="held").attempts == 1


@each_kind
def test_the_shutdown_timeout_means_now(workers: Workers, effects: ModuleType, kind: Any) -> None:
    """One TERM, and --shutdown-timeout passes: exit 3, and the run is pending at once."""
    busy = _busy(workers, effects, kind, "--shutdown-timeout", "0.5")
    busy.worker.terminate()
    assert busy.worker.wait(10) == 3
    assert (
        f"leaves at once (500 ms have passed) with 1 run: run {busy.run} of {kind.name}, in step 'held' for "
        in busy.worker.log()
    )
    assert _is_handed_back(busy.run)
    effects.release("x")
    _assert_another_completes(workers, effects, kind, busy)
    assert _counts(effects) == [1, 2, 1]


def test_c104_runs_claimed_and_not_begun_are_handed_back(workers: Workers, effects: ModuleType) -> None:
    """C104: a worker with one slot leaves; what waited for the slot goes on elsewhere, untouched."""
    busy = _busy(workers, effects, workflows.held, "--concurrency", "2")
    others = [workflows.two_steps.start(str(number)) for number in range(5)]
    busy.worker.terminate()
    busy.wait_told()
    effects.release("x")
    assert busy.worker.wait() == 0
    assert all(_is_handed_back(run) for run in others)
    assert not StepRecord.objects.filter(run_id__in=others).exists()
    _assert_another_completes(workers, effects, workflows.held, busy)
    assert [workflows.two_steps.result(run, timeout=20) for run in others] == ["0", "1", "2", "3", "4"]


def test_a_parent_stops_its_processes_with_work_in_flight(workers: Workers, effects: ModuleType) -> None:
    """C104 with --processes: TERM to the parent lets every child finish its step; all leave with 0."""
    runs = {label: workflows.held.start(label) for label in ("x", "y")}
    worker = workers.start("--processes", "2", "--concurrency", "1")
    wait_until(lambda: effects.count("at x") and effects.count("at y"))
    worker.terminate()
    for label in runs:
        effects.release(label)
    assert worker.wait() == 0
    assert not Worker.objects.filter(state=WorkerState.ALIVE).exists()
    workers.start()
    for label, run in runs.items():
        assert workflows.held.result(run, timeout=20) == label
        assert [effects.count(f"{label} {step}") for step in ("before", "held", "after")] == [1, 1, 1]


def test_it_says_what_it_waits_for(workers: Workers, effects: ModuleType) -> None:
    """A worker told to stop names the runs that it waits for, with step and time, at once and every few seconds."""
    kind = workflows.held
    busy = _busy(workers, effects, kind, "--name", "blue")
    busy.worker.interrupt()
    who, run = f"Worker blue (pid {busy.worker.pid})", f"run {busy.run} of {kind.name}, in step 'held' for "
    busy.worker.wait_log(f"{who} was told to stop and waits, for 25 s at most, for 1 run: {run}")
    assert "A second Ctrl-C (INT or TERM) leaves at once" in busy.worker.log()
    busy.worker.wait_log(lambda log: f"{who} still waits, for " in log and log.count(run) == 2)
    busy.worker.interrupt()
    assert busy.worker.wait(10) == 3
    assert f"{who} leaves at once (it was told to) with 1 run: {run}" in busy.worker.log()


def test_an_idle_worker_has_nothing_to_say(workers: Workers) -> None:
    """Where no run is in flight, no line is about waiting."""
    worker = workers.start()
    worker.terminate()
    assert worker.wait() == 0
    assert "waits" not in worker.log()


def test_a_parent_says_what_its_processes_are_told(workers: Workers, effects: ModuleType) -> None:
    """With --processes, each child says what it waits for, and the parent what it does."""
    workflows.held.start("x")
    worker = workers.start("--processes", "2", "--concurrency", "1")
    wait_until(lambda: effects.count("at x"))
    worker.terminate()
    worker.wait_log("Told to stop (a second Ctrl-C, INT or TERM, leaves at once): worker processes ")
    worker.wait_log("was told to stop and waits, for 25 s at most, for 1 run: run ")
    worker.terminate()
    assert worker.wait(10) == 3
    assert "Told to stop again: worker processes " in worker.log()


@pytest.mark.once
@each_signal
def test_signals_until_the_very_end_change_no_exit_code(workers: Workers, number: signal.Signals) -> None:
    """One that comes while Python shuts down, when the worker has left, does not end the process as killed."""
    worker = workers.start()
    while worker.alive:
        worker.signal(number)
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(0.002)
    assert worker.returncode in (0, 3)
