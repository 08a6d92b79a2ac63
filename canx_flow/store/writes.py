"""What an activation wants stored, written: many changes in one fenced transaction.

Called by the committer (and by atomic steps and the inline driver, with one change). Most changes are plain and
go through the hand-written statements of `db`; the rest goes through the ORM, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from uuid import UUID

from django.db import IntegrityError
from django.db.backends.base.base import BaseDatabaseWrapper

from ..core.changes import Change, Outcome
from ..models import StepRecord, WorkflowRun
from ..states import OWNED, RUNNING, STOPPING
from . import children, records, settling, waits
from .db.databases import session_of
from .db.engine import current, transaction
from .db.errors import is_taken
from .db.portable import Portable
from .db.tables import RUN, Lease, Locked
from .records import Conflict


def write(connection: BaseDatabaseWrapper, owner: UUID, changes: Sequence[Change]) -> list[Outcome]:
    """Store every change whose run is still this owner's; return one outcome each, in order.

    Database errors are raised, and then nothing is stored. A run's changes are stored in the order given, or
    none of them.
    """
    session = session_of(connection)
    for way in _WAYS if not connection.in_atomic_block else _WAYS[-1:]:
        outcomes = way(session, owner, changes)
        if outcomes is not None:
            return outcomes
    raise AssertionError("the last way writes whatever it is given")


def _write_single(session: Portable, owner: UUID, changes: Sequence[Change]) -> list[Outcome] | None:
    """Write one change that is one new record, by one statement; `None` where nothing was written."""
    if len(changes) != 1 or not changes[0].single:
        return None
    state = session.write_single(owner, changes[0])
    return None if state is None else [_stored(state)]


def _write_plain(session: Portable, owner: UUID, changes: Sequence[Change]) -> list[Outcome] | None:
    """Write new records and completions, and tell parents of those, by one statement, where the database has that."""
    if not session.writes_at_once or not all(change.plain for change in changes):
        return None
    found = session.write_plain(owner, changes, {})
    outcomes = _outcomes(session, owner, changes, found)
    left = [c for c in changes if c.settle is not None and c.lease in found and not found[c.lease].ended]
    return _settle_left(session, owner, changes, outcomes, left) if left else outcomes


def _settle_left(
    session: Portable, owner: UUID, changes: Sequence[Change], outcomes: Sequence[Outcome], left: Sequence[Change]
) -> list[Outcome]:
    """Settle runs that are paused or stopping, and so end otherwise. Their records are stored."""
    done = {id(change): outcome for change, outcome in zip(changes, outcomes, strict=True)}
    bare = [Change(change.run_id, change.epoch, settle=change.settle) for change in left]
    for change, outcome in zip(left, _write_in_transaction(session, owner, bare), strict=True):
        done[id(change)] = outcome
    return [done[id(change)] for change in changes]


def _write_in_transaction(session: Portable, owner: UUID, changes: Sequence[Change]) -> list[Outcome]:
    """Write whatever it is, by several statements."""
    with transaction(session.connection), current(session.connection):
        return _write_all(session, owner, changes)


#: The ways to write changes, the cheapest first: each does it, or returns `None`. All commit by themselves; part of a
#: caller's transaction is only what the last one writes.
_WAYS = (_write_single, _write_plain, _write_in_transaction)


def write_waiting(connection: BaseDatabaseWrapper, owner: UUID, change: Change) -> Outcome:
    """Store one change inside the caller's open transaction, waiting for the run's row if another has it locked.

    Whatever is not stored, the caller rolls back.
    """
    connection.validate_no_broken_transaction()
    if change.single:
        try:
            state = session_of(connection).write_one(owner, change)
        except IntegrityError as error:
            if not is_taken(error):
                raise
            return Outcome(False, RUNNING, awake=True)  # Another attempt's result is there.
        return Outcome(False) if state is None else Outcome(True, state)
    rows = WorkflowRun.objects.using(connection.alias).filter(id=change.run_id)
    if connection.features.has_select_for_update:
        rows = rows.select_for_update(no_key=connection.features.has_select_for_no_key_update)
    row = rows.values_list("owner_id", "epoch", "state").first()
    if row is None or row[:2] != (owner, change.epoch) or row[2] not in OWNED:
        return Outcome(False)
    there = StepRecord.objects.using(connection.alias).filter(run_id=change.run_id)
    if there.filter(name__in=[record.name for record in change.inserts]).exists():
        return Outcome(False, RUNNING, awake=True)
    try:
        _write_rest(session_of(connection), [change], {change.lease: Locked(row[2])})
    except Conflict:
        return Outcome(False, RUNNING, awake=True)
    return Outcome(True, row[2])


def _write_all(session: Portable, owner: UUID, changes: Sequence[Change]) -> list[Outcome]:
    locked = session.lock(owner, changes)
    late = _too_late(changes, locked) if any(c.starts for c in changes) else {}
    if late:
        rest = [c for c in changes if id(c) not in late]
        written = dict(zip(map(id, rest), _write_locked(session, owner, rest, locked), strict=True))
        return [late.get(id(c)) or written[id(c)] for c in changes]
    return _write_locked(session, owner, changes, locked)


def _too_late(changes: Sequence[Change], locked: dict[Lease, Locked]) -> dict[int, Outcome]:
    """Refuse changes that would start children of runs which are stopping, and what comes after those.

    So nothing starts after a cancel. Their activations look at their runs anew.
    """
    late = {}
    for change in changes:
        row = locked.get(change.lease)
        if row is not None and row.state == STOPPING and (change.starts or change.chain.broken):
            change.chain.broken = True
            late[id(change)] = Outcome(False, STOPPING, awake=True)
    return late


def _write_locked(
    session: Portable, owner: UUID, changes: Sequence[Change], locked: dict[Lease, Locked]
) -> list[Outcome]:
    plain = [c for c in changes if c.plain and c.lease in locked and locked[c.lease].state == RUNNING]
    chosen = {id(change) for change in plain}
    rest = [c for c in changes if c.lease in locked and id(c) not in chosen]
    if plain:
        locked.update(session.write_plain(owner, plain, locked))
        if not session.writes_at_once:
            children.tell(session, [end for c in plain if (end := _end(c)) is not None and locked[c.lease].ended])
    written = _write_rest(session, rest, locked) if rest else {}
    plainly = iter(_outcomes(session, owner, [c for c in changes if id(c) not in written], locked))
    return [written.get(id(c)) or next(plainly) for c in changes]


def _end(change: Change) -> children.End | None:
    """Return what a child that completes is to tell its parent."""
    settle = change.settle
    if settle is None or settle.parent is None:
        return None
    return children.End(change.run_id, settle.parent, settle.state, settle.result or "null")


def _outcomes(session: Portable, owner: UUID, changes: Sequence[Change], found: dict[Lease, Locked]) -> list[Outcome]:
    rows = [(change, found.get(change.lease)) for change in changes]
    missed = [change for change, row in rows if row is None]
    why = _why_missed(session, owner, missed) if missed else {}
    return [why[change.lease] if row is None else _outcome(change, row) for change, row in rows]


def _outcome(change: Change, row: Locked) -> Outcome:
    return _stored(change.settle.state if change.settle is not None and row.ended else row.state)


@cache
def _stored(state: str) -> Outcome:
    return Outcome(True, state)


def _why_missed(session: Portable, owner: UUID, missed: Sequence[Change]) -> dict[Lease, Outcome]:
    """Return why these rows were not ours to write: taken over, or only locked by a transaction for a while."""
    ids = {session.uuid(change.run_id): change.run_id.int for change in missed}
    ours = session.uuid(owner)
    states = {
        (ids[run_id], epoch): state
        for run_id, owner_id, epoch, state in session.fetch_of(
            f"SELECT id, owner_id, epoch, state FROM {RUN} WHERE id", list(ids)
        )
        if owner_id == ours
    }
    found = ((change.lease, states.get(change.lease, "")) for change in missed)
    return {lease: Outcome(False, state, busy=state in OWNED) for lease, state in found}


def _write_rest(session: Portable, changes: Sequence[Change], locked: dict[Lease, Locked]) -> dict[int, Outcome]:
    """Write changes that are not plain; return what became of each, by its `id()`."""
    session.insert_records([(change.run_id, record) for change in changes for record in change.inserts])
    for change in changes:
        records.update(session.connection.alias, change)
    children.start(session, changes)
    children.stop(session.connection.alias, [child for change in changes for child in change.stops])
    waits.write(session, changes, locked)
    return settling.settle(session, changes, locked)
