"""Forgetting runs that ended long ago, with all that is theirs: batch by batch, each in a transaction of its own.

Called by `pruneflows`. A batch locks its runs before it reads them again, as every change of a run does: one that is
retried at this moment is left alone, or is gone before the retry finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from uuid import UUID

from django.db import OperationalError, connections
from django.db.models import Count, Exists, OuterRef, Q

from ..models import Event, RunQuerySet, StepRecord, WorkflowRun
from ..states import ENDED, FAILED, UNFINISHED
from .db.databases import session_for
from .db.engine import transaction
from .db.errors import is_busy, is_deadlock
from .db.tables import EVENT, KEY, RUN, STEP, TIMER

#: Step records deleted in one transaction, unless one run alone has more.
_MOST_RECORDS = 10_000
_REPEATS = 3
_CHUNK = 500

Families = Sequence[tuple[UUID, UUID | None]]


@dataclass(frozen=True, slots=True)
class Old:
    """Which runs to forget: those that ended before a moment, of these workflows (or all) and states."""

    before: datetime
    workflows: Sequence[str] = ()
    states: Sequence[str] = ENDED

    def runs(self, alias: str) -> RunQuerySet:
        """Return all that have ended, parents or not."""
        old = WorkflowRun.objects.using(alias).filter(state__in=self.states, finished_at__lt=self.before)
        return old.filter(workflow__in=self.workflows) if self.workflows else old

    def parents(self, alias: str) -> RunQuerySet:
        """Return the runs that may yet ask for their children: unfinished, or failed and not among those to forget."""
        kept = Q(finished_at__gte=self.before)
        if FAILED not in self.states:
            kept = Q()
        elif self.workflows:
            kept |= ~Q(workflow__in=self.workflows)
        return WorkflowRun.objects.using(alias).filter(Q(state__in=UNFINISHED) | Q(kept, state=FAILED))


def count(alias: str, old: Old) -> list[tuple[str, str, int]]:
    """Return how many runs that would be now, by workflow and state."""
    kept = Q(parent__isnull=False) & Exists(old.parents(alias).filter(id=OuterRef("parent_id")))
    groups = old.runs(alias).exclude(kept).order_by().values_list("workflow", "state").annotate(runs=Count("id"))
    return sorted((workflow, state, runs) for workflow, state, runs in groups)


def prune(alias: str, old: Old, size: int, told: Callable[[int], object]) -> int:
    """Forget them, `size` at a time at most; `told` is called with how many each batch was. Returns the sum."""
    total = 0
    after: UUID | None = None
    # In the order of ids, once through: no run is read twice, and no batch waits for what is locked.
    while found := _next(alias, old, after, size):
        after = found[-1][0]
        pruned = _patiently(alias, old, found)
        total += pruned
        told(pruned)
    return total


def forget_orphans(alias: str, limit: int = 1000) -> int:
    """Delete events that were sent to a run at the moment when it was pruned; returns how many."""
    there = WorkflowRun.objects.using(alias).filter(id=OuterRef("run_id"))
    orphans = Event.objects.using(alias).filter(~Exists(there), run__isnull=False, consumed_at=None)
    ids = list(orphans.values_list("id", flat=True)[:limit])
    return session_for(alias).delete(EVENT, "id", ids)


def _next(alias: str, old: Old, after: UUID | None, size: int) -> Families:
    """Return the next ids, each with its parent's, before the transaction: SQLite has one lock for all writers."""
    runs = old.runs(alias) if after is None else old.runs(alias).filter(id__gt=after)
    found = list(runs.order_by("id").values_list("id", "parent_id")[:size])
    records = StepRecord.objects.using(alias).filter(run_id__in=[run_id for run_id, _ in found])
    sizes = dict(records.order_by().values_list("run_id").annotate(records=Count("id")))
    sums = accumulate(sizes.get(run_id, 0) for run_id, _ in found)
    return found[: max(1, sum(records <= _MOST_RECORDS for records in sums))]


def _patiently(alias: str, old: Old, found: Families) -> int:
    for _ in range(0 if connections[alias].in_atomic_block else _REPEATS):
        try:
            return _prune(alias, old, found)
        except OperationalError as error:
            if not (is_deadlock(error) or is_busy(error)):
                raise
    return _prune(alias, old, found)


def _prune(alias: str, old: Old, found: Families) -> int:
    with transaction(connections[alias]):
        # Read again after the lock: one of them may have been retried meanwhile.
        runs = old.runs(alias).filter(id__in=_lock(alias, found)).values_list("id", "parent_id")
        families = list(runs)
        kept = set(_those(old.parents(alias), {parent for _, parent in families}))
        ids = [run_id for run_id, parent in families if parent not in kept]
        if ids:
            _forget(alias, ids)
    return len(ids)


def _lock(alias: str, found: Families) -> list[UUID]:
    """Lock runs and parents in the order of ids; return the runs that are locked now, and their parents too."""
    parents = {parent for _, parent in found}
    runs = WorkflowRun.objects.using(alias)
    skip = connections[alias].features.has_select_for_update_skip_locked
    wanted = runs.order_by("id").select_for_update(skip_locked=skip)
    ours = set(_those(wanted, parents.union(run_id for run_id, _ in found)))
    theirs = set(_those(runs, parents)) - ours
    return [run_id for run_id, parent in found if run_id in ours and parent not in theirs]


def _those(runs: RunQuerySet, ids: Set[UUID | None]) -> list[UUID]:
    """Return which of these there are, without a query for none."""
    some = [run_id for run_id in ids if run_id is not None]
    return list(runs.filter(id__in=some).values_list("id", flat=True)) if some else []


def _forget(alias: str, ids: Sequence[UUID]) -> None:
    session = session_for(alias)
    records = StepRecord.objects.using(alias).filter(run_id__in=ids, event_id__isnull=False)
    # No index has the events that were read, but the records of the waits that have read them name them.
    read = [event for event in records.values_list("event_id", flat=True) if event is not None]
    session.delete(EVENT, "run_id", ids, " AND consumed_at IS NULL")
    for begin in range(0, len(read), _CHUNK):
        # Not the broadcasts, which others may read.
        session.delete(EVENT, "id", read[begin : begin + _CHUNK], " AND run_id IS NOT NULL")
    session.delete(TIMER, "run_id", ids)
    session.delete(STEP, "run_id", ids)
    session.delete(KEY, "run_id", ids)
    session.delete(RUN, "id", ids)
