"""Records that a change finishes or takes further: an attempt is never overwritten by an earlier one.

Called by `writes`, in the transaction that has the runs' rows locked. `ended_at` is asked by activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db.models import QuerySet

from ..core.changes import Change, Record
from ..models import StepRecord
from .db.portable import Portable

#: Records that are read by one statement, where there may be any number.
_AT_ONCE = 1000


class Conflict(Exception):  # noqa: N818 - a finding, not an error
    """A record that should be new or unfinished is there already, finished."""


class AlreadyRead(Conflict):
    """An event that a wait has read is not there unread any more."""


def update(session: Portable, changes: Sequence[Change]) -> None:
    """Write the records of these changes that are stored already; Conflict if one of them is finished."""
    rows = _last_of_each(changes)
    if rows and session.update_records(rows) != len(rows):
        raise Conflict(rows[0][1].name)  # One of them. Alone, each change then learns whether it is its own.
    for change in changes:
        renumbered = change.settle.renumbered if change.settle is not None else None
        if renumbered is not None:
            _stored(session.connection.alias, change.run_id, renumbered).update(seq=renumbered.seq)


def _last_of_each(changes: Sequence[Change]) -> list[tuple[UUID, Record]]:
    """Return each record once, as it was taken further last: a wait that is opened may be closed in the same change.

    Written twice it would count twice on some databases and once on others.
    """
    last = {(c.run_id.int, record.name): (c.run_id, record) for c in changes for record in c.updates}
    return list(last.values())


def _stored(alias: str, run_id: UUID, record: Record) -> QuerySet[StepRecord]:
    return StepRecord.objects.using(alias).filter(run_id=run_id, name=record.name)


def ended_at(alias: str, run_id: UUID, steps: Sequence[str]) -> dict[str, datetime]:
    """Return when these records of a run have ended, by step."""
    ended: dict[str, datetime] = {}
    for first in range(0, len(steps), _AT_ONCE):
        rows = StepRecord.objects.using(alias).filter(run_id=run_id, name__in=steps[first : first + _AT_ONCE])
        found = rows.values_list("name", "finished_at")
        ended |= {name: moment for name, moment in found if moment is not None}
    return ended
