"""What an activation wants stored, written: many changes in one fenced transaction.

Called by the committer (and by atomic steps and the inline driver, with one change). Most changes are plain and
go through the hand-written statements of `db`; the rest goes through the ORM, in the same transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

from django.db import IntegrityError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import DateTimeField, Q, QuerySet, Value
from django.db.models.functions import Coalesce

from ..core import arrows
from ..core.changes import Change, Outcome, Record, Settle
from ..models import StepRecord, Timer, WorkflowRun
from ..states import COMPLETED, FAILED, OWNED, PARKED, PAUSED, PENDING, RUNNING, STOPPING, SUSPENDED, Kind, RecordState
from . import events
from .db import vendor
from .db.databases import session_of
from .db.engine import current, transaction
from .db.errors import is_taken
from .db.portable import Portable
from .db.tables import RUN, Lease, Locked
from .transitions import take

#: What takes a running run to the state in which its activation wants to leave it.
_SETTLED = {
    **dict.fromkeys(SUSPENDED, arrows.SUSPEND),
    PENDING: arrows.HAND_BACK,
    PARKED: arrows.PARK,
    COMPLETED: arrows.COMPLETE,
    FAILED: arrows.FAIL,
}


class Conflict(Exception):  # noqa: N818 - a finding, not an error
    """A record that should be new or unfinished is there already, finished."""


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
    """Write new records and completions, by one statement, where the database has one for that."""
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
    """Store one change inside the caller's open transaction, waiting for the run's row if somebody has it locked.

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
    records = StepRecord.objects.using(connection.alias).filter(run_id=change.run_id)
    if records.filter(name__in=[record.name for record in change.inserts]).exists():
        return Outcome(False, RUNNING, awake=True)
    try:
        _write_rest(connection, [change], {change.lease: Locked(row[2])})
    except Conflict:
        return Outcome(False, RUNNING, awake=True)
    return Outcome(True, row[2])


def _write_all(session: Portable, owner: UUID, changes: Sequence[Change]) -> list[Outcome]:
    locked = session.lock(owner, {change.lease for change in changes})
    plain = [c for c in changes if c.plain and c.lease in locked and locked[c.lease].state == RUNNING]
    chosen = {id(change) for change in plain}
    rest = [c for c in changes if c.lease in locked and id(c) not in chosen]
    if plain:
        locked.update(session.write_plain(owner, plain, locked))
    written = _write_rest(session.connection, rest, locked) if rest else {}
    plainly = iter(_outcomes(session, owner, [c for c in changes if id(c) not in written], locked))
    return [written.get(id(c)) or next(plainly) for c in changes]


def _outcomes(session: Portable, owner: UUID, changes: Sequence[Change], found: dict[Lease, Locked]) -> list[Outcome]:
    missed = [change for change in changes if change.lease not in found]
    why = _why_missed(session, owner, missed) if missed else {}
    return [why.get(change.lease) or _outcome(change, found[change.lease]) for change in changes]


def _outcome(change: Change, row: Locked) -> Outcome:
    return _stored(change.settle.state if change.settle is not None and row.ended else row.state)


@cache
def _stored(state: str) -> Outcome:
    return Outcome(True, state)


def _why_missed(session: Portable, owner: UUID, missed: Sequence[Change]) -> dict[Lease, Outcome]:
    """Return why these rows were not ours to write: taken over, or only locked by a transaction for a while."""
    ids = {session.uuid(change.run_id): change.run_id for change in missed}
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


# -- what is not plain ---------------------------------------------------------------------------


def _write_rest(
    connection: BaseDatabaseWrapper, changes: Sequence[Change], locked: dict[Lease, Locked]
) -> dict[int, Outcome]:
    alias = connection.alias
    vendor.insert_records(connection, [(change.run_id, record) for change in changes for record in change.inserts])
    for change in changes:
        for record in change.updates:
            _update_record(alias, change.run_id, record)
        if change.renumbered is not None:
            _record(alias, change.run_id, change.renumbered.name).update(seq=change.renumbered.seq)
    _write_waits(connection, changes, locked)
    outcomes: dict[int, Outcome] = {}
    suspended: dict[tuple[str, str], list[UUID]] = defaultdict(list)
    for change in changes:
        state = locked[change.lease].state
        if change.settle is None:
            _update_run(alias, change)
            outcomes[id(change)] = Outcome(True, state)
        elif state == RUNNING and change.settle.state in SUSPENDED and not change.columns:
            if _is_awake(alias, change, change.settle):
                outcomes[id(change)] = Outcome(True, state, awake=True)
            else:
                suspended[change.settle.state, change.settle.reason].append(change.run_id)
                outcomes[id(change)] = Outcome(True, change.settle.state)
        else:
            outcomes[id(change)] = _settle(alias, change, change.settle, state)
    for (state, reason), ids in suspended.items():
        vendor.suspend(connection, ids, state, reason)
    return outcomes


