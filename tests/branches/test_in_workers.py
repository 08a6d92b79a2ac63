"""Branches in real workers: threads and tasks, steps in flight beside others' waits, kills."""

from __future__ import annotations

from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from django.utils.timezone import now

from canx_flow.models import Event, StepRecord, Timer, WorkflowRun
from canx_flow.store import telling

from .. import branching
from ..crowding import FLOWS, KINDS
from ..processes import WorkerProcess, Workers
from ..waiting import wait_until

both = pytest.mark.parametrize("kind", ["", "_async"], ids=["def", "async def"])


def _flow(name: str, kind: str) -> Any:
    return getattr(branching, f"{name}{kind}")


def _ended(flow: Any, run_id: Any) -> Any:
    return wait_until(lambda: flow.status(run_id).finished_at and flow.status(run_id))


@both
def test_c073_no_wait_of_a_branch_is_held_by_a_siblings_step(
    worker: WorkerProcess, effects: ModuleType, kind: str
) -> None:
    """C073: a retry that is due is tried, a sleep ends, an event is read, while another branch is in a long step.

    Nothing of it is done again afterwards.
    """
    worker.start("--poll-interval", "30")  # It is told; it need not find out.
    telling.forget()  # It is remembered for two seconds that no worker was there.
    flow = _flow("beside", kind)
    run_id = flow.start()
    wait_until(lambda: effects.count("retried") == 3 and effects.count("slept") == 1)
    wait_until(lambda: Timer.objects.filter(event="news").exists())
    assert flow.send(run_id, "news", "rain")
    wait_until(lambda: effects.count("told rain") == 1)
    assert flow.status(run_id).state == "running"
    effects.release("long")
    status = _ended(flow, run_id)
    assert status.result == {"long": None, "retried": "retried", "slept": "slept", "told": "rain"}
    assert sorted(effects.read()) == ["at long", "retried", "retried", "retried", "slept", "told rain"]
    assert StepRecord.objects.get(name="retried/work").attempts == 3


@both
def test_items_are_called_again_while_another_is_called(worker: WorkerProcess, effects: ModuleType, kind: str) -> None:
    """Each in its turn, as often as it has to be, beside a step that takes long; none is left out."""
    worker.start()
    flow = _flow("items", kind)
    run_id = flow.start()
    wait_until(lambda: effects.count("first") == effects.count("second") == 3)
    assert flow.status(run_id).state == "running"
    effects.release("gate")
    assert _ended(flow, run_id).result == [None, "first", "second"]


@both
def test_a_race_goes_on_before_its_losers_step_has_ended(worker: WorkerProcess, effects: ModuleType, kind: str) -> None:
    """But the run does not end before that is stored; what comes after it in the loser never starts."""
    worker.start()
    flow = _flow("race", kind)
    run_id = flow.start()
    wait_until(lambda: {"at slow", "at quick"} <= set(effects.read()))
    effects.release("quick")
    wait_until(lambda: StepRecord.objects.filter(name="after").exists())
    assert flow.status(run_id).state == "running"
    effects.release("slow")
    assert _ended(flow, run_id).result == ("quick", None)
    assert StepRecord.objects.get(name="slow/gate").state == "completed"
    assert "never" not in effects.read()


@both
@pytest.mark.parametrize("before", [False, True], ids=["while it waits", "while it is stopped"])
def test_events_are_read_in_order_by_branches_in_order(workers: Workers, kind: str, before: bool) -> None:
    """Each event by one branch. Of those that are there already the first by that which has waited longest, though all
    look at the same moment."""
    flow = _flow("readers", kind)
    worker = workers.start()
    run_id = flow.start(12)
    wait_until(lambda: flow.status(run_id).state == "waiting")
    if before:
        worker.terminate()
        worker.wait()
    for number in range(12):
        flow.send(run_id, "news", number)
    if before:
        workers.start()
    result = _ended(flow, run_id).result
    assert (result if before else sorted(result)) == list(range(12))


@both
def test_at_most_eight_steps_of_a_run_are_called_at_once(worker: WorkerProcess, kind: str) -> None:
    """However many branches there are, at whatever depth; but no fewer."""
    worker.start()
    flow = _flow("many", kind)
    run_id = flow.start()
    assert _ended(flow, run_id).result == 8


@both
@pytest.mark.parametrize(("items", "concurrency", "most"), [(10, 2, 2), (40, None, 8), (60, 20, 20)])
def test_c066_so_many_items_are_called_at_once(
    worker: WorkerProcess, kind: str, items: int, concurrency: int | None, most: int
) -> None:
    """Never more than `concurrency`, which stands in place of the 8 of all branches; but no fewer."""
    worker.start()
    flow = _flow("mapped", kind)
    run_id = flow.start(items, concurrency)
    assert _ended(flow, run_id).result == most


