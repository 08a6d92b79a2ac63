"""How an activation leaves its run, or goes on with it: the arrow that its change takes, once its records are written.

Called by `writes`, in the transaction that has the runs' rows locked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from ..core import arrows
from ..core.arrows import Arrow
from ..core.changes import Change, Outcome, Settle, Undo
from ..core.naming import end_of
from ..models import RunHistory, StepRecord, WorkflowRun
from ..states import COMPLETED, FAILED, PARKED, PAUSED, PENDING, STOPPING, SUSPENDED, Kind, RecordState
from . import attributes, children, events, generations, history
from .db.portable import Portable
from .db.tables import Lease, Locked
from .transitions import take

#: The arrow from running to the state in which the activation leaves the run.
_LEAVING = {
    **dict.fromkeys(SUSPENDED, arrows.SUSPEND),
    PENDING: arrows.HAND_BACK,
    PARKED: arrows.PARK,
    COMPLETED: arrows.COMPLETE,
    FAILED: arrows.FAIL,
}

#: Waits that end with an event of the engine's own.
_TOLD = (Kind.CALL, Kind.DELEGATE)

#: An arrow, whether nothing hangs on it, and what it is given: runs for which all are equal share a statement.
_Way = tuple[Arrow, bool, tuple[tuple[str, Any], ...]]


def settle(
    session: Portable, owner: UUID, changes: Sequence[Change], locked: dict[Lease, Locked]
) -> dict[int, Outcome]:
    """Write the columns of these changes' runs, which `owner` has; return what became of each change, by its `id()`."""
    alias = session.connection.alias
    outcomes: dict[int, Outcome] = {}
    ways: dict[_Way, list[UUID]] = defaultdict(list)
    notes: list[RunHistory] = []
    for change in changes:
        state = locked[change.lease].state
        arrow = None if change.settle is None else _arrow(alias, change, change.settle, state)
        if arrow is None or change.settle is None:
            _set_columns(session, change, state)
            outcomes[id(change)] = Outcome(True, state, awake=change.settle is not None)
            continue
        source = change.settle.generation if arrow is arrows.CONTINUE else change.settle
        given = {column: getattr(source, column) for column in arrow.given}
        alone = arrow is arrows.COMPLETE and change.settle.parent is None and not change.settle.awaited.policies
        if change.columns:
            # What the arrow sets is newer: the deadline of a generation that has just begun, and is over.
            beside = {column: value for column, value in change.columns.items() if column not in arrow.sets}
            _take(session, notes, arrow, [change.run_id], given, beside, alone=alone)
            _note_attributes(session, change)
        else:
            ways[arrow, alone, tuple(sorted(given.items()))].append(change.run_id)
        after = arrow.to[state]
        # It has failed, and its owner undoes first what it has done.
        awake = arrow is arrows.FAIL_TO_UNDO
        outcomes[id(change)] = Outcome(True, after if isinstance(after, str) else change.settle.state, awake=awake)
    for (arrow, alone, values), run_ids in ways.items():
        _take(session, notes, arrow, run_ids, dict(values), alone=alone)
    history.store(alias, notes, owner)
    return outcomes


def _take(
    session: Portable,
    notes: list[RunHistory],
    arrow: Arrow,
    run_ids: Sequence[UUID],
    given: dict[str, Any],
    beside: dict[str, Any] | None = None,
    *,
    alone: bool,
) -> None:
    """Take an arrow; the one that ends most activations has a statement of its own, which nothing follows."""
    if arrow is arrows.SUSPEND and not beside:
        session.suspend(run_ids, **given)
        return
    take(session.connection.alias, arrow, run_ids, beside=beside or {}, alone=alone, notes=notes, **given)
    if arrow is arrows.CONTINUE:
        generations.begin(session, run_ids)


def _arrow(alias: str, change: Change, settle: Settle, state: str) -> Arrow | None:
    """Return the arrow on which the owner leaves a run in this state; `None`: it keeps it, and replays it again.

    A run that was paused meanwhile is let go; of one that is stopping the end is decided already.
    """
    if state == PAUSED:
        return arrows.LET_GO
    if state == STOPPING:
        return _stopping(alias, change, settle)
    if settle.generation is not None:
        return arrows.CONTINUE
    if settle.state in SUSPENDED and _is_awake(alias, change, settle):
        return None
    if settle.state == FAILED and (change.columns.get("has_undo") or _decided(alias, change)[1]):
        return arrows.FAIL_TO_UNDO if settle.undo is Undo.FOLLOWS else arrows.FAIL_LET_GO
    return _LEAVING[settle.state]


def _stopping(alias: str, change: Change, settle: Settle) -> Arrow | None:
    """Return the same for a run that is stopping: it ends, unless something is to be undone before."""
    ending, has_undo = _decided(alias, change)
    if settle.undo is Undo.DONE or not has_undo:
        return arrows.STOP_FAILED if ending == FAILED else arrows.STOP_CANCELLED
    if settle.undo is Undo.FOLLOWS or (settle.state in SUSPENDED and _is_awake(alias, change, settle)):
        return None
    if settle.state in SUSPENDED:
        return arrows.SUSPEND_UNDO
    return arrows.PARK if settle.state == PARKED else arrows.HAND_BACK_UNDO


def _decided(alias: str, change: Change) -> tuple[str, bool]:
    """Return how the run is to end, if that is decided, and whether it may have something to undo before."""
    return WorkflowRun.objects.using(alias).values_list("ending", "has_undo").get(id=change.run_id)


def _is_awake(alias: str, change: Change, settle: Settle) -> bool:
    """Return whether one of the waits has ended meanwhile. After the row was locked, or a message could be missed."""
    opened = {wait.step for wait in change.waits.opens}
    older = [wait.step for wait in settle.suspension.waits if wait.step and wait.step not in opened]
    if older:
        records = StepRecord.objects.using(alias).filter(run_id=change.run_id, name__in=older)
        if records.exclude(state=RecordState.OPEN).exists():
            return True
    if any(
        events.unread(alias, change.run_id, wait.event, wait.key, settle.suspension.events_read) is not None
        for wait in settle.suspension.waits
        if wait.event is not None and wait.kind not in (*_TOLD, Kind.LIMIT)
    ):
        return True
    begun = {end_of(each.run.id) for each in change.children.starts}  # None of those has ended.
    ends = [wait.event for wait in settle.suspension.waits if wait.kind in _TOLD and wait.event is not None]
    return children.has_end_of(alias, change.run_id, [end for end in ends if end not in begun])


def _set_columns(session: Portable, change: Change, state: str) -> None:
    """Set the columns of a run that its owner keeps. One that is stopping calls no step, so has no more to undo."""
    columns = change.columns
    if state == STOPPING and "has_undo" in columns:
        columns = {name: value for name, value in columns.items() if name != "has_undo"}
    if columns:
        WorkflowRun.objects.using(session.connection.alias).filter(id=change.run_id).update(**columns)
        _note_attributes(session, change)


def _note_attributes(session: Portable, change: Change) -> None:
    if "attributes" in change.columns:
        attributes.note_anew(session, change.run_id, change.columns["attributes"])
