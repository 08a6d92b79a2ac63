"""What does not go on: steps that fail again and again, and runs that are due where no live worker takes them.

A few queries each, all of them indexed and capped, however many runs wait. Called by `health` and `serving`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from ..models import RunQuerySet, Timer, WorkflowRun
from ..states import Kind
from . import reading
from .reading import Failing

#: Rows that are counted one by one; beyond, "1,000 or more" is enough to know.
MOST = 1000
_TIMERS = 10_000  # those that are due next; a retry mostly is within minutes, among sleepers of weeks
_QUEUES = 20


# -- steps that fail -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Retrying:
    """A run with such a step; `age`: for how many seconds it has been tried."""

    run_id: UUID
    workflow: str
    age: float
    failing: Failing


def retrying(alias: str, now: datetime, queues: Sequence[str] = ()) -> tuple[int, Retrying | None]:
    """Count the runs that wait for another attempt of a step, of those that are woken next; and return the oldest."""
    timers = Timer.objects.using(alias).filter(held=False, due_at__isnull=False)
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


# -- runs that no worker takes ------------------------------------------------------------------------


def ready(alias: str, queues: Sequence[str] = ()) -> RunQuerySet:
    """Return the runs that may be claimed now."""
    runs = WorkflowRun.objects.using(alias).filter(ready=True)
    return runs.filter(queue__in=queues) if queues else runs


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
