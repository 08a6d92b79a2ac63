"""The tabs above the list of runs: groups of states with their counts, what needs attention first.

Each group is a value of the list's `state` filter. Called by that filter, by the paginator and by the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.http import HttpRequest
from django.utils.translation import pgettext_lazy

from .. import conf, states
from ..core.columns import Among
from ..insight import counting, pulse
from ..models import WorkflowRun
from ..models.conditions import HAS_OWNER, in_states
from .counting import AtLeast

#: Runs of one state are counted up to so many.
MOST = 10_000

ATTENTION, UNFINISHED, SUSPENDED, ALL = "attention", "unfinished", "suspended", "all"
#: Several states under one name. What needs attention is these, and what is stuck.
GROUPS: Mapping[str, Sequence[str]] = {
    ATTENTION: (states.FAILED, states.PARKED),
    UNFINISHED: states.UNFINISHED,
    SUSPENDED: states.SUSPENDED,
}
#: What the tabs are called, in their order.
LABELS = {
    ATTENTION: pgettext_lazy("runs", "Needs attention"),
    UNFINISHED: pgettext_lazy("runs", "Not finished"),
    states.RUNNING: pgettext_lazy("runs", "Running"),
    SUSPENDED: pgettext_lazy("runs", "Waiting"),
    states.FAILED: pgettext_lazy("runs", "Failed"),
    states.PARKED: pgettext_lazy("runs", "Parked"),
    states.COMPLETED: pgettext_lazy("runs", "Completed"),
    ALL: pgettext_lazy("runs", "All"),
}
#: What is not counted: no index has these.
_UNCOUNTED = (states.COMPLETED, ALL)


@dataclass(frozen=True, slots=True)
class Tab:
    """One tab: the value of the filter, and how many runs there are; `None` where they are not counted."""

    name: str
    label: Any
    count: int | None
    chosen: bool
    query: str


def conditions(group: str) -> Sequence[Q]:
    """Return the conditions of a group, no two of which hold for a run, each in the words of an index."""
    found = [_in(state) for state in GROUPS[group]]
    if group == ATTENTION and (stuck := _stuck()):
        found.append(Q(Among("id", stuck)) & ~Q(state__in=(*GROUPS[ATTENTION], states.COMPLETED, states.CANCELLED)))
    return found


def tabs(request: HttpRequest, chosen: str | None) -> list[Tab]:
    """Return the tabs. The counts are of all runs, so there are none while another filter narrows the list."""
    others = {name for name, value in request.GET.items() if value} - {"state", "p", "all"}
    counts = {} if others else _counts()
    return [Tab(*tab) for tab in _tabs(request, chosen or ALL, counts)]


def default() -> str:
    """Return the tab that is shown first: what needs attention, if anything does."""
    return ATTENTION if _counts(ATTENTION)[ATTENTION] else UNFINISHED


def _tabs(request: HttpRequest, chosen: str, counts: Mapping[str, int]) -> Iterator[tuple[Any, ...]]:
    for name, label in LABELS.items():
        query = request.GET.copy()
        query.pop("p", None)
        query["state"] = name
        yield name, label, counts.get(name), name == chosen, f"?{query.urlencode()}"


def _counts(*only: str) -> dict[str, int]:
    """Count the runs of each tab, in one statement."""
    wanted = [name for name in only or LABELS if name not in _UNCOUNTED]
    single = list(dict.fromkeys(state for name in wanted for state in GROUPS.get(name, (name,))))
    runs = WorkflowRun.objects.using(alias := conf.get().database).all()
    sets = [runs.filter(_in(state)) for state in single]
    extra = conditions(ATTENTION)[len(GROUPS[ATTENTION]) :] if ATTENTION in wanted else []
    *counted, stuck = counting.capped(
        alias, [*sets, *(runs.filter(each) for each in extra or [Q(id__in=())])], MOST + 1
    )
    by_state = dict(zip(single, counted, strict=True))
    found = {name: sum(by_state[state] for state in GROUPS.get(name, (name,))) for name in wanted}
    if ATTENTION in found:
        found[ATTENTION] += stuck
    cut = {ATTENTION} if is_cut() else set()
    return {name: AtLeast(min(count, MOST)) if count > MOST or name in cut else count for name, count in found.items()}


def _in(state: str) -> Q:
    if state != states.RUNNING:
        return in_states(state)
    running = WorkflowRun.objects.using(conf.get().database).filter(HAS_OWNER, state=states.RUNNING)
    return Q(id__in=running.values("id"))


def is_cut() -> bool:
    """Tell whether more runs are stuck than were looked for: what needs attention is at least so many."""
    found = pulse.recent()
    return found is not None and found.is_cut


def _stuck() -> frozenset[UUID]:
    found = pulse.recent()
    return found.stuck if found is not None else frozenset()
