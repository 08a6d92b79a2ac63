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

from ..core.changes import NO_CHILDREN, Change, Outcome
from ..models import StepRecord, WorkflowRun
from ..states import OWNED, RUNNING, STOPPING, Kind
from . import children, limits, records, settling, waits
from .db.databases import session_of
from .db.engine import current, transaction
from .db.errors import is_taken
from .db.portable import Portable
from .db.tables import RUN, Lease, Locked
from .parents import told_at_once
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


def refused(change: Change) -> Outcome | None:
    """Return what became of a change before this one that was not stored, if this one may build on that.

    What a step has come to builds on nothing that was under way: it is called only once all before it is stored.
    """
    return None if change.chain.refused is None or _is_of_steps(change) else change.chain.refused


def _is_of_steps(change: Change) -> bool:
    if change.settle is not None or change.children is not NO_CHILDREN:
        return False
    records = [*change.inserts, *change.updates]
    return bool(records or change.waits.releases) and all(record.kind in (Kind.STEP, Kind.UNDO) for record in records)


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
        _write_rest(session_of(connection), owner, [change], {change.lease: Locked(row[2])})
    except Conflict:
        return Outcome(False, RUNNING, awake=True)
    return Outcome(True, row[2])


def _write_all(session: Portable, owner: UUID, changes: Sequence[Change]) -> list[Outcome]:
    locked = session.lock(owner, changes)
    plain = [c for c in changes if c.plain and (row := locked.get(c.lease)) is not None and row.state == RUNNING]
    if plain:
        locked.update(session.write_plain(owner, plain, locked))
        if not session.writes_at_once:
            _tell(session, owner, plain, locked)
    if len(plain) == len(changes):
        return _outcomes(session, owner, changes, locked)
    chosen = {id(change) for change in plain}
    written = _write_others(session, owner, [c for c in changes if id(c) not in chosen and c.lease in locked], locked)
    plainly = iter(_outcomes(session, owner, [c for c in changes if id(c) not in written], locked))
    return [written.get(id(c)) or next(plainly) for c in changes]


def _write_others(
    session: Portable, owner: UUID, changes: Sequence[Change], locked: dict[Lease, Locked]
) -> dict[int, Outcome]:
    late = _too_late(changes, locked) if any(c.children.starts for c in changes) else {}
    rest = [c for c in changes if id(c) not in late]
    return late | _write_rest(session, owner, rest, locked) if rest else late


def _too_late(changes: Sequence[Change], locked: dict[Lease, Locked]) -> dict[int, Outcome]:
    """Refuse changes that would start children of runs which are stopping, and what may build on those.

    So nothing starts after a cancel. Their activations look at their runs anew.
    """
    late = {}
    for change in changes:
        row = locked.get(change.lease)
        if row is not None and row.state == STOPPING and (change.children.starts or refused(change)):
            change.chain.refused = late[id(change)] = Outcome(False, STOPPING, awake=True)
    return late


def _tell(session: Portable, owner: UUID, changes: Sequence[Change], locked: dict[Lease, Locked]) -> None:
    """Tell the parents of those of these runs that have completed; note what became of that."""
    ends = {}
    for change in [change for change in changes if change.settle is not None]:
        settle = change.settle
        if settle is not None and settle.parent is not None and locked[change.lease].ended:
            ends[change.lease] = children.End(change.run_id, settle.parent, settle.state, settle.result or "null")
    if ends:
        told = told_at_once(session, owner, list(ends.values()))
        for lease in ends:
            locked[lease].heard = told.heard
        locked[lease].woke = told.woken


def _outcomes(session: Portable, owner: UUID, changes: Sequence[Change], found: dict[Lease, Locked]) -> list[Outcome]:
    rows = [found.get(change.lease) for change in changes]
    pairs = list(zip(changes, rows, strict=True))
    why = {} if all(rows) else _why_missed(session, owner, [change for change, row in pairs if row is None])
    return [
        why[change.lease] if row is None else _stored(row.state) if change.settle is None else _settled(change, row)
        for change, row in pairs
    ]


def _settled(change: Change, row: Locked) -> Outcome:
    state = change.settle.state if change.settle is not None and row.ended else row.state
    if row.heard or row.woke:
        return Outcome(True, state, heard=row.heard, woke=row.woke)
    return _stored(state)


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


def _write_rest(
    session: Portable, owner: UUID, changes: Sequence[Change], locked: dict[Lease, Locked]
) -> dict[int, Outcome]:
    """Write changes that are not plain; return what became of each, by its `id()`."""
    session.insert_records([(change.run_id, record) for change in changes for record in change.inserts])
    records.update(session, changes)
    limits.release(session, changes)
    children.start(session, changes)
    children.give_up(session.connection.alias, changes)
    waits.write(session, changes, locked)
    return settling.settle(session, owner, changes, locked)
