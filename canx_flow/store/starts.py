"""New runs: in the caller's transaction, plain or under an idempotency key. Called by `client`."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from datetime import datetime
from uuid import UUID

from django.db import connections

from ..core.identity import uuid7_series
from ..models import Timer, WorkflowRun
from ..states import SLEEPING, Kind
from . import attributes, keys, rivals
from .db.databases import session_for
from .db.engine import transaction

#: Runs in one statement.
_BATCH = 2000


def insert(alias: str, run: WorkflowRun, run_at: datetime | None) -> None:
    """Store a new run, and with it the timer of its delayed start, and what it is found by."""
    if run_at is None and (not run.attributes or session_for(alias).indexes_json):
        run.save(using=alias, force_insert=True)
        return
    with transaction(connections[alias]):
        _insert(alias, run, run_at)


def insert_many(alias: str, pattern: WorkflowRun, arguments: Sequence[str]) -> list[UUID]:
    """Store a run like `pattern` for each of these texts of arguments; return their ids, in order."""
    ids = uuid7_series(len(arguments))
    session = session_for(alias)
    session.insert_runs(pattern, ids, arguments)
    attributes.note(session, ids, pattern.attributes)
    return ids


def insert_keyed(alias: str, run: WorkflowRun, run_at: datetime | None) -> keys.Holder | None:
    """Store a new run with an idempotency key; return the run that has the key already, or `None` if it is new.

    A rival never breaks the caller's transaction: see `keys.take`.
    """
    key = str(run.key)

    def attempt() -> keys.Holder | None:
        holder = keys.take(alias, run.workflow, {key: run.id}, f"{run.workflow} {key}")[key]
        if holder[0] != run.id:
            return holder
        _insert(alias, run, run_at)
        return None

    return rivals.repeated(alias, attempt)


def insert_many_keyed(alias: str, pattern: WorkflowRun, arguments: Sequence[str], names: Sequence[str]) -> list[UUID]:
    """Store many runs for a step, which may be repeated: as `insert_many`, each under a key of the step's own.

    Called in a transaction. `names`: the keys, which begin with the step's.
    """
    runs = [copy(pattern) for _ in arguments]
    for run, run_id, text, key in zip(runs, uuid7_series(len(runs)), arguments, names, strict=True):
        run.id, run.arguments, run.key = run_id, text, key
    wanted = {str(run.key): run.id for run in runs}
    # Another call of this step, which is their rival, may have some of these keys and others.
    holders = keys.take(alias, pattern.workflow, wanted, f"{pattern.workflow} {names[0].partition(':')[0]}")
    new = [run for run in runs if holders[str(run.key)][0] == run.id]
    WorkflowRun.objects.using(alias).bulk_create(new, batch_size=_BATCH)
    attributes.note(session_for(alias), [run.id for run in new], pattern.attributes)
    return [holders[key][0] for key in names]


def _insert(alias: str, run: WorkflowRun, run_at: datetime | None) -> None:
    if run_at is not None:
        run.state, run.ready = SLEEPING, False
    run.save(using=alias, force_insert=True)
    attributes.note(session_for(alias), [run.id], run.attributes)
    if run_at is not None:
        Timer.objects.using(alias).create(run_id=run.id, kind=Kind.START, due_at=run_at)
