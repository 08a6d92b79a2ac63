"""Claiming: a worker takes ready runs, a batch at a time, with everything that their activations need.

Called by the worker's turn and by the inline driver. PostgreSQL claims in one statement; elsewhere the rows are
locked, then marked. `FOR UPDATE SKIP LOCKED` is only for speed: the guard is that only ready rows are taken.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from ..core import arrows, clock
from ..core.changes import Record
from ..core.claimed import ClaimedRun, Standing
from ..core.journal import Journal
from ..models import WorkflowRun
from ..states import RUNNING, STOPPING
from .bookmark import Bookmark
from .db.assignments import assignments
from .db.databases import session_of
from .db.engine import current, transaction
from .db.portable import Portable
from .db.postgresql.statements import claim as claiming
from .db.ready import Identities, Look, Place, Taker
from .db.tables import RUN, STEP, WORKER, placeholders

_COLUMNS = (
    "id", "workflow", "version", "queue", "state", "epoch", "generation", "arguments", "attributes",
    "recoveries", "outages", "ending", "error", "reason", "timeout", "deadline_at",
    "fingerprint", "code_changed", "seed", "has_undo", "parent_id",
)  # fmt: skip
_STANDING = _COLUMNS.index("recoveries")
_DEADLINE = _COLUMNS.index("deadline_at")
_RUNS = tuple(map(_COLUMNS.index, ("seed", "parent_id")))
_RECORD = ("seq", "name", "kind", "state", "attempts", "epoch", "result", "errors", "event_id")
_MOST_RENEWED = 100  # unfinished records of a run that are read by name
_CLAIMED = assignments(arrows.CLAIM)
_ALIVE = f"EXISTS (SELECT 1 FROM {WORKER} WHERE {WORKER}.id = %s AND {WORKER}.state = 'alive')"

#: How many runs a look may find beyond those wanted: others', and, where rows are locked, such as others have locked.
_SPARE, _SPARE_OF_LOCKED = 8, 32
#: How many in all, where they are read only as far as they are needed.
_LOOK = 100


def claim(
    connection: BaseDatabaseWrapper,
    owner: UUID,
    most: int,
    known: Identities,
    queues: Sequence[str] = (),
    *,
    alone: bool = False,
    bookmark: Bookmark | None = None,
    anywhere: bool = True,
) -> list[ClaimedRun]:
    """Take up to `most` ready runs of known workflows: larger priority first, then the oldest.

    `alone`: take one of those whose workers have died again and again; nothing else may run beside it. `bookmark`: look
    behind it first, unless runs may have become ready `anywhere`; what is taken moves it. Each claim adds one to the
    run's epoch. A worker that was found dead gets none. Their records come with `load`.
    """
    if most < 1 or not known:
        return []
    session, taker = session_of(connection), Taker(owner, known, queues, alone)
    if session.writes_at_once and not connection.in_atomic_block:
        runs = _claim_behind(session, taker, most, bookmark, anywhere)
    else:
        with transaction(connection), current(connection):
            runs = _claim_behind(session, taker, most, bookmark, anywhere)
    now = time.monotonic()
    for run in runs:
        run.claimed_at = now
    return runs


@dataclass(frozen=True, slots=True)
class Suspect:
    """A ready run whose workers have died again and again."""

    id: UUID
    queue: str
    workflow: str
    version: str


def suspect(
    connection: BaseDatabaseWrapper, owner: UUID, known: Identities, queues: Sequence[str] = ()
) -> Suspect | None:
    """Return the run that `claim` would take `alone`, if there is one."""
    if not known:
        return None
    session, taker = session_of(connection), Taker(owner, known, queues, alone=True)
    look = taker.first(session, 1)
    statement = (
        f"SELECT id, queue, workflow, version FROM {RUN} WHERE id = (SELECT id FROM ({look.text}) suspect) AND {_ALIVE}"
    )
    rows = session.fetch(statement, [*look.parameters, session.uuid(owner)])
    if not rows:
        return None
    run_id, *rest = rows[0]
    return Suspect(run_id if isinstance(run_id, UUID) else UUID(run_id), *rest)


def load(connection: BaseDatabaseWrapper, runs: Sequence[ClaimedRun]) -> None:
    """Load the records of runs that were just claimed, after the claim has let go of its locks: journals are long.

    Of a run that has its journal, as its owner before has kept it, only what may have changed since.
    """
    _load(connection, [run for run in runs if not run.blank and not _renew(connection, run)])


class _Taken(NamedTuple):
    """What was taken from a look, where the look ended if it was not enough, and the place of the last run taken."""

    runs: list[ClaimedRun]
    ended: Place | None
    last: Place | None = None


def _claim_behind(
    session: Portable, taker: Taker, most: int, bookmark: Bookmark | None, anywhere: bool
) -> list[ClaimedRun]:
    if bookmark is None or taker.alone:
        return _claim(session, taker, most, None).runs
    taken = _claim(session, taker, most, None if anywhere else bookmark.place)
    if not taken.runs and not anywhere and bookmark.place is not None:
        taken = _claim(session, taker, most, None)
    if taken.last is not None:
        bookmark.move(taken.last, are_all=len(taken.runs) < most)
    return taken.runs


def _claim(session: Portable, taker: Taker, most: int, begin: Place | None) -> _Taken:
    """Take from one look after another, until it is enough, or nothing is left.

    What a look has found and this worker has not got is not for it, or another's. So the next one begins behind that.
    """
    take = _take_at_once if session.writes_at_once else _take_locked
    some = most + (_SPARE if session.has_one_writer else _SPARE_OF_LOCKED)
    if session.writes_at_once:  # Of few sizes: each is another statement to prepare. How many are taken is a parameter.
        some = 1 << (some - 1).bit_length()
    look = taker.first(session, _LOOK if session.writes_at_once else some, begin)
    runs, place, last = take(session, taker, look, most)
    while place is not None and len(runs) < most:
        more, place, later = take(session, taker, taker.known_after(session, place, some), most - len(runs))
        runs += more
        last = later or last
    return _Taken(runs, None, last)


def _take_at_once(session: Portable, taker: Taker, look: Look, most: int) -> _Taken:
    """Take up to so many of the runs that a look finds, by one statement; tell where it ended if it was not enough."""
    statement = claiming(look, taker, _COLUMNS)
    rows = session.prepared(statement, [*look.parameters, taker.owner, most, most, taker.owner, clock.now()])
    place = (rows[0][-2], rows[0][-1]) if rows and rows[0][-1] is not None else None
    found = [row[:-2] for row in rows if row[0] is not None]
    found.sort(key=lambda row: (-row[-1], row[0]))
    last = (found[-1][-1], found[-1][0]) if found else None
    return _Taken([_claimed(row[:-1]) for row in found], place, last)


def _take_locked(session: Portable, taker: Taker, look: Look, most: int) -> _Taken:
    """Do the same in a transaction: what was found is locked before it is marked, and may be another's by then."""
    found = session.fetch(look.text, look.parameters)
    fitting = [run_id for run_id, _priority, fits in found if fits]
    runs: list[ClaimedRun] = []
    while fitting and len(runs) < most:
        some = fitting[: most - len(runs)]
        del fitting[: len(some)]
        runs += _lock_and_mark(session, taker, some)
    is_cut = len(found) == look.most
    return _Taken(runs, (found[-1][1], found[-1][0]) if is_cut else None)


