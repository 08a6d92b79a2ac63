"""Records that a change finishes or takes further: an attempt is never overwritten by an earlier one.

Called by `writes`, in the transaction that has the runs' rows locked.
"""

from __future__ import annotations

from uuid import UUID

from django.db.models import Q, QuerySet

from ..core.changes import Change, Record
from ..models import StepRecord
from ..states import RecordState


class Conflict(Exception):  # noqa: N818 - a finding, not an error
    """A record that should be new or unfinished is there already, finished."""


class AlreadyRead(Conflict):
    """An event that a wait has read is not there unread any more."""


def update(alias: str, change: Change) -> None:
    """Write the change's records that are stored already; Conflict if one of them is finished."""
    for record in change.updates:
        _update(alias, change.run_id, record)
    renumbered = change.settle.renumbered if change.settle is not None else None
    if renumbered is not None:
        _stored(alias, change.run_id, renumbered).update(seq=renumbered.seq)


def _update(alias: str, run_id: UUID, record: Record) -> None:
    unfinished = _stored(alias, run_id, record).exclude(state__in=(RecordState.COMPLETED, RecordState.FAILED))
    # A call that has begun may be taken back; else an attempt is never overwritten by an earlier one.
    earlier = Q(attempts__lte=record.attempts) | Q(state=RecordState.STARTED)
    changed = unfinished.filter(earlier).update(
        seq=record.seq, state=record.state, attempts=record.attempts, epoch=record.epoch, result=record.result,
        errors=record.errors, event_id=record.event_id, finished_at=record.finished_at,
    )  # fmt: skip
    if not changed:
        raise Conflict(record.name)


def _stored(alias: str, run_id: UUID, record: Record) -> QuerySet[StepRecord]:
    return StepRecord.objects.using(alias).filter(run_id=run_id, name=record.name)
