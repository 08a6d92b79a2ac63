"""Children among real workers: one slot for a whole family, parents and children on several workers, kills."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from canx_flow import RunFailed, get_run
from canx_flow.models import Event, Timer, WorkflowRun

from .. import workflows
from ..processes import Workers
from ..waiting import wait_until

each_parent = pytest.mark.parametrize("parent", [workflows.calls_held, workflows.acalls_held], ids=["sync", "async"])


@pytest.mark.parametrize("parent", [workflows.sends, workflows.asends], ids=["one by one", "all at once"])
def test_c078_a_parent_of_a_hundred_children_completes_in_one_slot(
    workers: Workers, effects: ModuleType, parent: Any
) -> None:
    """C078: a parent that waits holds no slot, so that its children have it; each is sent once."""
    run_id = parent.start("p", 100)
    workers.start("--concurrency", "1")
    assert parent.result(run_id, timeout=60) == [f"p{number}" for number in range(100)]
    assert WorkflowRun.objects.filter(parent_id=run_id, state="completed").count() == 100
    assert sorted(effects.read()) == sorted(f"p{number} sent" for number in range(100))
    assert not Timer.objects.exists()
    assert not Event.objects.filter(consumed_at=None).exists()


@each_parent
def test_c076_a_parent_whose_worker_is_killed_finds_its_child(
    workers: Workers, effects: ModuleType, parent: Any
) -> None:
    """C076: the worker dies with the child in its hands; another one takes both over, and there is one child."""
    run_id = parent.start("k")
    first = workers.start()
    wait_until(lambda: effects.count("at k"))
    first.kill()
    workers.start()
    wait_until(lambda: effects.count("at k") == 2)
    effects.release("k")
    assert parent.result(run_id, timeout=20) == "k"
    assert WorkflowRun.objects.filter(parent_id=run_id).count() == 1
    assert [effects.count(f"k {step}") for step in ("before", "held", "after")] == [1, 2, 1]


@each_parent
def test_a_child_on_another_worker_wakes_its_parent(workers: Workers, effects: ModuleType, parent: Any) -> None:
    """Its end is an event for the parent, which the parent's worker is told of, or finds."""
    run_id = parent.start("far", "elsewhere")
    workers.start("--queue", "default")
    workers.start("--queue", "elsewhere")
    wait_until(lambda: effects.count("at far"))
    assert get_run(run_id).state == "waiting"
    effects.release("far")
    assert parent.result(run_id, timeout=20) == "far"


@each_parent
def test_c079_cancel_reaches_a_child_in_a_step_of_another_worker(
    workers: Workers, effects: ModuleType, parent: Any
) -> None:
    """C079: the step in flight ends and is stored, nothing starts after it, and the parent is over at once."""
    run_id = parent.start("c", "elsewhere")
    workers.start("--queue", "default")
    workers.start("--queue", "elsewhere")
    wait_until(lambda: effects.count("at c"))
    assert parent.cancel(run_id)
    child = WorkflowRun.objects.get(parent_id=run_id)
    assert (get_run(run_id).state, child.state) == ("cancelled", "stopping")
    effects.release("c")
    wait_until(lambda: get_run(child.id).state == "cancelled")
    assert (effects.count("c held"), effects.count("c after")) == (1, 0)


def test_c077_a_child_that_nobody_knows_any_more_is_no_end(workers: Workers, effects: ModuleType) -> None:
    """C077: it is parked, and its parent waits for it; once it is cancelled, the parent has failed."""
    run_id = workflows.calls_held.start("u", "elsewhere")
    workers.start("--queue", "default")
    child = wait_until(lambda: WorkflowRun.objects.filter(parent_id=run_id).first())
    WorkflowRun.objects.filter(id=child.id).update(workflow="tests.gone")
    workers.start("--queue", "elsewhere")
    wait_until(lambda: get_run(child.id).state == "parked")
    assert get_run(run_id).state == "waiting"
    assert WorkflowRun.objects.filter(id=child.id).cancel()["cancelled"] == 1
    with pytest.raises(RunFailed, match="was cancelled"):
        workflows.calls_held.result(run_id, timeout=20)
