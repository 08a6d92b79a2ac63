"""Code that does what it should not, in real workers: each run pays for its own, and no other one does."""

from __future__ import annotations

import asyncio
import json
from itertools import product
from types import ModuleType
from typing import Any

import pytest

from canx_flow.insight.health import examine
from canx_flow.models import StepRecord, Worker, WorkflowRun
from canx_flow.states import WorkerState

from .. import unruly
from ..models import Effect
from ..processes import Workers
from ..waiting import wait_until


def _abandoned() -> int:
    """What the worker has last said, if it has registered already."""
    return Worker.objects.filter(state=WorkerState.ALIVE).values_list("abandoned", flat=True).first() or 0


def _ended(ids: list[Any], state: str) -> bool:
    return WorkflowRun.objects.filter(id__in=ids, state=state).count() == len(ids)


@pytest.mark.once
def test_c154_whatever_a_step_or_a_body_raises_is_one_counted_attempt(workers: Workers, effects: ModuleType) -> None:
    """C154: in plain and async code, with and without a timeout; a neighbour in the same event loop goes on."""
    workers.start("--concurrency", "24")
    neighbour = unruly.stops_loop.start()
    cases = [
        (what, where, timeout)
        for what, where, timeout in product(unruly.RAISED, ("plain", "async", "task", "body"), (None, 20.0))
        if where != "body" or timeout is None
    ]
    ids = []
    for flow in (unruly.raises, unruly.araises):
        ids += flow.start_many([(*case, f"{flow.name} {case}") for case in cases])
    wait_until(lambda: _ended(ids, "failed"), 60)
    assert {
        effects.count(f"{flow.name} {case} called") for flow in (unruly.raises, unruly.araises) for case in cases
    } == {1}
    records = StepRecord.objects.filter(run_id__in=ids)
    assert {(record.state, record.attempts) for record in records} == {("failed", 1)}
    # None of a body, nor of GeneratorExit in a task that a step has awaited: with that, Python closes all that waits.
    assert records.count() == len(ids) - 2 * len(unruly.RAISED) - 2
    assert unruly.stops_loop.result(neighbour, timeout=20) == "on"


@pytest.mark.once
def test_c154_whatever_a_branch_raises_fails_its_run_and_hangs_none(workers: Workers, effects: ModuleType) -> None:
    """C154: two branches deep, in a step, an item or the branch itself; its siblings' results are stored."""
    workers.start("--concurrency", "24")
    cases = list(product(unruly.RAISED, ("plain", "async", "item", "body")))
    flows = (unruly.raises_in_branches, unruly.araises_in_branches)
    ids = [run_id for flow in flows for run_id in flow.start_many([(*each, f"{flow.name} {each}") for each in cases])]
    wait_until(lambda: _ended(ids, "failed"), 60)
    assert {effects.count(f"{flow.name} {case} called") for flow in flows for case in cases} == {1}
    raised = StepRecord.objects.filter(run_id__in=ids, kind="step", name__contains="raise")
    assert {(record.state, record.attempts) for record in raised} == {("failed", 1)}
    assert raised.count() == len(ids) - 2 * len(unruly.RAISED)
    assert not StepRecord.objects.filter(run_id__in=ids, name="other/other").exclude(state="completed").exists()


@pytest.mark.parametrize("how", ["sync_to_async", "to_thread"])
def test_c149_a_thread_that_does_not_come_back_stops_no_other_run(
    workers: Workers, effects: ModuleType, how: str
) -> None:
    """C149: it is counted as left behind until it does, and every other async run has a thread of its own."""
    workers.start("--concurrency", "4", env={"PYTHON_CPU_COUNT": "1"})
    many = 8 if how == "to_thread" else 2
    stuck = [unruly.stands.start(f"gate {number}", how, 0.2) for number in range(2)]
    wait_until(lambda: _ended(stuck, "failed"))
    stuck += [unruly.stands.start(f"gate {number}", how, None) for number in range(2, 3)]
    light = unruly.light.start_many([(f"light {number}",) for number in range(many)])
    wait_until(lambda: _ended(light, "completed"))
    assert {unruly.light.status(run_id).result for run_id in light} == {True}
    assert unruly.stands.result(stuck[2], timeout=20) == "went on"
    assert wait_until(lambda: _abandoned() == 3)
    assert "3 threads left behind by steps that outlived their timeout" in examine(confirm=False).warnings
    for number in range(3):
        effects.release(f"gate {number}")
    wait_until(lambda: _abandoned() == 0)


