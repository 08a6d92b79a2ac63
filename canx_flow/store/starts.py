"""New runs: in the caller's transaction, plain or under an idempotency key. Called by `client`."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from django.db import connections

from ..core import policies
from ..core.identity import uuid7_series
from ..models import Timer, WorkflowRun
from ..states import PENDING, SLEEPING
from . import attributes, children, keys, rivals, singletons
from .db.databases import session_for
from .db.engine import transaction
from .db.tables import KEY
from .singletons import Claim

#: Runs in one statement.
_BATCH = 2000


def insert(alias: str, run: WorkflowRun, run_at: datetime | None) -> None:
    """Store a new run, and with it the timers of its delayed start and policies, and what it is found by."""
    if run_at is None and run.policies is None and (not run.attributes or session_for(alias).indexes_json):
        run.save(using=alias, force_insert=True)
        return
    with transaction(connections[alias]):
        _insert(alias, run, run_at)


def insert_many(
    alias: str, pattern: WorkflowRun, arguments: Sequence[str], run_at: datetime | None = None
) -> list[UUID]:
    """Store a run like `pattern` for each of these texts of arguments; return their ids, in order."""
    ids = uuid7_series(len(arguments))
    session = session_for(alias)
    _delay(pattern, run_at)
    session.insert_runs(pattern, ids, arguments)
    attributes.note(session, ids, pattern.attributes)
    _insert_timers(alias, ids, pattern, run_at)
    return ids


def insert_keyed(alias: str, run: WorkflowRun, run_at: datetime | None) -> keys.Holder | None:
    """Store a new run with an idempotency key; return the run that has the key already, or `None` if it is new.

    A rival never breaks the caller's transaction: see `keys.take`.
    """

    def attempt() -> keys.Holder | None:
        if (holder := _take_key(alias, run)) is None:
            _insert(alias, run, run_at)
        return holder

    return rivals.repeated(alias, attempt)


def insert_singleton(alias: str, claim: Claim, run_at: datetime | None) -> tuple[keys.Holder | None, Claim]:
    """Store a new run that holds a name, with or without an idempotency key; return the run that has one of them.

    And what became of the claim of the name: by that attempt which was committed.
    """

    def attempt() -> tuple[keys.Holder | None, Claim]:
        # An attempt that is repeated begins with nothing done.
        own = replace(claim, ended=[], stopping=[], moved=False, behind=None)
        run = own.run
        run.state, run.ready = PENDING, True
        if run.key is not None and (holder := _take_key(alias, run)) is not None:
            return holder, replace(own, by_key=True)
        if (holder := singletons.take(alias, own)) is None:
            _insert(alias, run, run_at, own.behind)
        elif run.key is not None:
            session_for(alias).delete(KEY, "run_id", [run.id])
        return holder, own

    return rivals.repeated(alias, attempt)


def _take_key(alias: str, run: WorkflowRun) -> keys.Holder | None:
    """Give the run its key; return the run that has it already."""
    key = str(run.key)
    holder = keys.take(alias, run.workflow, {key: run.id}, f"{run.workflow} {key}")[key]
    return None if holder[0] == run.id else holder


def insert_many_keyed(
    alias: str,
    pattern: WorkflowRun,
    arguments: Sequence[str],
    names: Sequence[str],
    run_at: datetime | None = None,
) -> list[UUID]:
    """Store many runs for a step, which may be repeated: as `insert_many`, each under a key of the step's own.

    Called in a transaction. `names`: the keys, which begin with the step's.
    """
    _delay(pattern, run_at)
    runs = [copy(pattern) for _ in arguments]
    for run, run_id, text, key in zip(runs, uuid7_series(len(runs)), arguments, names, strict=True):
        run.id, run.arguments, run.key = run_id, text, key
    wanted = {str(run.key): run.id for run in runs}
    # Another call of this step, which is their rival, may have some of these keys and others.
    holders = keys.take(alias, pattern.workflow, wanted, f"{pattern.workflow} {names[0].partition(':')[0]}")
    new = [run for run in runs if holders[str(run.key)][0] == run.id]
    WorkflowRun.objects.using(alias).bulk_create(new, batch_size=_BATCH)
    attributes.note(session_for(alias), [run.id for run in new], pattern.attributes)
    _insert_timers(alias, [run.id for run in new], pattern, run_at)
    return [holders[key][0] for key in names]


def _insert(alias: str, run: WorkflowRun, run_at: datetime | None, behind: UUID | None = None) -> None:
    _delay(run, run_at, behind)
    run.save(using=alias, force_insert=True)
    attributes.note(session_for(alias), [run.id], run.attributes)
    _insert_timers(alias, [run.id], run, run_at, behind)


def _delay(run: WorkflowRun, run_at: datetime | None, behind: UUID | None = None) -> None:
    if run_at is not None or behind is not None:
        run.state, run.ready = SLEEPING, False


def _insert_timers(
    alias: str, ids: Sequence[UUID], run: WorkflowRun, run_at: datetime | None, behind: UUID | None = None
) -> None:
    waits = children.waits_of(policies.read(run.policies), run_at, behind)
    Timer.objects.using(alias).bulk_create(
        Timer(run_id=run_id, kind=wait.kind, due_at=wait.due_at, event=wait.event, key=wait.key)
        for run_id in ids
        for wait in waits
    )
