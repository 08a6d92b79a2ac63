"""What became of a change whose answer was lost, and what it means that a row is there already.

Called by the writer. Whether a row is this owner's own is judged only by what no other may change: the epoch and the
attempt of a record, the moment it was begun, and that a run's epoch rises with all that its owner has not done. Not by
a record's state: a timer may have changed it.
"""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from django.db import IntegrityError
from django.db.backends.base.base import BaseDatabaseWrapper

from ..core.changes import Change, Outcome, Record, Settle
from ..models import StepRecord, Timer, WorkflowRun
from ..states import CANCELLED, ENDED, FAILED, OWNED, PAUSED, RUNNING, STOPPING, RecordState
from . import writes
from .db.engine import current
from .db.errors import is_taken
from .records import AlreadyRead, Conflict

#: The states to which a timer may have brought a record that its owner left in this one.
_GOES_ON_AS: dict[str, set[str]] = {RecordState.OPEN: {RecordState.OPEN, RecordState.DUE, RecordState.COMPLETED}}


def write_alone(connection: BaseDatabaseWrapper, owner: UUID, change: Change) -> Outcome:
    """Store one change after its batch has failed: what is there already is ours from a lost answer, or decides.

    Errors are raised, except that a row has the key of one of ours: that is an outcome.
    """
    try:
        return writes.write(connection, owner, [change])[0]
    except (IntegrityError, Conflict) as error:
        if isinstance(error, IntegrityError) and not is_taken(error):
            raise
        with current(connection):
            return _resolve(connection, owner, change, error)


def _resolve(connection: BaseDatabaseWrapper, owner: UUID, change: Change, error: Exception) -> Outcome:
    there = _records(connection, change)
    foreign = [record for record in _all(change) if not _is_ours(change, record, there.get(record.name))]
    if there and not foreign:
        return _outcome_of_stored(connection, owner, change)
    if any(record.name in there for record in foreign):
        rivals = [row for row in there.values() if row.state == RecordState.COMPLETED and row.epoch == change.epoch]
        # A late result of our own, as of an attempt that had timed out. It was first, so it counts.
        return Outcome(False, RUNNING, awake=True) if rivals else Outcome(False, error=error)
    if isinstance(error, AlreadyRead):  # The wait looks again.
        return Outcome(False, RUNNING, awake=True)
    # No record of it is there: a timer that was left open has the key of one of ours.
    known = set(Timer.objects.using(connection.alias).filter(run_id=change.run_id).values_list("kind", "step"))
    waits = change.waits
    opens = tuple(wait for wait in waits.opens if (wait.kind, wait.step) not in known)
    change.waits = replace(waits, opens=opens)
    try:
        return writes.write(connection, owner, [change])[0]
    except Conflict as again:
        return Outcome(False, error=again)
    finally:
        change.waits = waits


def _outcome_of_stored(connection: BaseDatabaseWrapper, owner: UUID, change: Change) -> Outcome:
    """Return how the run stands since everything of this change was stored, and its answer lost."""
    if change.settle is None:
        run = _run(connection, change)
        if run is not None and (run.owner_id, run.epoch) == (owner, change.epoch) and run.state in OWNED:
            return Outcome(True, run.state)
        return find_outcome(connection, change)
    # It may not have let go of its run: something had overtaken it. Then it does so now, or is told of that again.
    outcome = writes.write(connection, owner, [Change(change.run_id, change.epoch, settle=change.settle)])[0]
    return outcome if outcome.stored or outcome.busy else find_outcome(connection, change)


def find_outcome(connection: BaseDatabaseWrapper, change: Change) -> Outcome:
    """Return what became of a change whose answer was lost, and whose run is no more its owner's.

    `stored` and `lost`: it is stored, and then another owner has come.
    """
    with current(connection):
        run = _run(connection, change)
        if run is None:
            return Outcome(False)
        if _was_let_go(run, change.epoch):
            # Whatever an activation stores before it lets go has been stored before that.
            state = RUNNING if change.settle is None else _left_as(change.settle, run.state)
            return Outcome(True, state)
        there = _records(connection, change)
        if not there or not all(_is_ours(change, record, there.get(record.name)) for record in _all(change)):
            return Outcome(False)
        if change.settle is None:
            return Outcome(True, RUNNING, lost=True)
        return Outcome(True, change.settle.state)


def after_commit(connection: BaseDatabaseWrapper, owner: UUID, change: Change) -> Outcome | None:
    """Return the same for the last statement of a step's own transaction; `None`: it was rolled back.

    In a transaction, which waits for the lock on the run's row as long as the lost one is still open.
    """
    runs = WorkflowRun.objects.using(connection.alias).filter(id=change.run_id)
    if connection.features.has_select_for_update:
        runs = runs.select_for_update(no_key=connection.features.has_select_for_no_key_update)
    run = runs.first()
    there = _records(connection, change)
    if run is None or not all(_is_ours(change, record, there.get(record.name)) for record in _all(change)):
        return None
    ours = (run.owner_id, run.epoch) == (owner, change.epoch) and run.state in OWNED
    return Outcome(True, run.state if ours else RUNNING, lost=not ours)


def _was_let_go(run: WorkflowRun, epoch: int) -> bool:
    """Return whether the owner of this epoch has settled the run: a recovery, and an end by others, raise the epoch.

    The next claim does so, too; after a recovery it would be the second time.
    """
    return run.epoch == epoch + 1 if run.owner_id is not None else run.epoch == epoch


def _left_as(settle: Settle, state: str) -> str:
    """Return the state in which this owner has left the run, which is in `state` now; it was paused, or stopping."""
    if state == STOPPING:
        return state
    if settle.state in ENDED:
        return state if state in ENDED or settle.state != FAILED else settle.state
    return state if state in (CANCELLED, PAUSED) else settle.state


def _is_ours(change: Change, record: Record, row: StepRecord | None) -> bool:
    if row is None:
        return False
    is_new = any(record is each for each in change.inserts)
    begun = row.started_at == record.started_at
    if row.epoch != record.epoch:  # A later activation has gone on from it.
        return is_new and begun and row.epoch > record.epoch
    if row.attempts != record.attempts:
        return False
    if is_new:
        return begun or row.seq == record.seq
    return row.state in _GOES_ON_AS.get(record.state, {record.state})


def _all(change: Change) -> list[Record]:
    return [*change.inserts, *change.updates]


def _records(connection: BaseDatabaseWrapper, change: Change) -> dict[str, StepRecord]:
    """Return the rows that have the names of this change's records."""
    names = [record.name for record in _all(change)]
    rows = StepRecord.objects.using(connection.alias).filter(run_id=change.run_id, name__in=names)
    return {row.name: row for row in rows.defer("result", "errors")}


def _run(connection: BaseDatabaseWrapper, change: Change) -> WorkflowRun | None:
    runs = WorkflowRun.objects.using(connection.alias).filter(id=change.run_id)
    return runs.only("id", "owner_id", "epoch", "state").first()
