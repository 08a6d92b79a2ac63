"""Forgetting runs that ended long ago, with all that is theirs: batch by batch, each in a transaction of its own.

Called by `pruneflows`. Ids are in the order of time, so one walk along the primary key, up to what is too young to be
old, finds them all, and no statement grows with what is stored. A batch locks its runs and reads them again, as every
change of a run does: one that is retried at this moment is left alone, or is gone before the retry finds it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from django.db import connections
from django.db.models import Count, DateTimeField, Exists, ExpressionWrapper, OuterRef, Q, QuerySet, Value

from ..core.identity import first_id_at
from ..models import Event, RunHistory, RunQuerySet, StepRecord, WorkflowRun
from ..states import CANCELLED, COMPLETED, ENDED, FAILED, UNFINISHED
from .db.databases import session_for
from .db.engine import transaction
from .db.tables import EVENT
from .pace import Pace
from .repeats import patiently

#: Runs that one statement looks at, whether old or not.
_MOST_RUNS = 5_000
#: Step records deleted in one transaction, and rows of history, unless one run alone has more.
_MOST_RECORDS = 10_000
#: Runs with unread events that one statement looks for.
_RECEIVERS = 1_000
#: An id tells when its run was made, by the clock of whoever made it: so far may that be ahead of the others'.
_SKEW = timedelta(hours=1)

#: Runs, each with its parent, its state, and its seed if it is a fork.
Families = dict[UUID, tuple[UUID | None, str, UUID | None]]
Rows = TypeVar("Rows", bound=QuerySet[Any])


@dataclass(frozen=True, slots=True)
class Old:
    """Which runs to forget: those that ended before a moment, of these workflows (or all) and states."""

    before: datetime
    workflows: Sequence[str] = ()
    states: Sequence[str] = ENDED

    def runs(self, alias: str) -> RunQuerySet:
        """Return all that have ended, parents or not.

        Those who ask say how far their ids may go: of two upper bounds SQLite takes the first, and reads on to that.
        """
        old = WorkflowRun.objects.using(alias).filter(state__in=self.states, finished_at__lt=self.before)
        return old.filter(workflow__in=self.workflows) if self.workflows else old

    @property
    def ceiling(self) -> UUID:
        """An id that is greater than those of all runs that have ended before the moment."""
        return first_id_at(self.before + _SKEW)

    def parents(self, alias: str) -> RunQuerySet:
        """Return the runs that may yet ask for their children: unfinished, or failed and not among those to forget."""
        kept = Q(finished_at__gte=self.before) | _leads_to_others(alias)
        if FAILED not in self.states:
            kept = Q()
        elif self.workflows:
            kept |= ~Q(workflow__in=self.workflows)
        return WorkflowRun.objects.using(alias).filter(Q(state__in=UNFINISHED) | Q(kept, state=FAILED))


def count(alias: str, old: Old) -> list[tuple[str, str, int]]:
    """Return how many runs that would be now, by workflow and state."""
    skewed = ExpressionWrapper(OuterRef("created_at") + Value(_SKEW), DateTimeField())
    # Not `exclude`: that would add that there is a moment, for the sake of those without one.
    asking = Q(continued_at=None) | Q(continued_at__lte=skewed)
    asked = Q(Exists(old.parents(alias).filter(asking, id=OuterRef("parent_id"))), parent__isnull=False)
    kept = asked | _leads_to_others(alias)
    those = old.runs(alias).filter(id__lt=old.ceiling).exclude(kept)
    groups = those.order_by().values_list("workflow", "state").annotate(runs=Count("id"))
    return sorted((workflow, state, runs) for workflow, state, runs in groups)


def prune(alias: str, old: Old, most: int, told: Callable[[int], object]) -> int:
    """Forget them, at most `most` at a time; `told` is called with how many each batch was. Returns the sum.

    Batches become smaller where they take long, and after each there is a rest, so that others get their turn.
    """
    total = 0
    pace = Pace(most)
    for ids in _batches(alias, old, pace):
        began = time.perf_counter()
        pruned = patiently(alias, partial(_prune, alias, old, ids))
        rest = pace.after(time.perf_counter() - began)
        total += pruned
        told(pruned)
        if not connections[alias].in_atomic_block:  # Else all locks are kept to the end of that.
            time.sleep(rest)
    return total


def forget_orphans(alias: str) -> int:
    """Delete events that were sent to a run at the moment when it was pruned; returns how many."""
    unread = Event.objects.using(alias).filter(run__isnull=False, consumed_at=None).order_by("run_id")
    receivers = unread.values_list("run_id", flat=True).distinct()
    total, after = 0, UUID(int=0)
    while some := [run_id for run_id in receivers.filter(run_id__gt=after)[:_RECEIVERS] if run_id is not None]:
        there = set(WorkflowRun.objects.using(alias).filter(id__in=some).values_list("id", flat=True))
        gone = [run_id for run_id in some if run_id not in there]
        total += patiently(alias, partial(session_for(alias).delete, EVENT, "run_id", gone, " AND consumed_at IS NULL"))
        after = some[-1]
    return total


def _batches(alias: str, old: Old, pace: Pace) -> Iterator[list[UUID]]:
    """Find the ids of what is old, in their order, once through: no run is tried twice, and none is waited for.

    They are found before the transaction: SQLite has one lock for all writers.
    """
    after, ceiling = UUID(int=0), old.ceiling
    while after < ceiling:
        next_ones = WorkflowRun.objects.using(alias).filter(id__gt=after, id__lt=ceiling)
        stop = _ids(next_ones, _MOST_RUNS - 1).first() or ceiling
        while ids := list(_ids(old.runs(alias).filter(id__gt=after, id__lte=stop))[: pace.size]):
            ids = _light(alias, ids)
            yield ids
            after = ids[-1]
        after = stop


def _ids(runs: RunQuerySet, begin: int = 0) -> QuerySet[WorkflowRun, UUID]:
    return runs.order_by("id").values_list("id", flat=True)[begin:]


def _light(alias: str, ids: list[UUID]) -> list[UUID]:
    """Return the first of these runs with no more records, or rows of history, than one transaction should delete.

    One at least.
    """
    rows: tuple[QuerySet[Any], ...] = (StepRecord.objects.using(alias), RunHistory.objects.using(alias))
    for of_one_kind in rows:
        owners = _those(of_one_kind, "run_id", ids).order_by("run_id").values_list("run_id", flat=True)
        crossed = owners[_MOST_RECORDS : _MOST_RECORDS + 1].first()
        if crossed is not None:
            ids = ids[: max(1, ids.index(crossed))]
    return ids


def _prune(alias: str, old: Old, ids: Sequence[UUID]) -> int:
    with transaction(connections[alias]):
        going = _unasked(alias, _lock(alias, old, ids))
        if going:
            session_for(alias).forget(going)
    return len(going)


def _lock(alias: str, old: Old, ids: Sequence[UUID]) -> Families:
    """Lock those that are old still, in the order of ids, and pass by what another transaction has locked."""
    skip = connections[alias].features.has_select_for_update_skip_locked
    runs = _those(old.runs(alias), "id", ids).order_by("id").select_for_update(skip_locked=skip)
    rows = runs.values_list("id", "parent_id", "state", "seed")
    return {run_id: (parent, state, seed) for run_id, parent, state, seed in rows}


def _unasked(alias: str, locked: Families) -> list[UUID]:
    """Return which of these locked runs no parent can ask for any more, and no other run needs.

    One that is completed or cancelled never goes on. Of the failed ones, those that go too will not be retried; any
    other may be at this moment, so that its children stay as long as it does. One that has continued as new asks for no
    child that it had before: those that are older than its generation.
    """
    going = dict(locked)
    parents = {parent for parent, _, _ in locked.values() if parent is not None and parent not in locked}
    others = WorkflowRun.objects.using(alias).exclude(state__in=(COMPLETED, CANCELLED))
    found = others.filter(id__in=parents).values_list("id", "continued_at") if parents else ()
    asking = {parent: first_id_at(since - _SKEW) if since is not None else UUID(int=0) for parent, since in found}
    needed = _leading_to_others(alias, locked)
    while stay := [
        run_id
        for run_id, (parent, _, _) in going.items()
        if run_id in needed or (parent in asking and run_id >= asking[parent])
    ]:
        asking.update((run_id, UUID(int=0)) for run_id in stay if going[run_id][1] == FAILED)
        for run_id in stay:
            del going[run_id]
    return list(going)


def _leading_to_others(alias: str, locked: Families) -> set[UUID | None]:
    """Return the forks whose children go on: it is by their seed that other forks are told how those end.

    What is no fork itself is the seed of its forks, and may go.
    """
    forks = [run_id for run_id, (_, _, seed) in locked.items() if seed is not None]
    if not forks:
        return set()
    parents = _going_children(alias).filter(parent_id__in=forks).order_by().values_list("parent_id", flat=True)
    return set(parents.distinct())


def _leads_to_others(alias: str) -> Q:
    """Say the same as a condition."""
    return Q(Exists(_going_children(alias).filter(parent_id=OuterRef("id"))), seed__isnull=False)


def _going_children(alias: str) -> RunQuerySet:
    return WorkflowRun.objects.using(alias).filter(state__in=UNFINISHED)


def _those(rows: Rows, column: str, ids: Sequence[UUID]) -> Rows:
    """Choose rows by these ids, which are in order: the range keeps PostgreSQL on the index without statistics."""
    return rows.filter(**{f"{column}__in": ids, f"{column}__gte": ids[0], f"{column}__lte": ids[-1]})
