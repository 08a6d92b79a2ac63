"""Timers that are due: one waking path for sleeps, retries, timeouts, delayed starts and deadlines.

Called by workers, and by the inline driver. A timer fires in a transaction that has locked its run first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connections
from django.db.models import Q, QuerySet

from .. import clock, codec
from ..exceptions import RunTimedOut
from ..failures import describe
from ..models import StepRecord, Timer, WorkflowRun
from ..states import FAILED, PENDING, RUNNING, STOPPING, SUSPENDED, Kind, RecordState
from .engine import transaction


@dataclass(slots=True)
class Fired:
    """What a batch of timers led to: runs made ready, and runs ended by their deadline."""

    seen: int = 0
    acted: int = 0
    woken: int = 0
    timed_out: Sequence[UUID] = ()


def next_due(alias: str) -> datetime | None:
    """When the next timer is due, if any is open."""
    return _open(alias).order_by("due_at").values_list("due_at", flat=True).first()


def fire(alias: str, limit: int = 500) -> Fired:
    """Fire up to `limit` due timers. A run whose row somebody has locked keeps its timers for the next time."""
    now = clock.now()
    due = _open(alias).filter(due_at__lte=now)
    run_ids = list(dict.fromkeys(due.order_by("due_at").values_list("run_id", flat=True)[:limit]))
    if not run_ids:
        return Fired()
    with transaction(connections[alias]):
        states = dict(_lock(alias, run_ids))
        # Read again after the lock: another worker may have fired them meanwhile.
        timers = list(due.filter(run_id__in=list(states)))
        _forget_orphans(alias, run_ids)
        fired = _fire(alias, timers, states)
        Timer.objects.using(alias).filter(id__in=[timer.id for timer in timers]).delete()
    fired.seen, fired.acted = len(run_ids), len(timers)
    return fired


def _forget_orphans(alias: str, run_ids: Sequence[UUID]) -> None:
    """Timers of runs that somebody has deleted would be due for ever."""
    there = set(WorkflowRun.objects.using(alias).filter(id__in=run_ids).values_list("id", flat=True))
    if gone := set(run_ids).difference(there):
        Timer.objects.using(alias).filter(run_id__in=gone).delete()


def _fire(alias: str, timers: Sequence[Timer], states: dict[UUID, str]) -> Fired:
    records = StepRecord.objects.using(alias).filter(state=RecordState.OPEN)
    slept = Q()
    others = Q()
    for timer in timers:
        if timer.kind == Kind.SLEEP:
            slept |= Q(run_id=timer.run_id, name=timer.step)
        elif timer.kind in (Kind.RETRY, Kind.WAIT):
            others |= Q(run_id=timer.run_id, name=timer.step)
    if slept:
        records.filter(slept).update(state=RecordState.COMPLETED, finished_at=clock.now())
    if others:
        records.filter(others).update(state=RecordState.DUE)
    late = [timer.run_id for timer in timers if timer.kind == Kind.DEADLINE]
    woken = {timer.run_id for timer in timers if states[timer.run_id] in SUSPENDED}.difference(late)
    runs = WorkflowRun.objects.using(alias)
    runs.filter(id__in=woken, state__in=SUSPENDED).update(state=PENDING, ready=True, reason="")
    return Fired(woken=len(woken), timed_out=_time_out(alias, late, states))


def _time_out(alias: str, late: Sequence[UUID], states: dict[UUID, str]) -> list[UUID]:
    """The deadline of these runs has passed: those at work are told to stop, the others have failed."""
    if not late:
        return []
    now = clock.now()
    error = codec.dumps_plain(describe(RunTimedOut(f"the run had not ended at its deadline, {now:%Y-%m-%d %H:%M:%S}")))
    reason = RunTimedOut.__name__
    runs = WorkflowRun.objects.using(alias)
    working = [run_id for run_id in late if states[run_id] == RUNNING]
    runs.filter(id__in=working).update(state=STOPPING, ending=FAILED, error=error, reason=reason)
    idle = [run_id for run_id in late if states[run_id] in (*SUSPENDED, PENDING)]
    runs.filter(id__in=idle).update(state=FAILED, ready=False, error=error, reason=reason, finished_at=now)
    keep_for_retry(alias, idle)
    return idle


def keep_for_retry(alias: str, run_ids: Sequence[UUID]) -> None:
    """These runs have failed, and may be retried: their waits keep their time and act no more until then."""
    timers = Timer.objects.using(alias).filter(run_id__in=run_ids)
    timers.filter(kind__in=(Kind.DEADLINE, Kind.OUTAGE)).delete()
    timers.update(held=True)


def _open(alias: str) -> QuerySet[Timer]:
    return Timer.objects.using(alias).filter(held=False, due_at__isnull=False)


def _lock(alias: str, run_ids: Sequence[UUID]) -> QuerySet[WorkflowRun, tuple[UUID, str]]:
    skip = connections[alias].features.has_select_for_update_skip_locked
    runs = WorkflowRun.objects.using(alias).filter(id__in=run_ids).order_by("id")
    return runs.select_for_update(skip_locked=skip).values_list("id", "state")
