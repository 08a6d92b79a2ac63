"""Ticking: the schedules that are due start their runs, each tick exactly one, whatever number of workers there is.

Called by workers beside the timers, and by the inline driver. In one transaction: the rows that are due are locked,
each run is stored under the key that its tick names, and each row has its next moment. A worker that dies amid it has
done nothing; one that comes second finds the rows locked, or not due any more.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import Q

from ..core import clock, naming
from ..core.identity import uuid7_series
from ..core.options import checked_note
from ..core.policies import Policies, read
from ..core.recurrence import stamp
from ..core.schedules import Scheduled, Starting
from ..core.ticking import LOOK_AGAIN, OVERLAP, Decision, Standing, decide
from ..models import Schedule, Timer, WorkflowRun
from ..states import UNFINISHED, Kind
from . import keys, runs, schedules
from .db.databases import session_for
from .db.engine import transaction
from .db.tables import SCHEDULE

#: Schedules in one transaction.
MOST = 100
#: Those whose ticks wait for the end of a run.
WAITING = ~Q(buffered="[]")
#: When a schedule is looked at again whose last run it is to cancel, and which somebody has locked.
LOCKED_PAUSE = timedelta(seconds=0.1)
_NONE = Q()
#: Who cancels a run for the next one of its schedule.
CANCELLED = "its schedule starts the next run (overlap: cancel_other)"

#: A schedule that is due, and what it does.
_Decided = tuple[Schedule, Scheduled, Decision]

_WRITE = (
    f"UPDATE {SCHEDULE} SET nominal_at = %s, next_at = %s, due_at = %s, buffered = %s, last_at = %s, last_run_id = %s,"
    " skipped = %s, skipped_since = %s, skip_reason = %s, skip_holder = %s, skipped_ever = skipped_ever + %s,"
    " revision = revision + 1 WHERE id = %s AND revision = %s"
)


@dataclass(slots=True)
class Ticked:
    """What a batch of schedules led to."""

    #: Schedules that were due and not locked by another worker.
    seen: int = 0
    started: list[WorkflowRun] = field(default_factory=list)
    #: Runs that were cancelled for the next one, and those that will be.
    ended: list[WorkflowRun] = field(default_factory=list)
    stopping: list[WorkflowRun] = field(default_factory=list)
    #: There may be more that are due.
    may_be_more: bool = False
    #: Schedules that this process cannot read, and why: others may have the data of their zones, or know their fields.
    unread: dict[str, Exception] = field(default_factory=dict)


def tick(alias: str, declared: Collection[str] | None = None, *, beside: Q = _NONE) -> Ticked:
    """Have up to `MOST` schedules do what is due. `declared`: those that a live worker declares; `None`: all are.
    `beside`: look at these, too, whenever they are to be looked at.

    One that nobody declares is not looked at again before somebody does; one that this process cannot read, a moment
    later.
    """
    ticked = Ticked()
    with transaction(connections[alias]):
        now = clock.now()
        rows = _lock_due(alias, now, beside)
        ticked.seen, ticked.may_be_more = len(rows), len(rows) == MOST
        going = []
        for row in rows:
            if row.origin == Schedule.ADMIN or declared is None or row.name in declared:
                going.append(row)
            else:
                schedules.change(alias, row, due_at=None)
        if going:
            _act(alias, going, now, ticked)
    return ticked


def start(
    alias: str, scheduled: Scheduled, moments: Sequence[datetime], columns: Mapping[str, Any]
) -> list[WorkflowRun]:
    """Store the runs of these ticks, with these columns, in the caller's transaction; not those that there are."""
    return _store(alias, [(scheduled, moment) for moment in moments], columns)


def triggered(alias: str, row: Schedule, scheduled: Scheduled, key: str, note: dict[str, Any]) -> WorkflowRun | None:
    """Store a run of a schedule whose row is locked, beside its ticks; `None` if the key's run is there already."""
    run = _run(scheduled.starting, key, None, uuid7_series(1)[0])
    for column, value in note.items():
        setattr(run, column, value)
    holder = keys.take(alias, run.workflow, {key: run.id}, f"{run.workflow} {key}")[key]
    if holder[0] != run.id:
        return None
    run.save(using=alias, force_insert=True)
    # The next tick looks at the last run alone: one that is at work must not be hidden from it by this one's end.
    if not _unfinished(alias, [row.last_run_id]):
        schedules.change(alias, row, last_run_id=run.id)
    return run


def key_of(name: str, moment: datetime) -> str:
    """Return the key of the run that a tick starts."""
    return f"{name}@{stamp(moment)}"


def _lock_due(alias: str, now: datetime, beside: Q) -> list[Schedule]:
    skip = connections[alias].features.has_select_for_update_skip_locked
    open_ = Schedule.objects.using(alias).filter(due_at__isnull=False).order_by("due_at", "id")
    locked = open_.select_for_update(skip_locked=skip)
    due = list(locked.filter(due_at__lte=now)[:MOST])
    # By a look of its own: for an OR of the two all would be read that are open.
    return due + list(locked.filter(beside, due_at__gt=now)[: MOST - len(due)] if beside else ())


