"""What keeps runs from getting done, as it was found within the last seconds: for a banner that every page shows.

However many pages are asked for, a process looks once in `FRESH` seconds, and for a twentieth of its time at most.
Called by the admin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from uuid import UUID

from django.db import DatabaseError

from .. import conf
from ..models import WorkflowRun
from ..models.conditions import HAS_OWNER, in_states
from ..states import PARKED, UNFINISHED
from . import counting, health, overdue
from .health import Health
from .kept import Kept
from .serving import Serving

#: Seconds for which what was found is shown again: no longer than from one refresh of a run's page to the next.
FRESH = 2.0
#: Queues and workflows that are named one by one.
MOST_NAMED = 5
_UNKNOWN = "UnknownWorkflow"


@dataclass(frozen=True, slots=True)
class Pulse:
    """What was found at the moment `at`. Counts end at `overdue.MOST`."""

    at: datetime
    health: Health
    #: Of queues that no live worker serves: how many runs are due there, and for how many seconds the oldest is.
    unserved: Mapping[str, tuple[int, float]]
    #: Workflows, with their versions, of which runs are due or parked, and that no live worker knows.
    unknown: Mapping[tuple[str, str], int]
    #: Whether any run has not finished, where no worker is live.
    left: bool
    #: Runs that do not go on by themselves: their worker is silent, their timer is late, no worker serves their queue.
    stuck: frozenset[UUID]
    #: Whether there are more of these.
    is_cut: bool

    @property
    def silent(self) -> Sequence[Serving]:
        """The workers that were not heard of for too long."""
        return [worker for worker in self.health.workers if worker.silent]


_kept: Kept[str, Pulse | None] = Kept(most=20)


def recent() -> Pulse | None:
    """Return what was found last, which is looked at anew if it is too old; `None` if that could not be."""
    alias = conf.get().database
    return _kept.get(alias, partial(_tried, alias), FRESH)


def forget() -> None:
    """Look anew when asked next."""
    _kept.forget()


def _tried(alias: str) -> Pulse | None:
    try:
        return _look(alias)
    except DatabaseError:
        return None  # The page itself says so, if it fails, too.


def _look(alias: str) -> Pulse:
    found = health.examine(confirm=False)
    unserved = dict(list(found.unserved.items())[:MOST_NAMED])
    waiting = {queue: overdue.next_in(alias, queue) for queue in unserved}
    ages = {queue: overdue.longest_wait(alias, found.at, rows) for queue, rows in waiting.items()}
    unknown = dict(_unknown(alias, found)) if found.live else {}
    runs = WorkflowRun.objects.using(alias).all()
    stuck = [list(some) for some in _stuck(alias, found, waiting.values(), unknown)]
    return Pulse(
        at=found.at, health=found, unserved={queue: (due, ages[queue]) for queue, due in unserved.items()},
        unknown=unknown,
        left=not found.live and any(counting.capped(alias, [runs.states(state) for state in UNFINISHED], 1)),
        stuck=frozenset(chain.from_iterable(stuck)), is_cut=any(len(some) >= overdue.MOST for some in stuck),
    )  # fmt: skip


def _stuck(
    alias: str, found: Health, unserved: Iterable[Sequence[tuple[UUID, datetime]]], unknown: Iterable[tuple[str, str]]
) -> Iterator[Iterable[UUID]]:
    """Yield the runs that `why` calls stuck, of each kind up to `overdue.MOST`."""
    yield (timer.run_id for timer in found.stuck)
    runs = WorkflowRun.objects.using(alias).all()
    silent = [worker.id for worker in found.workers if not worker.lives]
    if silent:
        yield runs.filter(HAS_OWNER, owner_id__in=silent).values_list("id", flat=True)[: overdue.MOST]
    before = found.at - timedelta(seconds=overdue.MAX_AGE)
    yield from ([run_id for run_id, since in rows if since < before] for rows in unserved)
    for workflow, version in unknown:
        # In the words of the index that has workflows.
        due = overdue.ready(alias).filter(workflow=workflow, version=version, generation__gte=0, created_at__lt=before)
        yield due.order_by("-priority", "id").values_list("id", flat=True)[: overdue.MOST]


def _unknown(alias: str, found: Health) -> Iterator[tuple[tuple[str, str], int]]:
    """Yield the workflows that no live worker knows, with how many runs of theirs are due or parked."""
    live = found.live
    due = overdue.unknown_workflows(alias, (), lambda identity: any(worker.knows(*identity) for worker in live))
    parked = WorkflowRun.objects.using(alias).filter(in_states(PARKED)).order_by("-id")
    rows = parked.values_list("workflow", "version", "reason")[: overdue.MOST]
    held = Counter((name, version) for name, version, reason in rows if reason.startswith(_UNKNOWN))
    yield from (due + held).most_common(MOST_NAMED)
