"""Broadcasts on their way to the runs that wait for them: each is taken by one worker, which looks for those runs.

Called by the chore `deliver`, which also keeps the protocol. A wait that is being opened in another transaction at the
moment of a look is not seen by it, and does not see the broadcast, for nothing is locked that would order the two. So
there is a last look when a lease has passed and every such transaction has ended; only then is a broadcast delivered.
Where one transaction at a time may write (SQLite), the first look is the last: whichever of the two committed later
has seen the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple
from uuid import UUID

from django.db import connections
from django.db.models import QuerySet

from ..core import arrows, clock
from ..models import Event, StepRecord, Timer, WorkflowRun
from ..models.conditions import FALSE
from ..states import SUSPENDED, Kind
from . import cancelling
from .cancelling import Row
from .db.databases import session_for
from .db.engine import transaction
from .db.postgresql.statements import TAKE
from .listening import ALL_TOGETHER, Broadcast, Place, waiting
from .transitions import take as take_arrow

#: How many broadcasts are taken or looked at together, and how many runs are woken together: each takes some ten
#: milliseconds, for which no run is claimed.
MOST = 500
MOST_WOKEN = 100


def take(alias: str) -> list[Broadcast]:
    """Take the oldest broadcasts that no worker has taken, up to `MOST`: for this worker to deliver.

    Ids do not commit in order: what is taken is marked, not passed over.
    """
    session = session_for(alias)
    if session.writes_at_once:
        rows = session.prepared(TAKE, {"now": clock.now(), "most": MOST}, large=True)
        return sorted((Broadcast(*row) for row in rows), key=attrgetter("id"))
    order = session.in_order("id", null="seen_at")
    new = _events(alias).filter(delivered=FALSE, seen_at=None).order_by(*order)
    ids = list(new.values_list("id", flat=True)[:MOST])
    if not ids:
        return []
    with transaction(session.connection):
        skip = session.connection.features.has_select_for_update_skip_locked
        taken = _read(new.filter(id__in=ids).select_for_update(skip_locked=skip))
        _events(alias).filter(id__in=[broadcast.id for broadcast in taken]).update(seen_at=clock.now())
    return taken


def read(alias: str, ids: Sequence[int]) -> list[Broadcast]:
    """Return those of these broadcasts that are still there and not delivered."""
    return _read(_events(alias).filter(id__in=ids, delivered=FALSE))


@dataclass(frozen=True, slots=True)
class Reached:
    """What broadcasts have led to: how many runs were woken, which have ended, and which were locked: try those again.

    `stopped`: others are stopping, or their children are.
    """

    woken: int = 0
    cancelled: Sequence[UUID] = ()
    locked: Sequence[UUID] = ()
    stopped: bool = False


def wake(alias: str, broadcasts: Sequence[Broadcast], run_ids: Sequence[UUID]) -> Reached:
    """Wake those of these runs, no more than `MOST_WOKEN`, that wait for a broadcast which they have not read.

    Those that one of them cancels are cancelled, whatever they do.
    """
    groups: dict[tuple[str, str | None], list[Broadcast]] = defaultdict(list)
    for broadcast in broadcasts:
        groups[broadcast.name, broadcast.key].append(broadcast)
    runs = WorkflowRun.objects.using(alias)
    # One that has read it waits for the next: it must not be locked for this one again and again.
    started = dict(runs.filter(id__in=run_ids).values_list("id", "created_at"))
    wanted = sorted({wait.run for wait in _waits(alias, groups, started)})
    if not wanted:
        return Reached()
    with transaction(connections[alias]):
        locked = {row.id: row for row in cancelling.lock(alias, wanted)}
        # After the lock: a wait may have read it meanwhile, and its run be waiting for something else.
        waits = _waits(alias, groups, {run_id: started[run_id] for run_id in locked})
        cancels = {wait.run: wait.by for wait in waits if wait.cancels and locked[wait.run].is_going}
        suspended = {wait.run for wait in waits if locked[wait.run].state in SUSPENDED and not wait.cancels}
        woken = take_arrow(alias, arrows.WAKE, sorted(suspended - cancels.keys()))
        ended = _cancel(alias, cancels, locked)
    missed = [run_id for run_id in wanted if run_id not in locked]
    there = list(runs.filter(id__in=missed).values_list("id", flat=True)) if missed else []
    return Reached(woken, ended, there, stopped=bool(cancels))


def _cancel(alias: str, cancels: Mapping[UUID, Broadcast], locked: Mapping[UUID, Row]) -> list[UUID]:
    """Cancel these locked runs, each by its broadcast; return those that have ended."""
    ended: list[UUID] = []
    for by in dict.fromkeys(cancels.values()):
        rows = [locked[run_id] for run_id, cause in cancels.items() if cause == by]
        key = "" if by.key is None else f" with key {by.key!r}"
        ended += cancelling.cancel(alias, rows, clock.now(), f"event {by.name!r}{key}")
    return ended


class _Wait(NamedTuple):
    """An open wait of a run for a broadcast. `cancels`: it does not wait for it, but is cancelled by it."""

    run: UUID
    by: Broadcast
    cancels: bool


def _waits(
    alias: str, groups: Mapping[tuple[str, str | None], Sequence[Broadcast]], started: Mapping[UUID, datetime]
) -> list[_Wait]:
    """Return the open waits of these runs for broadcasts that they have not read.

    `started`: when each of them was.
    """
    if not started:
        return []
    ids = [broadcast.id for group in groups.values() for broadcast in group]
    timers = Timer.objects.using(alias).filter(run_id__in=list(started), event__isnull=False)
    records = StepRecord.objects.using(alias).filter(run_id__in=list(started), event_id__in=ids)
    read_by = set(records.values_list("run_id", "event_id"))
    return [
        _Wait(run_id, broadcast, kind == Kind.CANCEL_ON)
        for run_id, kind, name, key in timers.values_list("run_id", "kind", "event", "key")
        for broadcast in groups.get((str(name), key), ())
        if broadcast.created_at >= started[run_id] and (run_id, broadcast.id) not in read_by
    ]


def delivered(alias: str, ids: Sequence[int]) -> None:
    """Mark these broadcasts, after the last look."""
    _events(alias).filter(id__in=ids).update(delivered=True)


def release(alias: str, before: datetime) -> int:
    """Let other workers take what was taken before a moment, up to `MOST`; return how many that was.

    By a worker that has died since, or whose clock is far behind: then they are looked at once more than need be.
    """
    left = Event.objects.using(alias).filter(delivered=FALSE, seen_at__lt=before).order_by("seen_at", "id")
    ids = list(left.values_list("id", flat=True)[:MOST])
    return _events(alias).filter(id__in=ids, seen_at__lt=before).update(seen_at=None) if ids else 0


def let_go(alias: str, ids: Sequence[int]) -> None:
    """Let other workers take these, which this worker has taken and not looked at."""
    _events(alias).filter(id__in=ids).update(seen_at=None)


def deliver_at_once(alias: str) -> Reached:
    """Deliver every broadcast where nobody opens a wait at the same moment; return what that has led to."""
    woken, stopped, cancelled = 0, False, list[UUID]()
    while broadcasts := take(alias):
        place: Place | None = ALL_TOGETHER
        while place is not None:
            run_ids, place = waiting(alias, broadcasts, place)
            for begin in range(0, len(run_ids), MOST_WOKEN):
                reached = wake(alias, broadcasts, run_ids[begin : begin + MOST_WOKEN])
                woken += reached.woken
                cancelled += reached.cancelled
                stopped = stopped or reached.stopped
        delivered(alias, [broadcast.id for broadcast in broadcasts])
    return Reached(woken, cancelled, stopped=stopped)


def _events(alias: str) -> QuerySet[Event]:
    return Event.objects.using(alias).filter(run_id=None)


def _read(events: QuerySet[Event]) -> list[Broadcast]:
    return [Broadcast(*row) for row in events.values_list("id", "name", "key", "created_at")]
