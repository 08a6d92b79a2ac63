"""What is due and was not done: runs that no worker has claimed, timers that none has fired, steps that fail again.

A few queries each, all of them indexed and capped, however many runs wait. Called by `health` and `serving`, and by the
views that show such a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any
from uuid import UUID

from django.db.models import Max, QuerySet

from ..models import Event, RunQuerySet, StepRecord, Timer, WorkflowRun
from ..models.conditions import FALSE, HAS_OWNER, TRUE, of_runs
from ..states import PENDING, Kind
from ..store.db.ready import ALONE_FROM
from . import reading
from .reading import Failing

#: Rows that are counted one by one; beyond, "1,000 or more" is enough to know.
MOST = 1000
#: Seconds for which a run that is due may wait for a worker, and a timer that is due for being acted on.
MAX_AGE, STUCK_AFTER = 300.0, 60.0
#: What a run does that has killed its workers again and again.
TO_BE_ALONE = "waits to run alone: one worker claims nothing else until it is empty"
_HEADS = 10  # runs at the head of each priority that are read
_PRIORITIES = 20
_QUEUES = 20
_TIMERS = 10_000  # those that are due next; a retry mostly is within minutes, among sleepers of weeks
_COLUMNS = (
    "id", "workflow", "queue", "priority", "state", "ready", "epoch", "recoveries", "has_undo", "created_at",
    "control_at", "continued_at",
)  # fmt: skip


# -- runs ------------------------------------------------------------------------------------------


def ready(alias: str, queues: Sequence[str] = ()) -> RunQuerySet:
    """Return the runs that may be claimed now."""
    runs = WorkflowRun.objects.using(alias).filter(ready=TRUE)
    return runs.filter(queue__in=queues) if queues else runs.filter(epoch__gte=0)  # As `canx_run_ready` wants it.


@dataclass(frozen=True, slots=True)
class Due:
    """A run that may be claimed and is not; `age`: for how many seconds, as far as that is known. `alone`: it waits to
    run alone, for its workers have died again and again."""

    run_id: UUID
    workflow: str
    queue: str
    age: float
    epoch: int
    alone: bool = False
    #: Why it is not claimed, in English, once that was asked.
    why: str = ""


def oldest_due(alias: str, now: datetime, queues: Sequence[str] = ()) -> list[Due]:
    """Read the runs at the head of each priority, and since when they wait, as far as that is known.

    That is since the run or its generation began, its last control call, record or event, or since a later run of its
    queue was claimed: it cannot have been ready then, for it would have been first.
    """
    return _dated(alias, now, list(_heads(alias, queues)))


def waiting(alias: str, now: datetime, ids: Sequence[UUID]) -> list[Due]:
    """Return the same of these runs, as far as they may still be claimed."""
    runs = WorkflowRun.objects.using(alias).filter(id__in=ids).only(*_COLUMNS)
    return _dated(alias, now, [run for run in runs if run.ready])


def next_in(alias: str, queue: str) -> list[tuple[UUID, datetime]]:
    """Return the next `MOST` runs of a queue, each with what its own row tells of when it became due."""
    rows = ready(alias, [queue]).order_by("-priority", "id")
    found = rows.values_list("id", "created_at", "continued_at", "control_at")[:MOST]
    return [(run_id, max(filter(None, moments))) for run_id, *moments in found]


def longest_wait(alias: str, now: datetime, rows: Sequence[tuple[UUID, datetime]]) -> float:
    """Return for how many seconds the oldest of these waits. Of those oldest by their rows the records are asked, too:
    one may just have been woken."""
    oldest = [run_id for run_id, _since in sorted(rows, key=itemgetter(1))[:_HEADS]]
    runs = WorkflowRun.objects.using(alias).filter(id__in=oldest).only(*_COLUMNS)
    return max((due.age for due in _dated(alias, now, runs)), default=0.0)


def _dated(alias: str, now: datetime, runs: Iterable[WorkflowRun]) -> list[Due]:
    """Find since when each of these runs waits."""
    runs = list(runs)
    if not runs:
        return []
    ids = [run.id for run in runs]
    records = StepRecord.objects.using(alias).filter(of_runs(ids))
    events = Event.objects.using(alias).filter(of_runs(ids), consumed_at=None)
    known = [_latest(records, "started_at"), _latest(records, "finished_at"), _latest(events, "created_at")]
    claimed = _claimed(alias)
    return [_due(run, now, [facts.get(run.id) for facts in known], claimed) for run in runs]


def _heads(alias: str, queues: Sequence[str]) -> Iterator[WorkflowRun]:
    """Yield the first runs of each priority and queue, each an index lookup however many runs wait."""
    for chosen in ([queue] for queue in queues) if queues else ([],):
        runs = ready(alias, chosen).only(*_COLUMNS).order_by("-priority", "id")
        for _ in range(_PRIORITIES):
            head = list(runs[:_HEADS])
            if not head:
                break
            first = [run for run in head if run.priority == head[0].priority]
            yield from first
            runs = runs.filter(priority__lt=head[0].priority)


def _latest(rows: QuerySet[Any], column: str) -> dict[UUID, datetime]:
    return dict(rows.order_by().values_list("run_id").annotate(latest=Max(column)))


def _claimed(alias: str) -> list[WorkflowRun]:
    owned = WorkflowRun.objects.using(alias).filter(HAS_OWNER)
    return list(owned.only("id", "queue", "priority", "started_at")[:MOST])


def _due(run: WorkflowRun, now: datetime, known: Sequence[datetime | None], claimed: Sequence[WorkflowRun]) -> Due:
    facts = [run.created_at, run.continued_at, run.control_at, *known]
    if not run.recoveries:  # Such a run may have to wait until it can run alone.
        facts += [
            other.started_at
            for other in claimed
            if other.queue == run.queue and other.priority <= run.priority and other.id > run.id
        ]
    since = max(fact for fact in facts if fact is not None)
    age = max(0.0, (now - since).total_seconds())
    return Due(run.id, run.workflow, run.queue, age, run.epoch, waits_to_be_alone(run))


def waits_to_be_alone(run: WorkflowRun) -> bool:
    """Tell whether this run is ready, and only a worker with nothing else in flight may take it."""
    return run.ready and run.recoveries >= ALONE_FROM and (run.state == PENDING or run.has_undo)


# -- queues and workflows --------------------------------------------------------------------------


def unserved_queues(alias: str, serves: Callable[[str], bool]) -> dict[str, int]:
    """Return the queues with due runs that no worker serves, with the number of those, up to `MOST`."""
    queues = [queue for queue in _queues_with_work(alias) if not serves(queue)]
    return {queue: ready(alias, [queue])[:MOST].count() for queue in queues}


def unknown_workflows(
    alias: str, queues: Sequence[str], knows: Callable[[tuple[str, str]], bool]
) -> Counter[tuple[str, str]]:
    """Count, by workflow, the next `MOST` due runs whose workflow is not known."""
    due = ready(alias, queues).order_by("-priority", "id").values_list("workflow", "version")[:MOST]
    return Counter(identity for identity in due if not knows(identity))


def _queues_with_work(alias: str) -> Iterator[str]:
    """Yield the queues that have due runs: one index lookup for each, however many runs wait in it."""
    queue, due = None, ready(alias).order_by("queue").values_list("queue", flat=True)
    for _ in range(_QUEUES):
        queue = (due if queue is None else due.filter(queue__gt=queue)).first()
        if queue is None:
            return
        yield queue


# -- timers ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stuck:
    """A timer that is due and was not acted on; `age`: for how many seconds."""

    run_id: UUID
    step: str
    kind: str
    age: float


def stuck_timers(alias: str, now: datetime, stuck_after: float, queues: Sequence[str] = ()) -> Iterator[Stuck]:
    """Yield the timers that are due for longer than `stuck_after`, the oldest first."""
    timers = Timer.objects.using(alias).filter(held=FALSE, due_at__lt=now - timedelta(seconds=stuck_after))
    if queues:
        timers = timers.filter(run__queue__in=queues)
    for timer in timers.order_by("due_at")[:MOST]:
        assert timer.due_at is not None
        yield Stuck(timer.run_id, timer.step, timer.kind, (now - timer.due_at).total_seconds())


@dataclass(frozen=True, slots=True)
class Retrying:
    """A run with such a step; `age`: for how many seconds it has been tried."""

    run_id: UUID
    workflow: str
    age: float
    failing: Failing


def retrying(alias: str, now: datetime, queues: Sequence[str] = ()) -> tuple[int, Retrying | None]:
    """Count the runs that wait for another attempt of a step, of those that are woken next; and return the oldest."""
    timers = Timer.objects.using(alias).filter(held=FALSE, due_at__isnull=False)
    if queues:
        timers = timers.filter(run__queue__in=queues)
    next_due = timers.order_by("due_at").values_list("run_id", "kind")[:_TIMERS]
    ids = list(dict.fromkeys(run_id for run_id, kind in next_due if kind == Kind.RETRY))[:MOST]
    oldest = reading.open_steps(alias, ids).order_by("started_at", "id").first() if ids else None
    if oldest is None:  # Its next attempt has begun in this moment, if there was one.
        return 0, None
    workflow = WorkflowRun.objects.using(alias).filter(id=oldest.run_id).values_list("workflow", flat=True).first()
    age = max(0.0, (now - oldest.started_at).total_seconds())
    return len(ids), Retrying(oldest.run_id, workflow or "", age, reading.failing_record(oldest))