@both
def test_a_worker_that_is_told_to_stop_lets_steps_in_flight_finish(
    workers: Workers, effects: ModuleType, kind: str
) -> None:
    """Their results are stored, the run is handed back, and another worker goes on with it."""
    first = workers.start()
    flow = _flow("race", kind)
    run_id = flow.start()
    wait_until(lambda: {"at slow", "at quick"} <= set(effects.read()))
    first.terminate()
    first.wait_log("step")
    effects.release("slow")
    effects.release("quick")
    assert first.wait() == 0
    assert {"slow/gate", "quick/wait"} & set(StepRecord.objects.values_list("name", flat=True))
    workers.start()
    assert _ended(flow, run_id).state == "completed"
    assert effects.count("at slow") == 1
    assert effects.count("at quick") == 1


@both
def test_a_worker_that_is_told_twice_leaves_steps_in_flight_behind(
    workers: Workers, effects: ModuleType, kind: str
) -> None:
    """It does not wait for branches: it leaves at once, and another worker calls their steps again."""
    first = workers.start()
    flow = _flow("race", kind)
    run_id = flow.start()
    wait_until(lambda: {"at slow", "at quick"} <= set(effects.read()))
    first.terminate()
    first.wait_log("step")
    first.terminate()
    assert first.wait(10) == 3
    assert not StepRecord.objects.filter(state="failed").exists()
    workers.start()
    wait_until(lambda: effects.count("at quick") == 2)
    effects.release("quick")
    effects.release("slow")
    assert _ended(flow, run_id).state == "completed"
    assert set(StepRecord.objects.values_list("attempts", flat=True)) <= {0, 1}


@both
@pytest.mark.parametrize("names", ["news, naps", "naps, news"])
def test_of_what_has_ended_while_no_worker_ran_the_first_wins(workers: Workers, kind: str, names: str) -> None:
    """An event that was sent before a timer was due, whichever branch was opened first, and whatever takes longer."""
    first = workers.start()
    flow = _flow("first", kind)
    run_id = flow.start(names.split(", "))
    wait_until(lambda: Timer.objects.filter(run_id=run_id).count() == 2 and flow.status(run_id).resume_at)
    first.terminate()
    first.wait()
    flow.send(run_id, "news", "rain")
    # As if it had been sent an hour ago, and the timer had been due half an hour ago.
    Event.objects.filter(run_id=run_id).update(created_at=now() - timedelta(hours=1))
    Timer.objects.filter(run_id=run_id, kind="sleep").update(due_at=now() - timedelta(minutes=30))
    workers.start()
    assert _ended(flow, run_id).result == ("news", "rain")


@both
def test_a_pause_lets_the_steps_of_branches_finish_and_begins_no_other(
    worker: WorkerProcess, effects: ModuleType, kind: str
) -> None:
    """Their results are stored, the run lets go of its worker; after `resume` it goes on where it was."""
    worker.start()
    flow = _flow("beside", kind)
    run_id = flow.start()
    wait_until(lambda: effects.count("retried") == 3 and effects.count("slept") == 1)
    assert flow.pause(run_id)
    assert flow.send(run_id, "news", "rain")
    effects.release("long")
    wait_until(lambda: WorkflowRun.objects.filter(id=run_id, owner=None).exists())
    assert flow.status(run_id).state == "paused"
    assert StepRecord.objects.get(name="long/gate").state == "completed"
    assert effects.count("told rain") == 0
    assert flow.resume(run_id)
    assert _ended(flow, run_id).result["told"] == "rain"
    assert sorted(effects.read()) == ["at long", "retried", "retried", "retried", "slept", "told rain"]


@both
def test_a_cancelled_run_stores_the_steps_of_its_branches_and_ends(
    worker: WorkerProcess, effects: ModuleType, kind: str
) -> None:
    """The step in flight may finish; nothing after it starts, and nothing is left to wake it."""
    worker.start()
    flow = _flow("beside", kind)
    run_id = flow.start()
    wait_until(lambda: effects.count("retried") == 3 and effects.count("slept") == 1)
    assert flow.cancel(run_id)
    effects.release("long")
    assert _ended(flow, run_id).state == "cancelled"
    assert StepRecord.objects.get(name="long/gate").state == "completed"
    assert not Timer.objects.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_c062_kills_at_any_moment_lose_nothing(workers: Workers, effects: ModuleType, kind: str) -> None:
    """C062: every run ends with the same result; a step that was stored has not run again."""
    flow = FLOWS["work", kind]
    run_ids = [flow.start(number) for number in range(30)]

    def left() -> bool:
        return any(flow.status(run_id).finished_at is None for run_id in run_ids)

    for _ in range(4):
        worker = workers.start()
        before = len(effects.read())
        wait_until(lambda before=before: len(effects.read()) > before + 20 or not left())  # type: ignore[misc]
        worker.kill()
    workers.start()
    wait_until(lambda: not left(), 60)
    expected = ["steps", 5, {"steps": 5, "naps": 1}]
    assert [flow.status(run_id).result for run_id in run_ids] == [expected] * 30
    # Called again were only steps that were in flight at one of four kills: of 16 runs at a time, two each.
    lines = effects.read()
    assert len(lines) - len(set(lines)) <= 30 * 5 + 4 * 32
