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

from ..core.identity import first_id_at
from ..models import RunQuerySet, WorkflowRun
from ..models.conditions import about, in_queue
from ..states import ALL

#: Runs that are counted of each state, the newest ones.
MOST_COUNTED = 10_000
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


def counts(alias: str) -> tuple[dict[tuple[str, str], Counter[str]], list[str]]:
    """Count the newest runs of each state, up to `MOST_COUNTED`, by workflow and version.

    Returns the counts, and the states of which there may be more runs than that.
    """
    found: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    cut: list[str] = []
    for state in ALL:
        runs = WorkflowRun.objects.using(alias).states(state).order_by("-id")
        identities = list(runs.values_list("workflow", "version")[:MOST_COUNTED])
        for identity in identities:
            found[identity][state] += 1
        if len(identities) == MOST_COUNTED:
            cut.append(state)
    return found, cut
