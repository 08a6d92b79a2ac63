"""Taking an arrow of the state machine: a run's row, its timers and what belongs to its end, in one transaction.

Called by every verb of `store` that changes a run's state. The verb chooses the runs and locks their rows; what is set
in them `core.arrows` says. The hot arrows (claim, complete, suspend, wake) are also taken by hand-written statements,
which are made of the same table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Case, F, Value, When
from django.db.models.functions import Coalesce

from ..core import clock, codec
from ..core.arrows import Arrow, ByState, Set, Timers
from ..core.failures import describe, kind_of, with_decision
from ..models import RunHistory, Timer, WorkflowRun
from ..models.conditions import of_runs
from ..states import Kind
from . import children, history, names
from .db.databases import session_for
from .db.tables import TIMER, none_of

_NOTHING: Mapping[str, Any] = {}


def take(
    alias: str,
    arrow: Arrow,
    run_ids: Sequence[UUID],
    *,
    now: datetime | None = None,
    beside: Mapping[str, Any] = _NOTHING,
    alone: bool = False,
    worker: UUID | None = None,
    detail: str = "",
    notes: list[RunHistory] | None = None,
    **given: Any,
) -> int:
    """Take this arrow with runs that are in one of its states and whose rows are locked; return how many there were.

    `given`: the columns that the table leaves to the verb. `beside`: columns that have nothing to do with the state.
    `alone`: nothing beyond the runs and their timers hangs on it, as is known. `worker`, `detail`: for the history, who
    had the runs, and what is to be told beside. `notes`: where that is put, for the caller to store with others.
    """
    if given.keys() != arrow.given:
        raise TypeError(f"{arrow.verb} is given {sorted(given)}, not {sorted(arrow.given)}")
    if not run_ids:
        return 0
    # By primary key alone: MySQL could find rows through the index of another column, and lock others on the way.
    rows = WorkflowRun.objects.using(alias).filter(id__in=run_ids)
    moment = now or clock.now()
    changed = rows.update(**beside, **_values(arrow, moment, given))
    if arrow.noted and changed:
        noted = history.of_arrow(arrow, run_ids, beside, given, now=moment, detail=detail)
        if notes is None:
            history.store(alias, noted, worker)
        else:
            notes += noted
    follow(alias, arrow, run_ids, alone=alone)
    return changed


def park_stopping(alias: str, arrow: Arrow, run_id: UUID, reason: str, error: type[Exception]) -> None:
    """Park a stopping run whose row is locked; its error holds, beside why, with what it is to end."""
    decided = WorkflowRun.objects.using(alias).values_list("reason", "error").get(id=run_id)
    failure = with_decision(describe(error(reason.partition(": ")[2])), *decided)
    take(alias, arrow, [run_id], reason=reason, error=codec.dumps_plain(failure))


def follow(alias: str, arrow: Arrow, run_ids: Sequence[UUID], *, alone: bool = False) -> None:
    """Do what an arrow does beyond the runs' rows, once these are updated, in the same transaction."""
    _move_timers(alias, arrow.timers, run_ids)
    if alone:
        return
    if arrow.ends:
        has_ended(alias, run_ids)
    elif arrow.stops:
        children.have_stopped(alias, run_ids)


def has_ended(alias: str, run_ids: Sequence[UUID]) -> None:
    """Do what must be stored with the end of these runs, whichever end it is: parents are told, children may stop,
    a name that it held is free, and no event cancels it any more.

    Every end passes here but completions of which it is known what hangs on them: nothing (see `Change.plain`), or a
    parent, which is told together with others.
    """
    names.have_ended(alias, children.have_ended(alias, run_ids))


def _values(arrow: Arrow, now: datetime, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the ORM is to set each column to, in the table's order."""
    return {column: _value(column, value, now, given) for column, value in arrow.sets.items()}


def _value(column: str, value: Any, now: datetime, given: Mapping[str, Any]) -> Any:
    match value:
        case Set.GIVEN:
            return given[column]
        case Set.ERROR_TYPE:
            return kind_of(given["error"])[0]
        case Set.ERROR_PRINT:
            return kind_of(given["error"])[1]
        case Set.NOW:
            return now
        case Set.NOW_IF_NULL:
            return Coalesce(column, Value(now))
        case Set.ONE_MORE:
            return F(column) + 1
        case ByState():
            (_, default), *others = value.values.items()
            cases = [When(state=before, then=Value(after)) for before, after in others]
            return Case(*cases, default=Value(default))
    return value


def _move_timers(alias: str, timers: Timers, run_ids: Sequence[UUID]) -> None:
    if timers is Timers.KEPT:
        return
    if timers in (Timers.DELETED, Timers.DELETED_BUT_EVENT):
        # A cancel that comes too late still acts: what was told to a parent that has given the run up, nothing reads.
        kept = [Kind.CANCEL] if timers is Timers.DELETED else [Kind.CANCEL, Kind.CANCEL_ON]
        session_for(alias).delete(TIMER, "run_id", run_ids, f" AND {none_of(kept)}")
        return
    if timers is Timers.KEPT_FOR_RETRY:
        kinds = [Kind.DEADLINE, Kind.OUTAGE, Kind.CANCEL]
        session_for(alias).delete(TIMER, "run_id", run_ids, " AND kind IN (%s, %s, %s)", kinds)
    Timer.objects.using(alias).filter(of_runs(run_ids)).update(held=timers is not Timers.RELEASED)
