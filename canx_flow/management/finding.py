"""The runs that `flow list` asks for, and the counts of `flow versions`: by indexes, however many runs are stored.

An index has the runs of one state, workflow or queue in the order of their ids. Of several there is no such order, so
each is asked for by itself, up to as many runs as are wanted, and what was found is merged.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product

from ..core import registry
from ..core.identity import first_id_at
from ..models import RunQuerySet, WorkflowRun
from ..models.conditions import about, in_queue
from ..states import ALL, FAILED, UNFINISHED

#: Runs that are counted of each state, the newest ones.
MOST_COUNTED = 10_000
#: States whose runs go on, or may yet be retried.
_NEED_CODE = {*UNFINISHED, FAILED}
#: An id is made a moment before the run's time of creation is noted.
_EARLIER = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list is narrowed to; of several names or states a run has one. `since`: created then or later."""

    workflows: Sequence[str] = ()
    states: Sequence[str] = ()
    queues: Sequence[str] = ()
    key: str | None = None
    subject: tuple[str, str] | None = None
    since: datetime | None = None

    def narrow(self, runs: RunQuerySet) -> Iterator[RunQuerySet]:
        """Yield the wanted ones of these runs, apart for each combination of what may be named several times."""
        if self.key is not None:
            # At most one of each workflow. Asked for in order, PostgreSQL may go through all runs without statistics.
            runs = runs.filter(id__in=list(runs.filter(key=self.key).order_by().values_list("id", flat=True)))
        if self.subject is not None:
            runs = runs.filter(about(*self.subject))
        if self.since is not None:
            runs = runs.filter(id__gte=first_id_at(self.since - _EARLIER), created_at__gte=self.since)
        for name, state, queue in product(_each(self.workflows), _each(self.states), _each(self.queues)):
            some = runs if name is None else runs.filter(workflow=name)
            some = some if state is None else some.states(state)
            yield some if queue is None else some.filter(in_queue(queue))


def newest(runs: RunQuerySet, wanted: Wanted, most: int) -> list[WorkflowRun]:
    """Return the newest of the wanted runs, up to `most`."""
    found: dict[object, WorkflowRun] = {}  # A run may go from one of the states to another meanwhile.
    for some in wanted.narrow(runs):
        found |= {run.id: run for run in some.order_by("-id")[:most]}
    return sorted(found.values(), key=lambda run: run.id, reverse=True)[:most]


def _each(names: Sequence[str]) -> Collection[str | None]:
    return dict.fromkeys(names) if names else (None,)


# -- how many there are ----------------------------------------------------------------------------


def counts(alias: str) -> dict[tuple[str, str], Counter[str]]:
    """Count the runs of each workflow and version by state, up to `MOST_COUNTED` of each state: the newest.

    A workflow of this process that has none among these is looked for among all: its code must not be removed as long
    as a run needs it.
    """
    found: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    cut: list[str] = []
    for state in ALL:
        runs = WorkflowRun.objects.using(alias).states(state).order_by("-id")
        newest_ones = list(runs.values_list("workflow", "version")[:MOST_COUNTED])
        for identity in newest_ones:
            found[identity][state] += 1
        if len(newest_ones) == MOST_COUNTED and state in _NEED_CODE:
            cut.append(state)
    for name, version in registry.identities():
        if cut and not _NEED_CODE & found[name, version].keys():
            found[name, version].update(_counts_of(alias, name, version, cut))
    return found


def _counts_of(alias: str, name: str, version: str, states: Sequence[str]) -> dict[str, int]:
    """Count the runs of one workflow in these states, up to `MOST_COUNTED` of each."""
    runs = WorkflowRun.objects.using(alias).filter(workflow=name, version=version)
    return {state: runs.states(state)[:MOST_COUNTED].count() for state in states}
