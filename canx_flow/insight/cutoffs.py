"""Calls that were cut off: their worker died, and they left no record and no attempt.

What is known of them is the run's own count, `recoveries`, which begins anew with each stored record, and what dead
workers had reported of the run with their last heartbeat: their rows are kept for a day. Called by `status`, the
timeline and the views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ..models import StepRecord, Worker, WorkflowRun
from ..states import RecordState, WorkerState
from . import reading


@dataclass(frozen=True, slots=True)
class CutOff:
    """A call of `step` that began `since` and was cut off when its worker died, last heard of at `at`."""

    step: str
    attempt: int
    since: datetime | None
    worker: str
    at: datetime


def of(run: WorkflowRun) -> tuple[CutOff, ...]:
    """Read the calls that were cut off since the run's last stored record, oldest first.

    They are fewer than its `recoveries` where a worker died before the heartbeat that would have reported the step. A
    run that was not cut off costs no query.
    """
    if not run.recoveries:
        return ()
    alias = run._state.db
    dead = Worker.objects.using(alias).filter(state=WorkerState.DEAD, activity__contains=str(run.id))
    found = [_cut_off(run, worker) for worker in dead.order_by("-ended_at", "-id")[: run.recoveries]]
    cut_off = [cut for cut in reversed(found) if cut is not None]
    records = StepRecord.objects.using(alias).filter(run_id=run.id, name__in={cut.step for cut in cut_off})
    # A step that has ended since was called again after the worker's death.
    ended = set(records.filter(state__in=(RecordState.COMPLETED, RecordState.FAILED)).values_list("name", flat=True))
    return tuple(cut for cut in cut_off if cut.step not in ended)


def words(recoveries: int, cut_off: Sequence[CutOff], *, since: bool = True) -> str:
    """Return `cut off 2 times since its last stored record: its worker died in step charge`"""
    times = f"cut off {'once' if recoveries == 1 else f'{recoveries:,} times'}"
    steps = ", ".join(dict.fromkeys(cut.step for cut in cut_off))
    where = f" in step {steps}" if steps else ""
    return f"{times}{' since its last stored record' if since else ''}: its worker died{where}"


def _cut_off(run: WorkflowRun, worker: Worker) -> CutOff | None:
    last = reading.reports(worker).get(run.id)
    if last is None or not last.step:
        return None
    return CutOff(last.step, last.attempt, last.since, str(worker), worker.beat_at)
