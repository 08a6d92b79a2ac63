"""Steps in flight as others decide: they come to their end, are stored, and hold their run until then, no longer."""

from __future__ import annotations

from types import ModuleType

import pytest

from canx_flow.models import StepRecord, Timer

from ..crowding import FLOWS, KINDS
from ..processes import WorkerProcess
from ..waiting import wait_until
from .test_in_workers import _ended, _flow, both

each_kind = pytest.mark.parametrize("kind", KINDS)


@both
def test_a_step_in_flight_is_stored_before_its_gather_raises(
    worker: WorkerProcess, effects: ModuleType, kind: str
) -> None:
    """The failure of another branch does not cut it off; what follows it in its branch never starts."""
    worker.start()
    flow = _flow("fails_beside", kind)
    run_id = flow.start()
    wait_until(lambda: {"at slow", "at fails"} <= set(effects.read()))
    effects.release("fails")
    wait_until(lambda: StepRecord.objects.filter(name="fails/gate", state="completed").exists())
    assert flow.status(run_id).state == "running"
    effects.release("slow")
    assert _ended(flow, run_id).reason == "LookupError"
    assert StepRecord.objects.get(name="slow/gate").state == "completed"
    assert "never" not in effects.read()


@both
def test_a_run_does_not_suspend_before_what_is_in_flight_is_stored(
    worker: WorkerProcess, effects: ModuleType, kind: str
) -> None:
    """Its body sleeps after the race, and the loser's step holds it: only then is it suspended."""
    worker.start()
    flow = _flow("sleeps_after", kind)
    run_id = flow.start()
    wait_until(lambda: "at slow" in effects.read() and flow.status(run_id).state == "running")
    wait_until(lambda: StepRecord.objects.filter(kind="race").exists())
    assert flow.status(run_id).state == "running"
    effects.release("slow")
    wait_until(lambda: flow.status(run_id).state == "sleeping")
    assert StepRecord.objects.get(name="slow/gate").state == "completed"
    assert list(Timer.objects.values_list("step", flat=True)) == ["after"]


@both
def test_the_timeout_of_a_losers_step_bounds_how_long_it_holds_the_run(
    worker: WorkerProcess, effects: ModuleType, kind: str
) -> None:
    """The thread that is left behind does not count: the run ends though its step never does."""
    worker.start()
    flow = _flow("hangs", kind)
    run_id = flow.start()
    assert _ended(flow, run_id).result == ("quick", "at hangs")
    assert "at hangs" in effects.read()
    assert StepRecord.objects.get(name="hangs/gate").state in ("failed", "closed")
    effects.release("hangs")


@both
def test_a_worker_of_one_slot_calls_the_steps_of_branches_side_by_side(
    worker: WorkerProcess, effects: ModuleType, kind: str
) -> None:
    """What `--concurrency` counts are runs under way; what waits in a branch takes none of the places of others."""
    worker.start("--concurrency", "1")
    flow = _flow("crowd", kind)
    run_id = flow.start(30)
    wait_until(lambda: sum(line == "at crowd" for line in effects.read()) == 8)
    effects.release("crowd")
    assert _ended(flow, run_id).state == "completed"


@each_kind
def test_the_first_failure_to_be_stored_is_raised(worker: WorkerProcess, effects: ModuleType, kind: str) -> None:
    """Not that of the branch that stands first in the code, which was in its step and failed later; both are stored."""
    worker.start()
    flow = FLOWS["fails_twice", kind]
    run_id = flow.start()
    wait_until(lambda: {"at first", "at second"} <= set(effects.read()))
    effects.release("second")
    wait_until(lambda: StepRecord.objects.filter(name="second/work", state="failed").exists())
    assert flow.status(run_id).state == "running"
    effects.release("first")
    error = _ended(flow, run_id).error
    assert error["step"] == "second/work"
    states = StepRecord.objects.filter(kind="step").order_by("seq").values_list("name", "state")
    assert list(states) == [("second/work", "failed"), ("first/work", "failed")]


@each_kind
def test_c071_what_a_loser_has_stored_late_is_never_read(worker: WorkerProcess, effects: ModuleType, kind: str) -> None:
    """C071: the race is replayed with two results, and its winner is the one that was first."""
    worker.start()
    flow = FLOWS["loses_late", kind]
    run_id = flow.start()
    wait_until(lambda: {"at loser", "at winner"} <= set(effects.read()))
    effects.release("winner")
    wait_until(lambda: StepRecord.objects.filter(kind="race").exists())
    effects.release("loser")
    wait_until(lambda: flow.status(run_id).state == "waiting")
    assert set(StepRecord.objects.filter(kind="step").values_list("name", "state")) == {
        ("loser/work", "completed"), ("winner/work", "completed"),
    }  # fmt: skip
    flow.send(run_id, "go")
    assert _ended(flow, run_id).result == [("winner", "winner"), 1]
    assert sorted(effects.read()) == ["at loser", "at winner"]


@each_kind
def test_c066_a_place_is_freed_when_the_result_is_stored(worker: WorkerProcess, kind: str) -> None:
    """C066: not when the function has returned: no more calls than there are places are ahead of what is stored."""
    worker.start()
    flow = FLOWS["ahead", kind]
    run_id = flow.start(200, 4)
    assert 1 <= _ended(flow, run_id).result <= 4
