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
from uuid import UUID

from django.db import connections
from django.db.models import QuerySet

from ..core import arrows, clock
from ..models import Event, StepRecord, Timer, WorkflowRun
from ..models.conditions import FALSE
from ..states import SUSPENDED
from .db.databases import session_for
from .db.engine import transaction
from .db.postgresql.statements import TAKE
from .db.tables import EVENT, RUN, TIMER
from .transitions import take as take_arrow

#: How many broadcasts are taken or looked at together, and how many runs are woken together: each takes some ten
#: milliseconds, for which no run is claimed.
MOST = 500
MOST_WOKEN = 100
MOST_FORGOTTEN = 1000

_STATES = ", ".join(f"'{state}'" for state in SUSPENDED)


@dataclass(frozen=True, slots=True)
class Broadcast:
    """What decides whether a run waits for it."""

    id: int
    name: str
    key: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many events were deleted, and behind which id the next ones are; `None`: there are no more."""

    deleted: int
    last: int | None


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


def waiting(alias: str, broadcasts: Sequence[Broadcast]) -> list[UUID]:
    """Return the suspended runs that wait for one of these broadcasts, and were not started after it.

    Some may have read it already: `wake` tells. One statement for those with a key and one for those without, each of
    which finds its waits by the index; a condition for both would read every wait for each broadcast.
    """
    newest: dict[tuple[str, str | None], Broadcast] = {}
    for broadcast in broadcasts:
        known = newest.setdefault((broadcast.name, broadcast.key), broadcast)
        if broadcast.created_at > known.created_at:
            newest[broadcast.name, broadcast.key] = broadcast
    keyed = [broadcast.id for broadcast in newest.values() if broadcast.key is not None]
    unkeyed = [broadcast.id for broadcast in newest.values() if broadcast.key is None]
    key = connections[alias].ops.quote_name("key")
    found = _waiting(alias, keyed, f"timer.{key} = event.{key}")
    return list(dict.fromkeys(found + _waiting(alias, unkeyed, f"timer.{key} IS NULL")))


def _waiting(alias: str, ids: Sequence[int], same_key: str) -> list[UUID]:
    if not ids:
        return []
    rows = session_for(alias).fetch_of(
        f"""
        SELECT timer.run_id FROM {EVENT} event
        JOIN {TIMER} timer ON timer.event = event.name AND timer.event IS NOT NULL AND {same_key}
        JOIN {RUN} run ON run.id = timer.run_id AND run.created_at <= event.created_at AND run.state IN ({_STATES})
        WHERE event.id""",
        ids,
        large=True,
    )
    return [run_id if isinstance(run_id, UUID) else UUID(run_id) for (run_id,) in rows]


def wake(alias: str, broadcasts: Sequence[Broadcast], run_ids: Sequence[UUID]) -> tuple[int, list[UUID]]:
    """Wake those of these runs, no more than `MOST_WOKEN`, that wait for a broadcast which they have not read.

    Returns how many those were, and the runs that another transaction has locked: to be tried again.
    """
    groups: dict[tuple[str, str | None], list[Broadcast]] = defaultdict(list)
    for broadcast in broadcasts:
        groups[broadcast.name, broadcast.key].append(broadcast)
    runs = WorkflowRun.objects.using(alias)
    # One that has read it waits for the next: it must not be locked for this one again and again.
    started = dict(runs.filter(id__in=run_ids).values_list("id", "created_at"))
    wanted = _waits(alias, groups, started)
    if not wanted:
        return 0, []
    with transaction(connections[alias]):
        skip = connections[alias].features.has_select_for_update_skip_locked
        locked = runs.select_for_update(skip_locked=skip).filter(id__in=wanted).order_by("id")
        states = dict(locked.values_list("id", "state"))
        # After the lock: a wait may have read it meanwhile, and its run be waiting for something else.
        suspended = {run_id: started[run_id] for run_id, state in states.items() if state in SUSPENDED}
        woken = take_arrow(alias, arrows.WAKE, _waits(alias, groups, suspended))
    missed = [run_id for run_id in wanted if run_id not in states]
    return woken, list(runs.filter(id__in=missed).values_list("id", flat=True)) if missed else []


def _waits(
    alias: str, groups: Mapping[tuple[str, str | None], Sequence[Broadcast]], started: Mapping[UUID, datetime]
) -> list[UUID]:
    """Return which of these runs have an open wait for one of these broadcasts that they have not read.

    `started`: when each of them was.
    """
    if not started:
        return []
    ids = [broadcast.id for group in groups.values() for broadcast in group]
    timers = Timer.objects.using(alias).filter(run_id__in=list(started), event__isnull=False)
    records = StepRecord.objects.using(alias).filter(run_id__in=list(started), event_id__in=ids)
    read_by = set(records.values_list("run_id", "event_id"))
    found = {
        run_id
        for run_id, name, key in timers.values_list("run_id", "event", "key")
        for broadcast in groups.get((str(name), key), ())
        if broadcast.created_at >= started[run_id] and (run_id, broadcast.id) not in read_by
    }
    return sorted(found)


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


def forget(alias: str, before: datetime, after: int = 0) -> Forgotten:
    """Delete broadcasts sent before a moment; their dedup ids may come again. Reads `MOST_FORGOTTEN` events at most.

    There is no index of the moments: ids are given in the same order, or nearly, and what is met too early is left to
    the next time. Events sent to single runs, which their runs' pruning deletes, are passed by, but for what runs that
    have continued as new remember of them.
    """
    events = Event.objects.using(alias)
    behind = events.filter(id__gt=after).order_by("id")
    rows = list(behind.values_list("id", "run_id", "delivered", "created_at", "consumed_by")[:MOST_FORGOTTEN])
    ids = [
        key
        for key, run_id, delivered, sent_at, reader in rows
        if (run_id is None or reader == "") and delivered and sent_at < before
    ]
    with transaction(connections[alias]):  # MySQL deletes them one by one.
        deleted = session_for(alias).delete(EVENT, "id", ids)
    is_last = len(rows) < MOST_FORGOTTEN or rows[-1][3] >= before
    return Forgotten(deleted, None if is_last else rows[-1][0])


def forget_all(alias: str, before: datetime) -> int:
    """Delete all broadcasts sent before a moment, in batches; return how many that was."""
    found = forget(alias, before)
    deleted = found.deleted
    while found.last is not None:
        found = forget(alias, before, found.last)
        deleted += found.deleted
    return deleted


def deliver_at_once(alias: str) -> int:
    """Deliver every broadcast where nobody opens a wait at the same moment; return how many runs that woke."""
    woken = 0
    while broadcasts := take(alias):
        run_ids = waiting(alias, broadcasts)
        for begin in range(0, len(run_ids), MOST_WOKEN):
            woken += wake(alias, broadcasts, run_ids[begin : begin + MOST_WOKEN])[0]
        delivered(alias, [broadcast.id for broadcast in broadcasts])
    return woken


def _events(alias: str) -> QuerySet[Event]:
    return Event.objects.using(alias).filter(run_id=None)


def _read(events: QuerySet[Event]) -> list[Broadcast]:
    return [Broadcast(*row) for row in events.values_list("id", "name", "key", "created_at")]