def _settle(alias: str, change: Change, settle: Settle, state: str) -> Outcome:
    """Leave the run as the activation wants, or as somebody has decided meanwhile."""
    if state == PAUSED:
        return _leave(alias, change, arrows.LET_GO, PAUSED)
    if state == STOPPING:
        decided = WorkflowRun.objects.using(alias).values_list("ending", flat=True).get(id=change.run_id)
        arrow = arrows.STOP_FAILED if decided == FAILED else arrows.STOP_CANCELLED
        return _leave(alias, change, arrow, arrow.to[STOPPING])
    if settle.state in SUSPENDED and _is_awake(alias, change, settle):
        _update_run(alias, change)
        return Outcome(True, state, awake=True)
    arrow = _SETTLED[settle.state]
    return _leave(alias, change, arrow, settle.state, {column: getattr(settle, column) for column in arrow.given})


def _leave(
    alias: str, change: Change, arrow: arrows.Arrow, state: Any, given: Mapping[str, Any] | None = None
) -> Outcome:
    take(alias, arrow, [change.run_id], beside=change.columns, **(given or {}))
    return Outcome(True, state)


def _is_awake(alias: str, change: Change, settle: Settle) -> bool:
    """Whether one of the waits has ended meanwhile. Asked after the row was locked, or a message could be missed."""
    opened = {wait.step for wait in change.opens}
    older = [wait.step for wait in settle.blocked if wait.step and wait.step not in opened]
    if older:
        records = StepRecord.objects.using(alias).filter(run_id=change.run_id, name__in=older)
        if records.exclude(state=RecordState.OPEN).exists():
            return True
    return any(
        events.unread(alias, change.run_id, wait.event, wait.key, settle.consumed) is not None
        for wait in settle.blocked
        if wait.event is not None
    )


def _write_waits(connection: BaseDatabaseWrapper, changes: Sequence[Change], locked: dict[Lease, Locked]) -> None:
    timers = Timer.objects.using(connection.alias)
    # One may be open still, if somebody woke the run meanwhile.
    interrupted = [c.run_id for c in changes if any(wait.kind == Kind.OUTAGE for wait in c.opens)]
    if interrupted:
        vendor.delete(connection, vendor.TIMER, "run_id", interrupted, " AND kind = %s", [Kind.OUTAGE])
    opened = [(c.run_id, wait, locked[c.lease].state == PAUSED) for c in changes for wait in c.opens]
    vendor.insert_timers(connection, opened)
    for change in changes:
        for wait in change.closes:
            timers.filter(run_id=change.run_id, kind=wait.kind, step=wait.step).delete()
        for event_id, step in change.consumes:
            events.consume(connection.alias, event_id, step)
        if change.settle is not None:
            _follow_code(timers.filter(run_id=change.run_id), change, locked[change.lease].state == PAUSED)


def _follow_code(timers: QuerySet[Timer], change: Change, paused: bool) -> None:
    """Have waits that were open already wait for what today's code says, in the change that suspends on them.

    One that has a limit keeps its moment; one without gets what the code says now, and loses what it says no more.
    What the code does not come to any more is held, should that code come back.
    """
    assert change.settle is not None
    opened = {wait.step for wait in change.opens}
    for wait in change.settle.blocked:
        if wait.step in opened or not wait.step:
            continue
        values: dict[str, Any] = {"held": paused}
        if wait.event is not None:
            due_at = None if wait.due_at is None else Coalesce("due_at", Value(wait.due_at, DateTimeField()))
            values.update(event=wait.event, key=wait.key, due_at=due_at)
        timers.filter(kind=wait.kind, step=wait.step).update(**values)
    if change.settle.forsaken:
        timers.filter(step__in=change.settle.forsaken).update(held=True)


def _update_run(alias: str, change: Change) -> None:
    if change.columns:
        WorkflowRun.objects.using(alias).filter(id=change.run_id).update(**change.columns)


def _update_record(alias: str, run_id: UUID, record: Record) -> None:
    unfinished = _record(alias, run_id, record.name)
    unfinished = unfinished.exclude(state__in=(RecordState.COMPLETED, RecordState.FAILED))
    # A call that has begun may be taken back; else an attempt is never overwritten by an earlier one.
    earlier = Q(attempts__lte=record.attempts) | Q(state=RecordState.STARTED)
    changed = unfinished.filter(earlier).update(
        state=record.state, attempts=record.attempts, epoch=record.epoch, result=record.result, errors=record.errors,
        event_id=record.event_id, finished_at=record.finished_at,
    )  # fmt: skip
    if not changed:
        raise Conflict(record.name)


def _record(alias: str, run_id: UUID, name: str) -> QuerySet[StepRecord]:
    return StepRecord.objects.using(alias).filter(run_id=run_id, name=name)