def _lock_and_mark(session: Portable, taker: Taker, ids: Sequence[Any]) -> list[ClaimedRun]:
    statement = (
        f"SELECT {', '.join(_COLUMNS)} FROM {RUN}{session.by_key} WHERE {session.is_ready} AND {taker.condition} "
        f"AND id IN ({placeholders(ids)}) AND {_ALIVE}{session.lock_free_rows}"
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
    runs = [_claimed(_read(session, row)) for row in rows]
    for run in runs:
        run.epoch += 1
        run.state = STOPPING if run.state == STOPPING else RUNNING
    return runs


def _read(session: Portable, row: Sequence[Any]) -> list[Any]:
    """Return the driver's row with UUIDs and moments as Python has them."""
    values = [_uuid(row[0]), *row[1:]]
    values[_DEADLINE] = session.read_moment(values[_DEADLINE])
    for column in _RUNS:
        if values[column] is not None:
            values[column] = _uuid(values[column])
    return values


def _uuid(value: UUID | str) -> UUID:
    return value if isinstance(value, UUID) else UUID(value)


def _claimed(row: Sequence[Any]) -> ClaimedRun:
    values = [*row[:_STANDING], Standing(*row[_STANDING:])]
    run = ClaimedRun(*values)
    if isinstance(run.attributes, str):
        run.attributes = json.loads(run.attributes)
    return run


def _load(connection: BaseDatabaseWrapper, runs: Sequence[ClaimedRun]) -> None:
    """Load all records of all these runs in one SELECT: of each what a replay reads, its values still text."""
    if not runs:
        return
    session = session_of(connection)
    by_id = {session.uuid(run.id): run for run in runs}
    records: dict[Any, list[Record]] = {run_id: [] for run_id in by_id}
    # Which run a record is of costs more to read than all the rest.
    columns = _RECORD if len(runs) == 1 else (*_RECORD, "run_id")
    statement = f"SELECT {', '.join(columns)} FROM {STEP} WHERE run_id"
    alone = records[next(iter(by_id))] if len(runs) == 1 else None
    for row in session.fetch_of(statement, list(by_id), large=True):
        (records[row[-1]] if alone is None else alone).append(Record(*row[: len(_RECORD)]))
    for run_id, run in by_id.items():
        run.journal = Journal(records[run_id])


def _renew(connection: BaseDatabaseWrapper, run: ClaimedRun) -> bool:
    """Load what may have changed in the run's journal; False if it has none, or that is not the database's."""
    if run.journal is None or len(run.journal.unfinished) > _MOST_RENEWED:
        return False
    names = list(run.journal.unfinished)
    rows: Sequence[Any] = ()
    if names:
        session = session_of(connection)
        statement = f"SELECT {', '.join(_RECORD)} FROM {STEP} WHERE run_id = %s AND name IN ({placeholders(names)})"
        rows = session.prepared(statement, [session.uuid(run.id), *names])
    return run.journal.renew(Record(*row) for row in rows)


def has_undo(connection: BaseDatabaseWrapper, run: ClaimedRun) -> bool:
    """Return whether the run has something to be undone, as its row says now."""
    return WorkflowRun.objects.using(connection.alias).filter(id=run.id, has_undo=True).exists()


def reload(connection: BaseDatabaseWrapper, run: ClaimedRun) -> None:
    """Load a run again for another replay by the same owner: its records, and what others may have changed.

    If it has its journal, as that is stored, then of the records only what may have changed.
    """
    row = WorkflowRun.objects.using(connection.alias).filter(id=run.id).values_list(*_COLUMNS).first()
    if row is not None:
        fresh = _claimed(row)
        run.state, run.attributes, run.standing = fresh.state, fresh.attributes, fresh.standing
    if not _renew(connection, run):
        _load(connection, [run])
