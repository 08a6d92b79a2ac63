"""The waits of a change: timers that it opens and closes, events that it reads, and older timers under today's code.

Called by `writes`, in the transaction that has the runs' rows locked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models import DateTimeField, QuerySet, Value
from django.db.models.functions import Coalesce

from ..core import clock
from ..core.changes import Change, Settle
from ..models import Timer
from ..states import PAUSED, Kind
from . import delegations
from .db.portable import Portable
from .db.tables import TIMER, Lease, Locked, placeholders
from .records import AlreadyRead

#: Waits whose events no code can change.
_OWN_EVENTS = (Kind.CALL, Kind.DELEGATE, Kind.LIMIT)
#: Timers that are changed by one statement, where there may be any number.
_AT_ONCE = 1000


def write(session: Portable, changes: Sequence[Change], locked: dict[Lease, Locked]) -> None:
    """Write the waits of these changes. In a paused run every timer is held."""
    alias = session.connection.alias
    # The pause of an earlier outage may be open still, if the run was woken before its end.
    interrupted = [c.run_id for c in changes if any(wait.kind == Kind.OUTAGE for wait in c.waits.opens)]
    if interrupted:
        session.delete(TIMER, "run_id", interrupted, " AND kind = %s", [Kind.OUTAGE])
    opened = [(c, wait) for c in changes for wait in c.waits.opens]
    session.insert_timers([(c.run_id, wait, locked[c.lease].state == PAUSED) for c, wait in opened])
    _delegate(alias, changes)
    reads = [read for change in changes for read in change.waits.reads]
    if reads and session.read_events(reads, clock.now()) != len(reads):
        raise AlreadyRead(reads[0][1])  # One of them. Alone, each change then learns whether it is its own.
    for change in changes:
        _close(session, change)
        if change.settle is not None:
            timers = Timer.objects.using(alias).filter(run_id=change.run_id)
            _follow_code(timers, change, change.settle, held=locked[change.lease].state == PAUSED)


def awaited(alias: str, run_id: UUID, steps: Sequence[str]) -> dict[str, tuple[str, str | None]]:
    """Return for which event, and of which key, these open waits of a run wait, by step.

    Not those that are held: the code does not come to them, and an event that is kept for one would never be read.
    """
    found: dict[str, tuple[str, str | None]] = {}
    for first in range(0, len(steps), _AT_ONCE):
        timers = Timer.objects.using(alias).filter(run_id=run_id, held=False, step__in=steps[first : first + _AT_ONCE])
        rows = timers.filter(event__isnull=False).values_list("step", "event", "key")
        found |= {step: (event, key) for step, event, key in rows if event is not None}
    return found


def _delegate(alias: str, changes: Sequence[Change]) -> None:
    begun = [(change.run_id, each) for change in changes for each in change.waits.delegates]
    if begun:
        delegations.store(alias, begun)
    given_up = [token for change in changes for token in change.waits.gives_up]
    if given_up:
        delegations.call_off(alias, delegations.lose(alias, given_up))


def _close(session: Portable, change: Change) -> None:
    steps: dict[str, list[str]] = defaultdict(list)
    for wait in change.waits.closes:
        steps[wait.kind].append(wait.step)
    for kind, some in steps.items():
        for first in range(0, len(some), _AT_ONCE):
            names = some[first : first + _AT_ONCE]
            rest = f" AND kind = %s AND step IN ({placeholders(names)})"
            session.delete(TIMER, "run_id", [change.run_id], rest, [kind, *names])


def _follow_code(timers: QuerySet[Timer], change: Change, settle: Settle, *, held: bool) -> None:
    """Have waits that were open already wait for what today's code says, in the change that suspends on them.

    One that has a limit keeps its moment; one without gets what the code says now, and loses what it says no more.
    What the code does not come to any more is held, should that code come back.
    """
    opened = {wait.step for wait in change.waits.opens}
    older = [wait for wait in settle.suspension.waits if wait.step and wait.step not in opened]
    plain: dict[str, list[str]] = defaultdict(list)
    for wait in older:
        # Which child or task it waits for no code can change, nor for which limit: that is asked for when it is over.
        if wait.event is None or wait.kind in _OWN_EVENTS:
            if wait.due_at is None or wait.kind != Kind.DELEGATE:
                plain[wait.kind].append(wait.step)
            else:  # A delegated step that could not be dispatched is looked at soon.
                timers.filter(kind=wait.kind, step=wait.step).update(held=held, due_at=wait.due_at)
            continue
        due_at = None if wait.due_at is None else Coalesce("due_at", Value(wait.due_at, DateTimeField()))
        values: dict[str, Any] = {"held": held, "event": wait.event, "key": wait.key, "due_at": due_at}
        timers.filter(kind=wait.kind, step=wait.step).update(**values)
    for kind, steps in plain.items():  # Of branches and items there may be thousands.
        for first in range(0, len(steps), _AT_ONCE):
            timers.filter(kind=kind, step__in=steps[first : first + _AT_ONCE]).update(held=held)
    if settle.suspension.forsaken:
        timers.filter(step__in=settle.suspension.forsaken).update(held=True)
