"""Claiming: a worker takes ready runs, a batch at a time, with everything that their activations need.

Called by the worker's turn and by the inline driver. PostgreSQL claims in one statement; elsewhere the rows are
locked, then marked. `FOR UPDATE SKIP LOCKED` is only for speed: the guard is that only ready rows are taken.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from ..core import arrows, clock
from ..core.changes import Record
from ..core.claimed import ClaimedRun, Standing
from ..core.journal import Journal
from ..models import WorkflowRun
from ..states import RUNNING, STOPPING
from .db.assignments import assignments
from .db.databases import session_of
from .db.engine import current, transaction
from .db.portable import Portable
from .db.postgresql.statements import claim as claiming
from .db.tables import RUN, STEP, WORKER, placeholders
from .leases import ALONE_FROM

Identities = Sequence[tuple[str, str]]

_COLUMNS = (
    "id", "workflow", "version", "queue", "state", "epoch", "generation", "arguments", "attributes",
    "recoveries", "outages", "ending", "error", "reason", "timeout", "deadline_at",
)  # fmt: skip
_STANDING = _COLUMNS.index("recoveries")
_DEADLINE = _COLUMNS.index("deadline_at")
_RECORD = ("seq", "name", "kind", "state", "attempts", "epoch", "result", "errors", "event_id")
_CLAIMED = assignments(arrows.CLAIM)


def claim(
    connection: BaseDatabaseWrapper,
    owner: UUID,
    most: int,
    known: Identities,
    queues: Sequence[str] = (),
    *,
    alone: bool = False,
) -> list[ClaimedRun]:
    """Take up to `most` ready runs of known workflows: larger priority first, then the oldest.

    `alone`: take one of those whose workers have died again and again; nothing else may run beside it.
    Each claim adds one to the run's epoch. A worker that was found dead gets none. Their records come with `load`.
    """
    if most < 1 or not known:
        return []
    session = session_of(connection)
    if session.writes_at_once and not connection.in_atomic_block:
        runs = _claim_at_once(session, owner, most, known, queues, alone)
    else:
        with transaction(connection), current(connection):
            runs = _claim_locked(session, owner, most, known, queues, alone)
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
    session = session_of(connection)
    ready, parameters = _ready(session, owner, known, queues, alone=True)
    statement = f"SELECT id, queue, workflow, version FROM {RUN} WHERE {ready} ORDER BY priority DESC, id LIMIT 1"
    rows = session.fetch(statement, parameters)
    if not rows:
        return None
    run_id, *rest = rows[0]
    return Suspect(run_id if isinstance(run_id, UUID) else UUID(run_id), *rest)


def load(connection: BaseDatabaseWrapper, runs: Sequence[ClaimedRun]) -> None:
    """Load the records of runs that were just claimed, after the claim has let go of its locks: journals are long."""
    _load(connection, [run for run in runs if not run.fresh])


def _claim_at_once(
    session: Portable, owner: UUID, most: int, known: Identities, queues: Sequence[str], alone: bool
) -> list[ClaimedRun]:
    ready, parameters = _ready(session, owner, known, queues, alone)
    rows = session.prepared(claiming(ready, _COLUMNS), [*parameters, most, owner, clock.now()])
    rows.sort(key=lambda row: (-row[-1], row[0]))
    return [_claimed(row[:-1]) for row in rows]


def _claim_locked(
    session: Portable, owner: UUID, most: int, known: Identities, queues: Sequence[str], alone: bool
) -> list[ClaimedRun]:
    ready, parameters = _ready(session, owner, known, queues, alone)
    statement = (
        f"SELECT {', '.join(_COLUMNS)} FROM {RUN} WHERE {ready} ORDER BY priority DESC, id LIMIT %s"
        f"{session.lock_free_rows}"
    )
    rows = session.fetch(statement, [*parameters, most])
    if not rows:
        return []
    now = clock.now()
    ids = [row[0] for row in rows]
    session.execute(
        f"UPDATE {RUN} SET {_CLAIMED} WHERE id IN ({placeholders(ids)}) AND ready = {session.true}",
        [session.uuid(owner), session.moment(now), *ids],
    )
    runs = [_claimed(_read(session, row)) for row in rows]
    for run in runs:
        run.epoch += 1
        run.state = STOPPING if run.state == STOPPING else RUNNING
    return runs


def _ready(
    session: Portable, owner: UUID, known: Identities, queues: Sequence[str], alone: bool
) -> tuple[str, list[Any]]:
    """Return the condition for runs that may be claimed, and its parameters: none for a worker that was found dead."""
    versions: dict[str, list[str]] = defaultdict(list)
    for name, version in known:
        versions[version].append(name)
    # A stopping run has only its end to come, which needs no code.
    identities, parameters = "state = 'stopping'", []
    for version, names in versions.items():
        identities += f" OR (version = %s AND workflow IN ({placeholders(names)}))"
        parameters += [version, *names]
    # A stopping run is called no more, so nothing can happen to others beside it.
    which = f"(recoveries < {ALONE_FROM} OR state = 'stopping')"
    if alone:
        which = f"recoveries >= {ALONE_FROM} AND state <> 'stopping'"
    condition = (
        f"ready = {session.true} AND {which} AND ({identities}) "
        f"AND EXISTS (SELECT 1 FROM {WORKER} WHERE {WORKER}.id = %s AND {WORKER}.state = 'alive')"
    )
    parameters.append(session.uuid(owner))
    if queues:
        condition += f" AND queue IN ({placeholders(queues)})"
        parameters += queues
    return condition, parameters


def _read(session: Portable, row: Sequence[Any]) -> list[Any]:
    """Return the driver's row with UUIDs and moments as Python has them."""
    values = [row[0] if isinstance(row[0], UUID) else UUID(row[0]), *row[1:]]
    values[_DEADLINE] = session.read_moment(values[_DEADLINE])
    return values


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


def reload(connection: BaseDatabaseWrapper, run: ClaimedRun) -> None:
    """Load a run again for another replay by the same owner: its records, and what others may have changed."""
    row = WorkflowRun.objects.using(connection.alias).filter(id=run.id).values_list(*_COLUMNS).first()
    if row is not None:
        fresh = _claimed(row)
        run.state, run.attributes, run.standing = fresh.state, fresh.attributes, fresh.standing
    _load(connection, [run])
