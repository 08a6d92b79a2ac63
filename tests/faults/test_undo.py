"""Undo by real workers that are killed, stopped and too late: each is done once, and the run ends as was decided."""

from __future__ import annotations

from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from canx_flow import RunCancelled, RunFailed
from canx_flow.models import StepRecord, WorkflowRun

from .. import workflows
from ..crowding import FLOWS, KINDS
from ..processes import WorkerProcess, Workers, manage
from ..waiting import wait_until

each_kind = pytest.mark.parametrize("kind", [workflows.trip, workflows.atrip], ids=["sync", "async"])


def _undone(effects: ModuleType, label: str = "x") -> list[int]:
    return [effects.count(f"{label} {thing} undone") for thing in ("train", "hotel", "flight")]


def _booked(workers: Workers, kind: Any, **options: Any) -> tuple[WorkerProcess, UUID]:
    """A worker, and a run that has booked everything and waits."""
    run = kind.using(**options).start(*([] if kind in FLOWS.values() else ["x"]))
    worker = workers.start()
    wait_until(lambda: kind.status(run).state == "waiting")
    return worker, run


def _release(effects: ModuleType) -> None:
    for thing in ("hotel", "flight"):
        effects.release(f"undo x {thing}")


@each_kind
def test_c085_a_worker_killed_between_two_undo_steps_is_followed_by_another(
    workers: Workers, effects: ModuleType, kind: Any
) -> None:
    """C085: what was undone is not undone again, the undo that was cut off is repeated, and the run is cancelled."""
    first, run = _booked(workers, kind)
    assert kind.cancel(run, "enough") is True
    wait_until(lambda: effects.count("at undo x hotel"))
    effects.release("undo x hotel")
    wait_until(lambda: effects.count("at undo x flight"))
    assert kind.status(run).state == "stopping"
    first.kill()
    effects.release("undo x flight")
    workers.start()
    with pytest.raises(RunCancelled, match="enough"):
        kind.result(run, timeout=20)
    assert _undone(effects) == [3, 1, 2]
    states = StepRecord.objects.filter(run_id=run, kind="undo").values_list("name", "state", "attempts")
    assert sorted(states) == [
        ("flight[undo]", "completed", 1), ("hotel[undo]", "completed", 1), ("train[undo]", "completed", 3),
    ]  # fmt: skip


@each_kind
def test_an_undo_is_tried_again_when_its_timer_is_due(workers: Workers, effects: ModuleType, kind: Any) -> None:
    """The run holds nothing meanwhile; the timer wakes it, though it is stopping."""
    _worker, run = _booked(workers, kind)
    _release(effects)
    assert kind.cancel(run)
    with pytest.raises(RunCancelled):
        kind.result(run, timeout=20)
    assert _undone(effects) == [3, 1, 1]
    record = StepRecord.objects.get(run_id=run, name="train[undo]")
    assert (record.state, record.attempts) == ("completed", 3)


@each_kind
def test_c085_the_step_in_flight_is_stored_and_undone(workers: Workers, effects: ModuleType, kind: Any) -> None:
    """C085: by the same worker, at once, and nothing after the step is booked."""
    run = kind.start("x", True)
    workers.start()
    wait_until(lambda: effects.count("at book x hotel"))
    assert kind.cancel(run, "enough") is True
    assert kind.status(run).state == "stopping"
    _release(effects)
    effects.release("book x hotel")
    with pytest.raises(RunCancelled, match="enough"):
        kind.result(run, timeout=20)
    assert _undone(effects) == [0, 1, 1]
    assert effects.count("x train booked") == 0
    assert WorkflowRun.objects.get(id=run).epoch == 1


@each_kind
def test_a_step_in_flight_that_was_killed_is_neither_repeated_nor_undone(
    workers: Workers, effects: ModuleType, kind: Any
) -> None:
    """It has no result; what was stored before it is undone elsewhere."""
    run = kind.start("x", True)
    first = workers.start()
    wait_until(lambda: effects.count("at book x hotel"))
    assert kind.cancel(run)
    first.kill()
    _release(effects)
    effects.release("book x hotel")
    workers.start()
    with pytest.raises(RunCancelled):
        kind.result(run, timeout=20)
    assert (_undone(effects), effects.count("x hotel booked")) == ([0, 0, 1], 1)


@each_kind
def test_a_worker_told_to_stop_leaves_a_stopping_run_stopping(workers: Workers, effects: ModuleType, kind: Any) -> None:
    """The undo in flight is stored, the next one begins elsewhere, and no crash is counted."""
    first, run = _booked(workers, kind)
    assert kind.cancel(run, "enough")
    wait_until(lambda: effects.count("at undo x hotel"))
    first.terminate()
    first.wait_log("was told to stop")
    effects.release("undo x hotel")
    assert first.wait() == 0
    row = WorkflowRun.objects.get(id=run)
    assert (row.state, row.ready, row.owner_id, row.recoveries) == ("stopping", True, None, 0)
    assert _undone(effects) == [3, 1, 0]
    shown = " ".join(manage("flow", "show", str(run), COLUMNS="100").stdout.split())
    assert "will be cancelled, 1 undo step is left" in shown
    effects.release("undo x flight")
    workers.start()
    with pytest.raises(RunCancelled, match="enough"):
        kind.result(run, timeout=20)
    assert _undone(effects) == [3, 1, 1]


@each_kind
def test_c131_a_deadline_has_its_run_undone(workers: Workers, effects: ModuleType, kind: Any) -> None:
    """C131: it sleeps at its deadline, is undone by the worker that finds it late, and fails with RunTimedOut."""
    _release(effects)
    _worker, run = _booked(workers, kind, timeout=3)
    with pytest.raises(RunFailed, match="RunTimedOut"):
        kind.result(run, timeout=20)
    assert _undone(effects) == [3, 1, 1]


@each_kind
def test_without_undo_a_run_ends_after_the_undo_in_flight(workers: Workers, effects: ModuleType, kind: Any) -> None:
    """What is left is left out, though the worker has the whole list."""
    _worker, run = _booked(workers, kind)
    kind.cancel(run, "enough")
    wait_until(lambda: effects.count("at undo x hotel"))
    told = manage("flow", "cancel", str(run), "--no-undo").stdout
    assert "stopping" in told
    _release(effects)
    with pytest.raises(RunCancelled, match="enough"):
        kind.result(run, timeout=20)
    assert _undone(effects) == [3, 1, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_an_undo_has_the_timeout_of_its_step(workers: Workers, effects: ModuleType, kind: str) -> None:
    """An attempt that takes longer has failed, and the next one counts; what the first one does late is refused."""
    _worker, run = _booked(workers, flow := FLOWS["undone_in_time", kind])
    assert flow.cancel(run)
    with pytest.raises(RunCancelled):
        flow.result(run, timeout=20)
    assert effects.read() == ["at undo", "room undone"]
    record = StepRecord.objects.get(run_id=run, name="book[undo]")
    assert (record.state, record.attempts) == ("completed", 2)
    assert "StepTimeout" in str(record.errors)
    effects.release("undo")
