"""New runs: in the caller's transaction, plain or under an idempotency key. Called by `client`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import copy
from datetime import datetime
from uuid import UUID

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..core.identity import uuid7_series
from ..models import Timer, WorkflowRun
from ..states import PENDING, SLEEPING, Kind
from . import rivals
from .db import vendor
from .db.databases import session_of
from .db.engine import transaction

#: Times to look for a run whose key was taken, and which was gone when it was looked for.
_LOOKS = 3
_MANY = 2000


def insert(alias: str, run: WorkflowRun, run_at: datetime | None) -> None:
    """A new run, and the timer of its delayed start."""
    if run_at is None:
        run.save(using=alias, force_insert=True)
        return
    run.state, run.ready = SLEEPING, False
    with transaction(connections[alias]):
        run.save(using=alias, force_insert=True)
        Timer.objects.using(alias).create(run_id=run.id, kind=Kind.START, due_at=run_at)


def insert_many(alias: str, pattern: WorkflowRun, arguments: Sequence[str]) -> list[UUID]:
    """A run like `pattern` for each of these texts of arguments; their ids, in order."""
    ids = uuid7_series(len(arguments))
    vendor.insert_runs(connections[alias], pattern, ids, arguments)
    return ids


def insert_keyed(alias: str, run: WorkflowRun, run_at: datetime | None) -> tuple[UUID, str] | None:
    """A new run with an idempotency key; the id and state of the run that has it already, or `None` if it is new.

    Never breaks the caller's transaction: a rival's row is a conflict that is ignored, not an error. One exception: on
    PostgreSQL, in a transaction of the caller's that is REPEATABLE READ or SERIALIZABLE, a rival's row may be newer
    than all that this transaction may see. That is a serialization failure, after which only the whole of it can be
    repeated.
    """
    if run_at is not None:
        run.state, run.ready = SLEEPING, False

    def attempt() -> tuple[UUID, str] | None:
        run_id = _insert_or_find(alias, [run], f"{run.workflow} {run.key}")[str(run.key)]
        if run_id != run.id:
            return run_id, _state(connections[alias], run_id)
        if run_at is not None:
            Timer.objects.using(alias).create(run_id=run.id, kind=Kind.START, due_at=run_at)
        return None

    return rivals.repeated(alias, attempt)


def insert_many_keyed(alias: str, pattern: WorkflowRun, arguments: Sequence[str], keys: Sequence[str]) -> list[UUID]:
    """The same as `insert_many` from inside a step, which may be repeated: each run under a key of the step's own."""
    runs = [copy(pattern) for _ in arguments]
    for run, run_id, text, key in zip(runs, uuid7_series(len(runs)), arguments, keys, strict=True):
        run.id, run.arguments, run.key = run_id, text, key
    # Another call of this step, which is their rival, may have some of these keys and others.
    there = _insert_or_find(alias, runs, f"{pattern.workflow} {keys[0].partition(':')[0]}")
    return [there[key] for key in keys]


def _insert_or_find(alias: str, runs: Sequence[WorkflowRun], contest: str) -> dict[str, UUID]:
    """Insert these runs, of one workflow; the id of the run that has each key now: one of these, or a rival's."""
    connection, workflow = connections[alias], runs[0].workflow
    wanted = {str(run.key): run for run in runs}
    every = WorkflowRun.objects.using(alias)
    there: dict[str, UUID] = {}
    for _ in range(_LOOKS):
        with rivals.one_by_one(connection, contest):
            # An INSERT that meets a row takes a lock on MySQL, around that row too. What can be seen is not met.
            if session_of(connection).locks_what_it_meets:
                there |= _with_keys(connection, workflow, wanted)
            # In the order of keys, as every rival does.
            missing = [wanted[key] for key in sorted(wanted.keys() - there.keys())]
            every.bulk_create(missing, batch_size=_MANY, ignore_conflicts=True)
        if missing:
            there |= _with_keys(connection, workflow, [str(run.key) for run in missing], newest=True)
        if len(there) == len(wanted):
            return there
        # A rival's is gone again: then there is room for ours.
    missing = [run for key, run in wanted.items() if key not in there]
    every.bulk_create(missing)  # It is no rival that keeps them out: the database says what does.
    return there | {str(run.key): run.id for run in missing}


def _with_keys(
    connection: BaseDatabaseWrapper, workflow: str, keys: Collection[str], *, newest: bool = False
) -> dict[str, UUID]:
    """The ids of the runs of this workflow that have these keys.

    `newest`: as they are, and not as the caller's snapshot on MySQL has them. That takes a shared lock, which the
    INSERT before it has taken already; of the index only, from which it is answered, so nobody's work on the run waits.
    """
    key = connection.ops.quote_name("key")
    share = " LOCK IN SHARE MODE" if newest and session_of(connection).locks_what_it_meets else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {key}, id FROM {vendor.RUN} WHERE workflow = %s AND {key} IN ({vendor.marks(keys)}){share}",
            [workflow, *keys],
        )
        return {found: run_id if isinstance(run_id, UUID) else UUID(run_id) for found, run_id in cursor.fetchall()}


def _state(connection: BaseDatabaseWrapper, run_id: UUID) -> str:
    """The state of a run that is there; it may be newer than the caller's snapshot, and then it has just begun."""
    state = WorkflowRun.objects.using(connection.alias).filter(id=run_id).values_list("state", flat=True).first()
    return state or PENDING
