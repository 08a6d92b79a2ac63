"""One verb for many runs: batch by batch, each with what became of every run in it. Called by the actions of the list.

Whoever calls commits each batch before the next begins: a request that is cut off has done whole batches, and doing
it again does the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, QuerySet

from .. import client
from ..core import clock
from ..models import WorkflowRun
from .verbs import Outcome, Verb

BATCH = 500

Done = list[tuple[WorkflowRun, Outcome]]


def by_state(runs: QuerySet[Any]) -> dict[str, int]:
    """Count how many of them are in each state now."""
    counted = runs.order_by().values("state").annotate(number=Count("pk")).values_list("state", "number")
    return dict(counted)


def batches(verb: Verb, runs: QuerySet[Any], limit: int) -> Iterator[list[UUID]]:
    """Yield those in a state that the verb changes, oldest first, `limit` at most."""
    ids = list(runs.filter(state__in=verb.states).order_by("pk").values_list("pk", flat=True)[:limit])
    for begin in range(0, len(ids), BATCH):
        yield ids[begin : begin + BATCH]


def permitted(ids: Sequence[UUID], may: Callable[[WorkflowRun], bool]) -> tuple[list[UUID], int]:
    """Return those that the user may act on, and how many of them the user may not."""
    runs = list(client.runs().filter(id__in=ids).defer("arguments", "result", "error"))
    allowed = [run.id for run in runs if may(run)]
    return allowed, len(runs) - len(allowed)


def perform(verb: Verb, ids: Sequence[UUID], reason: str, by: Any) -> Done:
    """Do it to one batch; what became of every run in it."""
    began = clock.now()
    runs = client.runs().filter(id__in=ids)
    verb.many(runs, reason, by)
    return [(run, verb.outcome(run.state, _changed(run, verb, by, began))) for run in _as_they_are(runs)]


def count(done: Done) -> Counter[str]:
    return Counter(outcome.code for _run, outcome in done)


def _as_they_are(runs: QuerySet[WorkflowRun]) -> QuerySet[WorkflowRun]:
    return runs.only("id", "workflow", "state", "control", "control_by", "control_at")


def _changed(run: WorkflowRun, verb: Verb, by: Any, began: datetime) -> bool:
    """Tell whether this very call changed the run: each change stores a note of its caller and its moment."""
    noted = run.control == verb.name and run.control_at is not None and run.control_at >= began
    return noted and run.control_by == str(by)[:255]
