"""Taking ready runs: a look finds them, and what is free of it becomes a worker's. Used by `claims` and `filling`.

PostgreSQL takes in one statement; elsewhere the rows are locked, then marked. `FOR UPDATE SKIP LOCKED` is only for
speed: the guard is that only ready rows are taken.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from ..core import arrows, clock
from ..core.claimed import ClaimedRun, Origin, Standing
from ..states import RUNNING, STOPPING
from .db.assignments import assignments
from .db.portable import Portable
from .db.postgresql.statements import claim as claiming
from .db.ready import Look, Place, Taker
from .db.tables import RUN, WORKER, placeholders

#: What is read of a run that is claimed.
COLUMNS = (
    "id", "workflow", "version", "queue", "state", "epoch", "generation", "arguments", "attributes",
    "recoveries", "outages", "ending", "error", "reason", "timeout", "deadline_at",
    "fingerprint", "code_changed", "has_undo", "seed", "parent_id", "policies", "scheduled_for",
)  # fmt: skip
_STANDING, _ORIGIN = map(COLUMNS.index, ("recoveries", "seed"))
_MOMENTS = tuple(map(COLUMNS.index, ("deadline_at", "scheduled_for")))
_RUNS = tuple(map(COLUMNS.index, ("seed", "parent_id")))
_CLAIMED = assignments(arrows.CLAIM)
#: That the worker which claims was not found dead.
ALIVE = f"EXISTS (SELECT 1 FROM {WORKER} WHERE {WORKER}.id = %s AND {WORKER}.state = 'alive')"

#: How many runs a look may find beyond those wanted: others', and, where rows are locked, such as others have locked.
_SPARE, _SPARE_OF_LOCKED = 8, 32
#: How many in all, where they are read only as far as they are needed.
_LOOK = 100


class Taken(NamedTuple):
    """What was taken from a look, where the look ended if it was not enough, and the place of the last run taken."""

    runs: list[ClaimedRun]
    ended: Place | None
    last: Place | None = None


def take(session: Portable, taker: Taker, most: int, begin: Place | None) -> Taken:
    """Take from one look after another, until it is enough, or nothing is left.

    What a look has found and this worker has not got is not for it, or another's. So the next one begins behind that.
    """
    take_some = _take_at_once if session.writes_at_once else _take_locked
    some = most + (_SPARE if session.has_one_writer else _SPARE_OF_LOCKED)
    if session.writes_at_once:  # Of few sizes: each is another statement to prepare. How many are taken is a parameter.
        some = 1 << (some - 1).bit_length()
    look = taker.first(session, _LOOK if session.writes_at_once else some, begin)
    runs, place, last = take_some(session, taker, look, most)
    while place is not None and len(runs) < most:
        more, place, later = take_some(session, taker, taker.known_after(session, place, some), most - len(runs))
        runs += more
        last = later or last
    return Taken(runs, None, last)


def _take_at_once(session: Portable, taker: Taker, look: Look, most: int) -> Taken:
    """Take up to so many of the runs that a look finds, by one statement; tell where it ended if it was not enough."""
    statement = claiming(look, taker.condition(session), COLUMNS)
    rows = session.prepared(statement, [*look.parameters, taker.owner, most, most, taker.owner, clock.now()])
    place = (rows[0][-2], rows[0][-1]) if rows and rows[0][-1] is not None else None
    found = [row[:-2] for row in rows if row[0] is not None]
    found.sort(key=lambda row: (-row[-1], row[0]))
    last = (found[-1][-1], found[-1][0]) if found else None
    return Taken([claimed(row[:-1]) for row in found], place, last)


def _take_locked(session: Portable, taker: Taker, look: Look, most: int) -> Taken:
    """Do the same in a transaction: what was found is locked before it is marked, and may be another's by then."""
    found = session.fetch(look.text, look.parameters)
    fitting = [run_id for run_id, _priority, fits in found if fits]
    runs: list[ClaimedRun] = []
    while fitting and len(runs) < most:
        some = fitting[: most - len(runs)]
        del fitting[: len(some)]
        runs += take_these(session, taker, some)
    is_cut = len(found) == look.most
    return Taken(runs, (found[-1][1], found[-1][0]) if is_cut else None)


def take_these(session: Portable, taker: Taker, ids: Sequence[Any]) -> list[ClaimedRun]:
    """Take those of these runs that are ready, and that no other transaction has locked; in the order of the ids."""
    statement = (
        f"SELECT {', '.join(COLUMNS)} FROM {RUN}{session.by_key} "
        f"WHERE {session.is_ready} AND {taker.condition(session)} "
        f"AND id IN ({placeholders(ids)}) AND {ALIVE}{session.lock_free_rows}"
    )
    by_id = {row[0]: row for row in session.fetch(statement, [*ids, session.uuid(taker.owner)])}
    if not by_id:
        return []
    rows = [by_id[run_id] for run_id in ids if run_id in by_id]
    now = clock.now()
    mine = [row[0] for row in rows]
    session.execute(
        f"UPDATE {RUN}{session.by_key} SET {_CLAIMED} WHERE id IN ({placeholders(mine)}) AND {session.is_ready}",
        [session.uuid(taker.owner), session.moment(now), *mine],
    )
    runs = [claimed(_read(session, row)) for row in rows]
    for run in runs:
        run.epoch += 1
        run.state = STOPPING if run.state == STOPPING else RUNNING
    return runs


def _read(session: Portable, row: Sequence[Any]) -> list[Any]:
    """Return the driver's row with UUIDs and moments as Python has them."""
    values = [_uuid(row[0]), *row[1:]]
    for column in _MOMENTS:
        values[column] = session.read_moment(values[column])
    for column in _RUNS:
        if values[column] is not None:
            values[column] = _uuid(values[column])
    return values


def _uuid(value: UUID | str) -> UUID:
    return value if isinstance(value, UUID) else UUID(value)


def claimed(row: Sequence[Any]) -> ClaimedRun:
    standing = [*row[_STANDING:_ORIGIN], Origin(*row[_ORIGIN:])]
    values = [*row[:_STANDING], Standing(*standing)]
    run = ClaimedRun(*values)
    if isinstance(run.attributes, str):
        run.attributes = json.loads(run.attributes)
    return run