@pytest.mark.once
@pytest.mark.parametrize("how", ["block", "sync_to_async", "to_thread"])
def test_c149_an_async_step_of_a_plain_workflow_that_blocks_is_left_behind(
    workers: Workers, effects: ModuleType, how: str
) -> None:
    """C149: its attempt fails by its timeout although it cannot be cancelled; its threads are counted."""
    worker = workers.start("--concurrency", "8")
    run = unruly.stands_in_def.start("gate", how)
    wait_until(lambda: unruly.stands_in_def.status(run).state == "failed")
    assert "StepTimeout" in StepRecord.objects.get(run_id=run).errors
    assert wait_until(lambda: _abandoned() == 1)
    worker.terminate()
    assert worker.wait() == 0
    assert Worker.objects.get().state == WorkerState.STOPPED


@pytest.mark.once
@pytest.mark.parametrize("where", ["step", "task", "body"])
def test_c149_a_run_that_blocks_the_event_loop_is_named(workers: Workers, effects: ModuleType, where: str) -> None:
    """C149: the log, the worker's row, `flowhealth` and the run's own status say which run, which step and where."""
    worker = workers.start("--concurrency", "4")
    run = unruly.blocks.start("gate", where)
    wait_until(lambda: effects.count("at gate"))
    other = unruly.light.start("light")
    worker.wait_log("The event loop has been blocked for a second")
    if where != "task" or hasattr(asyncio.Task, "get_context"):  # Python tells whose task it is since 3.12.
        step = None if where == "body" else "block"
        said = wait_until(lambda: json.loads(Worker.objects.get().activity).get(str(run), {}).get("blocks"))
        assert "effects.py" in said["at"]
        assert f"run {run} of tests.blocks, {'in its body' if step is None else 'in step'}" in worker.log()
        (blocked,) = examine(confirm=False).blocked
        assert (blocked.run_id, blocked.step) == (run, step)
        assert "blocks the event loop" in unruly.blocks.status(run).reason
    assert unruly.light.status(other).state in ("running", "pending")
    effects.release("gate")
    assert unruly.light.result(other, timeout=20) is True
    assert unruly.blocks.result(run, timeout=20) == "gate"
    worker.wait_log("The event loop goes on after")
    wait_until(lambda: examine(confirm=False).blocked == ())


@pytest.mark.once
def test_an_event_loop_that_broke_is_begun_anew(workers: Workers, effects: ModuleType) -> None:
    """Its runs are handed back, counted, and go on in another one."""
    worker = workers.start()
    run = unruly.breaks_loop.start("x")
    assert unruly.breaks_loop.result(run, timeout=20) == "on"
    assert effects.count("x breaks") == 2
    assert "The event loop of this worker broke" in worker.log()
    assert unruly.light.result(unruly.light.start("after"), timeout=20) is True


def test_a_plain_step_that_is_cut_off_from_outside_is_called_again(workers: Workers, effects: ModuleType) -> None:
    """Its thread is left behind, nothing is recorded of it, and the step is called again when it is asked for."""
    workers.start()
    run = unruly.cut_off.start("gate", False)
    wait_until(lambda: _abandoned() == 1)
    assert unruly.cut_off.result(run, timeout=20) == "gate"
    assert effects.count("gate called") == 2
    record = StepRecord.objects.get(run_id=run, name="stand")
    assert (record.state, record.attempts, record.errors) == ("completed", 1, None)
    effects.release("gate")
    wait_until(lambda: _abandoned() == 0)


def test_an_atomic_step_that_is_cut_off_from_outside_commits_nothing(workers: Workers, effects: ModuleType) -> None:
    """Whoever has given it up finds no row of it, however late it would have been."""
    workers.start()
    run = unruly.cut_off.start("gate", True)
    assert unruly.cut_off.result(run, timeout=20) == "gate"
    wait_until(lambda: effects.count("gate late"))
    wait_until(lambda: _abandoned() == 0)
    assert list(Effect.objects.values_list("value", flat=True)) == ["1"]
