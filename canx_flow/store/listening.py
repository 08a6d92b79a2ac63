"""Which runs wait for a broadcast: found by the timers of their waits, a part at a time. Called as it is delivered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connections

from ..states import SUSPENDED, Kind
from . import children
from .db.databases import session_for
from .db.postgresql.statements import waits_for
from .db.tables import EVENT, RUN, TIMER

#: Waits that are read together: each may cost a read of the disk, and a statement has some seconds.
MOST_READ = 5_000

_STATES, _GOING = (", ".join(f"'{state}'" for state in some) for some in (SUSPENDED, children.GOING))
#: The run of a wait, if it is suspended (or, where the event cancels it, has not ended), and was not started after a
#: moment. Not by a join, for which PostgreSQL, where it expects many, reads all runs.
_RUN_OF_WAIT = f"""
    (SELECT run.id FROM {RUN} run WHERE run.id = wait.run_id AND run.created_at <= {{}}
      AND (run.state IN ({_STATES}) OR (wait.kind = '{Kind.CANCEL_ON}' AND run.state IN ({_GOING}))))"""


@dataclass(frozen=True, slots=True)
class Broadcast:
    """What decides whether a run waits for it."""

    id: int
    name: str
    key: str | None
    created_at: datetime


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
          SELECT timer.run_id, timer.kind, event.created_at FROM {EVENT} event
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
          SELECT id, run_id, kind FROM {TIMER}{session.by_index("canx_timer_event")}
          WHERE event = %s AND event IS NOT NULL AND {same_key} AND id > %s
          ORDER BY {", ".join(session.in_order("id", null=key))} LIMIT {MOST_READ}
        ) wait"""
    parameters = [session.moment(broadcast.created_at), broadcast.name, *keys, after]
    return session.prepared(statement, parameters, large=True)


def _runs_of(rows: Sequence[Sequence[Any]]) -> list[UUID]:
    """Return what stands last in each row, where that is a run."""
    return [run if isinstance(run, UUID) else UUID(run) for *_, run in rows if run is not None]
