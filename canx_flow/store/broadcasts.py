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
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connections
from django.db.models import QuerySet

from ..core import arrows, clock
from ..models import Event, StepRecord, Timer, WorkflowRun
from ..models.conditions import FALSE
from ..states import SUSPENDED
from .db.databases import session_for
from .db.engine import transaction
from .db.postgresql.statements import TAKE, waits_for
from .db.tables import EVENT, RUN, TIMER
from .transitions import take as take_arrow

#: How many broadcasts are taken or looked at together, and how many runs are woken together: each takes some ten
#: milliseconds, for which no run is claimed.
MOST = 500
MOST_WOKEN = 100
#: Waits that are read together: each may cost a read of the disk, and a statement has some seconds.
MOST_READ = 5_000

_STATES = ", ".join(f"'{state}'" for state in SUSPENDED)
#: The run of a wait, if it is suspended and was not started after a moment. Not by a join, for which PostgreSQL, where
#: it expects many, reads all runs.
_RUN_OF_WAIT = f"""
    (SELECT run.id FROM {RUN} run WHERE run.id = wait.run_id AND run.created_at <= {{}} AND run.state IN ({_STATES}))"""


@dataclass(frozen=True, slots=True)
class Broadcast:
    """What decides whether a run waits for it."""

    id: int
    name: str
    key: str | None
    created_at: datetime


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


class Place(NamedTuple):
    """Where the waits begin that were not read: of which of the broadcasts' names and keys, behind which timer."""

    group: int
    timer: int = 0


#: Nothing was read yet: if they are few, those of all names and keys are read by one statement or two.
ALL_TOGETHER = Place(-1)


def waiting(
    alias: str, broadcasts: Sequence[Broadcast], place: Place = ALL_TOGETHER
) -> tuple[list[UUID], Place | None]:
    """Return suspended runs that wait for one of these broadcasts, and were not started after it; `None` with the last.

    Up to `MOST_READ` of them, and where the next ones begin. Some may have read it already: `wake` tells.
    """
    newest = _newest(broadcasts)
    if place == ALL_TOGETHER:
        found = _waiting_for_any(alias, newest)
        if found is not None:
            return found, None
        place = Place(0)
    rows: Sequence[Any] = ()
    while not rows and place.group < len(newest):
        rows = _waits_for(alias, newest[place.group], place.timer)
        full = len(rows) == MOST_READ
        place = Place(place.group, max(timer for timer, _run in rows)) if full else Place(place.group + 1)
    return _runs_of(rows), place if place.group < len(newest) else None


def _newest(broadcasts: Sequence[Broadcast]) -> list[Broadcast]:
    """Return the newest of those of each name and key: the runs that wait for it wait for the others, too."""
    newest: dict[tuple[str, str | None], Broadcast] = {}
    for broadcast in broadcasts:
        known = newest.setdefault((broadcast.name, broadcast.key), broadcast)
        if broadcast.created_at > known.created_at:
            newest[broadcast.name, broadcast.key] = broadcast
    return list(newest.values())


def _waiting_for_any(alias: str, newest: Sequence[Broadcast]) -> list[UUID] | None:
    """Return the runs that wait for these; `None` if there are too many waits to read together.

    One statement for those with a key and one for those without, each of which finds its waits by the index; a
    condition for both would read every wait for each broadcast.
    """
    key = connections[alias].ops.quote_name("key")
    found: list[UUID] = []
    for has_key, same_key in ((True, f"timer.{key} = event.{key}"), (False, f"timer.{key} IS NULL")):
        some = [broadcast for broadcast in newest if (broadcast.key is not None) is has_key]
        rows = _waits_for_any(alias, some, same_key) if some else ()
        if len(rows) > MOST_READ:
            return None
        found += _runs_of(rows)
    return list(dict.fromkeys(found))


def _waits_for_any(alias: str, some: Sequence[Broadcast], same_key: str) -> Sequence[Any]:
    """Return a row for each wait, up to one more than may be read; with its run, if that is to be woken."""
    session = session_for(alias)
    select = f"SELECT {_RUN_OF_WAIT.format('wait.created_at')} FROM ("
    if session.writes_at_once:
        columns = [list(column) for column in zip(*((b.name, b.key, b.created_at) for b in some), strict=True)]
        return session.prepared(f"{select}{waits_for(same_key, MOST_READ + 1)}) wait", columns, large=True)
    return session.fetch_of(
        f"""{select}
          SELECT timer.run_id, event.created_at FROM {EVENT} event
          JOIN {TIMER} timer ON timer.event = event.name AND timer.event IS NOT NULL AND {same_key}
          WHERE event.id""",
        [broadcast.id for broadcast in some],
        f" LIMIT {MOST_READ + 1}) wait",
    )


def _waits_for(alias: str, broadcast: Broadcast, after: int) -> Sequence[Any]:
    """Return a row for each of the next waits for this one, behind a timer; with its run, if that is to be woken."""
    session = session_for(alias)
    key = session.connection.ops.quote_name("key")
    same_key, keys = (f"{key} IS NULL", []) if broadcast.key is None else (f"{key} = %s", [broadcast.key])
    statement = f"""
        SELECT wait.id, {_RUN_OF_WAIT.format("%s")} FROM (
          SELECT id, run_id FROM {TIMER}{session.by_index("canx_timer_event")}
          WHERE event = %s AND event IS NOT NULL AND {same_key} AND id > %s
          ORDER BY {", ".join(session.in_order("id", null=key))} LIMIT {MOST_READ}
        ) wait"""
    parameters = [session.moment(broadcast.created_at), broadcast.name, *keys, after]
    return session.prepared(statement, parameters, large=True)


def _runs_of(rows: Sequence[Sequence[Any]]) -> list[UUID]:
    """Return what stands last in each row, where that is a run."""
    return [run if isinstance(run, UUID) else UUID(run) for *_, run in rows if run is not None]


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


def deliver_at_once(alias: str) -> int:
    """Deliver every broadcast where nobody opens a wait at the same moment; return how many runs that woke."""
    woken = 0
    while broadcasts := take(alias):
        place: Place | None = ALL_TOGETHER
        while place is not None:
            run_ids, place = waiting(alias, broadcasts, place)
            for begin in range(0, len(run_ids), MOST_WOKEN):
                woken += wake(alias, broadcasts, run_ids[begin : begin + MOST_WOKEN])[0]
        delivered(alias, [broadcast.id for broadcast in broadcasts])
    return woken


def _events(alias: str) -> QuerySet[Event]:
    return Event.objects.using(alias).filter(run_id=None)


def _read(events: QuerySet[Event]) -> list[Broadcast]:
    return [Broadcast(*row) for row in events.values_list("id", "name", "key", "created_at")]
