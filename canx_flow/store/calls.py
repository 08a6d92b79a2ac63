"""The records of calls that wait for their children, or have failed with them: what a retry makes of them.

Called by `runs`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from ..core import codec, naming
from ..models import StepRecord, Timer
from ..models.conditions import of_runs
from ..states import Kind, RecordState
from .children import unread


@dataclass(frozen=True, slots=True)
class Call:
    """The record of a call that waits for its child, or has failed with it."""

    id: int
    run_id: UUID
    step: str
    child: UUID
    has_failed: bool


def calls_of(alias: str, run_ids: Sequence[UUID]) -> list[Call]:
    """Return the calls of these runs whose children have not completed, as far as the runs have read."""
    records = StepRecord.objects.using(alias).filter(of_runs(run_ids), kind=Kind.CALL)
    rows = records.exclude(state=RecordState.COMPLETED).values_list("id", "run_id", "name", "result", "state")
    return [
        Call(key, run_id, name, codec.loads(child), state == RecordState.FAILED)
        for key, run_id, name, child, state in rows
        if child is not None
    ]


def open_again(alias: str, calls: Collection[int]) -> None:
    """Have calls that have failed wait for their children once more."""
    records = StepRecord.objects.using(alias).filter(id__in=calls)
    records.update(state=RecordState.DUE, finished_at=None, errors=None, event_id=None)


def forget_call(alias: str, call: Call) -> None:
    """Delete all that a call has stored in its run, the start of its child included."""
    started = naming.started_by(call.step)
    StepRecord.objects.using(alias).filter(run_id=call.run_id, name__in={call.step, started}, kind=Kind.CALL).delete()
    Timer.objects.using(alias).filter(run_id=call.run_id, kind=Kind.CALL, step=call.step).delete()
    unread(alias, call.run_id, [naming.end_of(call.child)]).delete()