def _act(alias: str, rows: Sequence[Schedule], now: datetime, ticked: Ticked) -> None:
    busy = _unfinished(alias, [row.last_run_id for row in rows])
    decided: list[_Decided] = []
    for row in rows:
        try:
            scheduled = schedules.scheduled(row)
            waiting = [datetime.fromisoformat(text) for text in json.loads(row.buffered)]
            standing = Standing(row.nominal_at, row.next_at, waiting, row.last_run_id in busy)
            decided.append((row, scheduled, decide(scheduled, standing, now)))
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are to tick
            ticked.unread[row.name] = error
            schedules.change(alias, row, due_at=now + LOOK_AGAIN)
    decided, others = _lock_others(alias, decided, now)
    if not decided:
        return
    ticked.started = _store(alias, [(scheduled, each) for _, scheduled, do in decided for each in do.starts])
    _cancel(alias, others, ticked)
    by_key = {run.key: run for run in ticked.started}
    written = [_written(alias, row, do, by_key, now) for row, _, do in decided]
    # All of them are locked, so that none has changed since.
    session_for(alias).execute_many(_WRITE, written)


def _lock_others(
    alias: str, decided: Sequence[_Decided], now: datetime
) -> tuple[list[_Decided], Sequence[WorkflowRun]]:
    """Lock the runs that are to be cancelled for the next ones; return what goes on, and those runs.

    Where another transaction has locked such a run, the schedule ticks a moment later, and alone: nobody is waited for.
    """
    wanted = {row.last_run_id for row, _, do in decided if do.cancels and row.last_run_id}
    others = runs.lock(alias, wanted, skips=True) if wanted else ()
    locked = wanted - {run.id for run in others}
    for row, _, do in decided:
        if do.cancels and row.last_run_id in locked:
            schedules.change(alias, row, due_at=now + LOCKED_PAUSE)
    return [each for each in decided if not (each[2].cancels and each[0].last_run_id in locked)], others


def _unfinished(alias: str, run_ids: Sequence[UUID | None]) -> set[UUID]:
    """Return which of these runs have not ended."""
    there = [run_id for run_id in run_ids if run_id is not None]
    unfinished = WorkflowRun.objects.using(alias).filter(id__in=there, state__in=UNFINISHED)
    return set(unfinished.values_list("id", flat=True)) if there else set()


def _written(
    alias: str, row: Schedule, do: Decision, started: dict[str | None, WorkflowRun], now: datetime
) -> tuple[Any, ...]:
    """Return what the row holds from now on."""
    moment = session_for(alias).moment
    runs_ = [run for each in do.starts if (run := started.get(key_of(row.name, each))) is not None]
    last_at = max([*do.starts, *([row.last_at] if row.last_at else [])], default=None)
    last_run = runs_[-1].id if runs_ else row.last_run_id
    # Those skipped are counted since a run was started last.
    before, since = (0, None) if do.starts else (row.skipped, row.skipped_since)
    skipped = before + do.skipped
    since = (since or now) if skipped else None
    reason = do.reason or (row.skip_reason if skipped else "")
    holder = row.last_run_id if do.reason == OVERLAP else (row.skip_holder if skipped else None)
    if do.reason == OVERLAP and runs_:
        holder = runs_[0].id
    following = do.following
    to_uuid = session_for(alias).uuid
    return (
        moment(following.nominal if following else None), moment(following.due_at if following else None),
        moment(do.due_at),
        json.dumps([stamp(each) for each in do.buffered]), moment(last_at), last_run and to_uuid(last_run),
        skipped, moment(since), reason, holder and to_uuid(holder), do.skipped, row.id, row.revision,
    )  # fmt: skip


def _store(
    alias: str, ticks: Sequence[tuple[Scheduled, datetime]], columns: Mapping[str, Any] = MappingProxyType({})
) -> list[WorkflowRun]:
    """Store a run for each of these ticks under its key; not where its run is there already."""
    made: dict[str, list[WorkflowRun]] = defaultdict(list)
    for (scheduled, moment), run_id in zip(ticks, uuid7_series(len(ticks)), strict=True):
        run = _run(scheduled.starting, key_of(scheduled.name, moment), moment, run_id)
        if scheduled.expires is not None:
            run.policies = Policies(expires_at=run.created_at + scheduled.expires).text
        for column, value in columns.items():
            setattr(run, column, value)
        made[run.workflow].append(run)
    new: list[WorkflowRun] = []
    for workflow in sorted(made):
        wanted = {str(run.key): run.id for run in made[workflow]}
        holders = keys.take(alias, workflow, wanted, f"{workflow} {min(wanted)}")
        new += [run for run in made[workflow] if holders[str(run.key)][0] == run.id]
    WorkflowRun.objects.using(alias).bulk_create(new)
    expiring = [(run.id, read(run.policies).expires_at) for run in new if run.policies is not None]
    Timer.objects.using(alias).bulk_create(
        Timer(run_id=run_id, kind=Kind.EXPIRE, due_at=moment) for run_id, moment in expiring
    )
    return new


def _run(starting: Starting, key: str, moment: datetime | None, run_id: UUID) -> WorkflowRun:
    return WorkflowRun(
        id=run_id, workflow=starting.workflow, version=starting.version, fingerprint=starting.fingerprint,
        created_at=clock.now(), queue=starting.queue, priority=starting.priority, arguments=starting.arguments,
        timeout=starting.timeout, key=naming.checked(key, "key"), scheduled_for=moment,
    )  # fmt: skip


def _cancel(alias: str, others: Sequence[WorkflowRun], ticked: Ticked) -> None:
    if others:
        note = checked_note("cancel", CANCELLED, None)
        ended, stopping = runs.cancel(alias, others, note, undo=True, skips=True)
        ticked.ended, ticked.stopping = list(ended), list(stopping)
