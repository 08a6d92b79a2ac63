"""The waits of a change: timers that it opens and closes, events that it reads, and older timers under today's code.

Called by `writes`, in the transaction that has the runs' rows locked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from django.db.models import DateTimeField, QuerySet, Value
from django.db.models.functions import Coalesce

from ..core.changes import Change, Settle
from ..models import Timer
from ..states import PAUSED, Kind
from . import events
from .db.portable import Portable
from .db.tables import TIMER, Lease, Locked
from .records import AlreadyRead

#: Timers that are changed by one statement, where there may be any number.
_AT_ONCE = 1000


def write(session: Portable, changes: Sequence[Change], locked: dict[Lease, Locked]) -> None:
    """Write the waits of these changes. In a paused run every timer is held."""
    alias = session.connection.alias
    # The pause of an earlier outage may be open still, if the run was woken before its end.
    interrupted = [c.run_id for c in changes if any(wait.kind == Kind.OUTAGE for wait in c.opens)]
    if interrupted:
        session.delete(TIMER, "run_id", interrupted, " AND kind = %s", [Kind.OUTAGE])
    session.insert_timers([(c.run_id, wait, locked[c.lease].state == PAUSED) for c in changes for wait in c.opens])
    for change in changes:
        timers = Timer.objects.using(alias).filter(run_id=change.run_id)
        for wait in change.closes:
            timers.filter(kind=wait.kind, step=wait.step).delete()
        for event_id, step in change.consumes:
            if not events.consume(alias, event_id, step):
                raise AlreadyRead(step)
        if change.settle is not None:
            _follow_code(timers, change, change.settle, held=locked[change.lease].state == PAUSED)


def _follow_code(timers: QuerySet[Timer], change: Change, settle: Settle, *, held: bool) -> None:
    """Have waits that were open already wait for what today's code says, in the change that suspends on them.

    One that has a limit keeps its moment; one without gets what the code says now, and loses what it says no more.
    What the code does not come to any more is held, should that code come back.
    """
    opened = {wait.step for wait in change.opens}
    older = [wait for wait in settle.blocked if wait.step and wait.step not in opened]
    plain: dict[str, list[str]] = defaultdict(list)
    for wait in older:
        if wait.event is None or wait.kind == Kind.CALL:  # Which child it waits for, no code can change.
            plain[wait.kind].append(wait.step)
            continue
        due_at = None if wait.due_at is None else Coalesce("due_at", Value(wait.due_at, DateTimeField()))
        values: dict[str, Any] = {"held": held, "event": wait.event, "key": wait.key, "due_at": due_at}
        timers.filter(kind=wait.kind, step=wait.step).update(**values)
    for kind, steps in plain.items():  # Of branches and items there may be thousands.
        for first in range(0, len(steps), _AT_ONCE):
            timers.filter(kind=kind, step__in=steps[first : first + _AT_ONCE]).update(held=held)
    if settle.forsaken:
        timers.filter(step__in=settle.forsaken).update(held=True)
