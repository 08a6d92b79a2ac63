"""Claiming: a worker takes ready runs, a batch at a time, with everything that their activations need.

Called by `queue_claims`, for the worker's turn and the inline driver. How runs are taken is in `taking`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from ..core.changes import Record
from ..core.claimed import ClaimedRun
from ..core.journal import Journal
from ..models import WorkflowRun
from .bookmark import Bookmark
from .db.databases import session_of
from .db.engine import current, transaction
from .db.portable import Portable
from .db.ready import Identities, Taker
from .db.tables import RUN, STEP, placeholders
from .taking import ALIVE, COLUMNS, claimed, take

_RECORD = ("seq", "name", "kind", "state", "attempts", "epoch", "result", "errors", "event_id")
_MOST_RENEWED = 100  # unfinished records of a run that are read by name


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


def taker_within_limits(owner: UUID, known: Identities, queue: str, *, alone: bool) -> Taker:
    """Return what takes of a queue that has limits, once those allow it."""
    return Taker(owner, known, (queue,), alone, leaves_out="")


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
    session, taker = session_of(connection), Taker(owner, known, queues, alone=True, leaves_out="paused")
    look = taker.first(session, 1)
    statement = (
        f"SELECT id, queue, workflow, version FROM {RUN} WHERE id = (SELECT id FROM ({look.text}) suspect) AND {ALIVE}"
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


def _claim_behind(
    session: Portable, taker: Taker, most: int, bookmark: Bookmark | None, anywhere: bool
) -> list[ClaimedRun]:
    if bookmark is None or taker.alone:
        return take(session, taker, most, None).runs
    taken = take(session, taker, most, None if anywhere else bookmark.place)
    if not taken.runs and not anywhere and bookmark.place is not None:
        taken = take(session, taker, most, None)
    if taken.last is not None:
        bookmark.move(taken.last, are_all=len(taken.runs) < most)
    return taken.runs


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
    row = WorkflowRun.objects.using(connection.alias).filter(id=run.id).values_list(*COLUMNS).first()
    if row is not None:
        fresh = claimed(row)
        run.state, run.attributes, run.standing = fresh.state, fresh.attributes, fresh.standing
    if not _renew(connection, run):
        _load(connection, [run])
