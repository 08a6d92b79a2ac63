"""Steps that outlive their timeout in a real worker: their threads are left behind, their late results refused."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pytest

from canx_flow.models import StepRecord, Worker
from canx_flow.states import WorkerState

from .. import workflows
from ..models import Effect
from ..processes import Workers
from ..waiting import wait_until

PLAIN = pytest.mark.parametrize("kind", [workflows.slow, workflows.slow_in_async], ids=["sync", "async"])
ATOMIC = pytest.mark.parametrize("kind", [workflows.slow_atomic, workflows.slow_atomic_in_async], ids=["sync", "async"])


def _abandoned() -> int:
    return Worker.objects.get(state=WorkerState.ALIVE).abandoned


def _assert_timed_out(run: Any, attempts: int) -> None:
    record = StepRecord.objects.get(run_id=run, name="slow")
    assert (record.state, record.attempts) == ("completed", attempts)
    errors = json.loads(record.errors)
    assert {error["type"] for error in errors} == {"canx_flow.exceptions.StepTimeout"}
    assert len(errors) == attempts - 1


@PLAIN
def test_c026_a_step_past_its_timeout_is_retried_and_its_late_result_refused(
    workers: Workers, effects: ModuleType, kind: Any
) -> None:
    """C026: one StepTimeout is recorded, the retry decides, and what the left thread returns later changes nothing."""
    workers.start()
    run = kind.start("x")
    value = kind.result(run, timeout=20)
    assert value > 1
    _assert_timed_out(run, value)
    wait_until(lambda: _abandoned() == 1)
    assert effects.count("x late") == 0
    effects.release("x")
    wait_until(lambda: _abandoned() == 0)
    assert effects.count("x late") == 1
    assert kind.status(run).result == value
    _assert_timed_out(run, value)


def test_c026_an_async_step_past_its_timeout_is_cancelled(workers: Workers, effects: ModuleType) -> None:
    """C026: its coroutine gets CancelledError; no thread is left behind."""
    workers.start()
    run = workflows.aslow.start("x")
    value = workflows.aslow.result(run, timeout=20)
    assert value > 1
    _assert_timed_out(run, value)
    assert _abandoned() == 0


@ATOMIC
def test_c026_a_late_atomic_commit_is_refused(workers: Workers, effects: ModuleType, kind: Any) -> None:
    """The row of the attempt that timed out is rolled back, however late it is; only the counted attempt's exists."""
    workers.start()
    run = kind.start("x")
    value = kind.result(run, timeout=40)
    assert value > 1
    wait_until(lambda: effects.count("x late"))
    wait_until(lambda: _abandoned() == 0)
    _assert_timed_out(run, value)
    assert list(Effect.objects.values_list("value", flat=True)) == [str(value)]


@PLAIN
def test_too_many_abandoned_threads_end_the_worker(workers: Workers, effects: ModuleType, kind: Any) -> None:
    """At `--concurrency` of them it hands its runs back and exits 1; another worker completes them."""
    worker = workers.start("--concurrency", "2", banner=False)
    runs = [kind.start("x"), kind.start("y")]
    ticking = workflows.ticks.start("t")
    assert worker.wait() == 1
    assert (
        "Abandoned in steps that outlived their timeout: 2 step threads, as many as --concurrency allows"
        in worker.log()
    )
    assert Worker.objects.get().state == WorkerState.STOPPED
    effects.append("enough t")
    workers.start()
    assert all(kind.result(run, timeout=20) > 1 for run in runs)
    assert workflows.ticks.result(ticking, timeout=20) == "t"
