"""Steps at most once that were put on record and then not called: nothing was interrupted."""

from __future__ import annotations

from types import ModuleType

from canx_flow.models import StepRecord, WorkflowRun

from ..crowding import FLOWS
from ..processes import WorkerProcess
from ..waiting import wait_until
from .test_in_flight import each_kind
from .test_in_workers import _ended

_ITEMS, _PAUSES = 600, 6


@each_kind
def test_a_pause_interrupts_no_step_that_was_not_called(worker: WorkerProcess, effects: ModuleType, kind: str) -> None:
    """Several are about to be called when the first of them learns of the pause: each is called once, after it."""
    worker.start()
    flow = FLOWS["once_each", kind]
    run_id = flow.start(_ITEMS)
    for _ in range(_PAUSES):
        before = len(effects.read())
        wait_until(lambda before=before: len(effects.read()) > before)  # type: ignore[misc]
        assert flow.pause(run_id)
        wait_until(lambda: WorkflowRun.objects.filter(id=run_id, owner=None).exists())
        assert not StepRecord.objects.filter(run_id=run_id, kind="step", state="started").exists()
        assert flow.resume(run_id)
    assert _ended(flow, run_id).state == "completed"
    assert sorted(map(int, effects.read())) == list(range(_ITEMS))
