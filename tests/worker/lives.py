"""What tests of a worker's turn and chores have in common: its clock, and runs that sleep."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from canx_flow.core.clock import now
from canx_flow.models import StepRecord, Timer, WorkflowRun
from canx_flow.states import SLEEPING, Kind, RecordState


class StandingClock:
    """The worker's own clock: it stands until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def asleep(seconds: float, workflow: str = "nobody.knows") -> UUID:
    """A run whose sleep ends in so many seconds."""
    run = WorkflowRun.objects.create(workflow=workflow, state=SLEEPING, ready=False)
    StepRecord.objects.create(run=run, seq=1, name="s", kind=Kind.SLEEP, state=RecordState.OPEN, started_at=now())
    Timer.objects.create(run=run, step="s", kind=Kind.SLEEP, due_at=now() + timedelta(seconds=seconds))
    return run.id
