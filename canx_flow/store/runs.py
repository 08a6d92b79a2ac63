"""What others may do to a run: start, cancel, pause, resume, wake, retry. Guarded updates in the caller's transaction.

Called by `client`. The row count is the answer; nothing here asks first and writes later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import Case, Exists, F, OuterRef, Q, Value, When

from .. import clock, codec
from ..exceptions import RunTimedOut
from ..failures import steps_of
from ..models import RunQuerySet, StepRecord, Timer, WorkflowRun
from ..states import (
    CANCELLED,
    FAILED,
    PARKED,
    PAUSED,
    PENDING,
    RUNNING,
    SLEEPING,
    STOPPING,
    SUSPENDED,
    Kind,
    RecordState,
)

#: Times that a deadlock outside the caller's transaction repeats a start.
_REPEATS = 3
_RETRIED: dict[str, Any] = {
    "state": PENDING, "ready": True, "reason": "", "error": None, "ending": "", "finished_at": None,
    "recoveries": 0, "outages": 0,
}  # fmt: skip
_NOT_STOPPING = (PENDING, RUNNING, *SUSPENDED, PAUSED, PARKED)


def cancel(runs: RunQuerySet, note: dict[str, Any]) -> int:
    """End these runs as cancelled, or have their owners stop them; returns how many that was.

    One statement, guarded on the state: a run that ends at this moment is either cancelled or not.
    """
    now = clock.now()
    owned = Q(owner__isnull=False)
    return runs.filter(state__in=_NOT_STOPPING).update(
        # Before `state`, which MySQL would read in its new value.
        epoch=Case(When(owned, then=F("epoch")), default=F("epoch") + 1),
        finished_at=Case(When(owned, then=F("finished_at")), default=Value(now)),
        state=Case(When(owned, then=Value(STOPPING)), default=Value(CANCELLED)),
        ready=False,
        ending=CANCELLED,
        reason=note["control_reason"],
        **note,
    )


def drop_timers(alias: str, run_ids: Sequence[UUID]) -> None:
    """The timers of runs that have ended."""
    Timer.objects.using(alias).filter(run_id__in=run_ids).delete()


def pause(runs: RunQuerySet, note: dict[str, Any]) -> int:
    """Start no further step. The owner stores what is in flight and lets go; timers keep their deadlines."""
    changed = runs.filter(state__in=(PENDING, RUNNING, *SUSPENDED, PARKED)).update(state=PAUSED, ready=False, **note)
    if changed:
        Timer.objects.using(runs.db).filter(run_id__in=runs.values("id")).update(held=True)
    return changed


def resume(runs: RunQuerySet, note: dict[str, Any]) -> int:
    """Go on: a run that still has an owner is running, a delayed start sleeps on, any other is pending."""
    alias = runs.db
    delayed = Exists(Timer.objects.using(alias).filter(run_id=OuterRef("id"), kind=Kind.START))
    paused = runs.filter(state=PAUSED)
    owned = paused.filter(owner__isnull=False).update(state=RUNNING, **note)
    asleep = paused.filter(delayed, owner__isnull=True).update(state=SLEEPING, reason="", **note)
    # It may have been parked before: then it is looked at again.
    free = paused.filter(owner__isnull=True).update(state=PENDING, ready=True, reason="", error=None, **note)
    if owned + asleep + free:
        Timer.objects.using(alias).filter(run_id__in=runs.values("id")).update(held=False)
    return owned + asleep + free


def wake(alias: str, run_id: UUID) -> bool:
    """Have the run's nearest timer, deadlines aside, count as due."""
    timers = Timer.objects.using(alias).filter(run_id=run_id, due_at__isnull=False).exclude(kind=Kind.DEADLINE)
    # Of a run that is not paused or parked, those that are held belong to code that is gone.
    nearest = timers.order_by("held", "due_at", "id").values_list("id", flat=True).first()
    return nearest is not None and timers.filter(id=nearest).update(due_at=clock.now()) == 1


def retry(runs: RunQuerySet, note: dict[str, Any]) -> int:
    """Let every failed or parked one of these runs go on, in a few statements for all of them."""
    # A write comes first: on SQLite a transaction that has only read may find the write lock taken for good.
    runs.filter(state__in=(FAILED, PARKED)).update(**note)
    rows = runs.filter(state__in=(FAILED, PARKED)).order_by("id").only("id", "state", "reason", "error", "deadline_at")
    if connections[runs.db].features.has_select_for_update:
        rows = rows.select_for_update()  # MySQL's snapshot would show other rows than were just written.
    parked: list[WorkflowRun] = []
    late: list[WorkflowRun] = []
    failed: list[WorkflowRun] = []
    for run in rows:
        (parked if run.state == PARKED else late if run.reason == RunTimedOut.__name__ else failed).append(run)
    changed = _unpark(runs.db, parked, note)
    # A run that ended at its deadline gets it anew, counted from its next activation; any other keeps its own.
    changed += _go_on(runs.db, late, note | {"deadline_at": None})
    changed += _go_on(runs.db, failed, note)
    deadlines = [Timer(run_id=r.id, kind=Kind.DEADLINE, due_at=r.deadline_at) for r in failed if r.deadline_at]
    Timer.objects.using(runs.db).bulk_create(deadlines)
    return changed


def _go_on(alias: str, failed: Sequence[WorkflowRun], values: dict[str, Any]) -> int:
    """These runs, which we have locked, with the waits that were kept; what ended each gets fresh attempts."""
    ids = [run.id for run in failed]
    changed = WorkflowRun.objects.using(alias).filter(id__in=ids, state=FAILED).update(**_RETRIED, **values)
    Timer.objects.using(alias).filter(run_id__in=ids).update(held=False)
    ended_by: dict[str, list[UUID]] = defaultdict(list)
    for run in failed:
        for step in steps_of(codec.loads_plain(run.error)) if run.error else ():
            ended_by[step].append(run.id)
    for step, some in ended_by.items():
        records = StepRecord.objects.using(alias).filter(run_id__in=some, name=step, state=RecordState.FAILED)
        records.update(state=RecordState.DUE, attempts=0, finished_at=None, result=None)
    return changed


def _unpark(alias: str, parked: Sequence[WorkflowRun], note: dict[str, Any]) -> int:
    """These runs, which we have locked, whatever parked them."""
    ids = [run.id for run in parked]
    Timer.objects.using(alias).filter(run_id__in=ids).update(held=False)
    chosen = WorkflowRun.objects.using(alias).filter(id__in=ids, state=PARKED)
    return chosen.update(state=PENDING, ready=True, reason="", error=None, recoveries=0, outages=0, **note)
