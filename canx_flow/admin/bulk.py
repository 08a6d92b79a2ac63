"""One verb for many runs: batch by batch, each with what became of every run in it. Called by the actions of the list.

Each batch is a transaction with the entries that say what was done: a request that is cut off has done whole batches,
and the next one goes on behind them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from django.db.models import Count, QuerySet

from .. import client
from ..client.each import UNCHANGED
from ..models import WorkflowRun
from .verbs import Outcome, Verb

Done = list[tuple[WorkflowRun, Outcome]]


def by_state(runs: QuerySet[Any]) -> dict[str, int]:
    """Count how many of them are in each state now."""
    counted = runs.order_by().values("state").annotate(number=Count("pk")).values_list("state", "number")
    return dict(counted)


def applicable(verb: Verb, runs: QuerySet[Any], *, risky: bool) -> QuerySet[Any]:
    """Return those in a state that the verb changes; the risky ones only if they are meant, too."""
    found = runs.filter(state__in=verb.states)
    return found if risky or verb.risky is None else found.exclude(verb.risky)


def first(runs: QuerySet[Any], most: int) -> list[UUID]:
    """Return the ids of the first of them, oldest first."""
    return list(runs.order_by("pk").values_list("pk", flat=True)[:most])


def permitted(ids: Sequence[UUID], may: Callable[[WorkflowRun], bool]) -> tuple[list[UUID], list[UUID]]:
    """Return those that the user may act on, and those that the user may not."""
    runs = list(client.runs().filter(id__in=ids).defer("arguments", "result", "error"))
    allowed = {run.id: may(run) for run in runs}
    return [run_id for run_id, yes in allowed.items() if yes], [run_id for run_id, yes in allowed.items() if not yes]


def perform(verb: Verb, ids: Sequence[UUID], reason: str, by: Any, **options: Any) -> Done:
    """Do it to one batch; what became of every run in it."""
    became = verb.call(ids, reason, by=by, **options) if ids else {}
    runs = client.runs().filter(id__in=ids).only("id", "workflow", "state").order_by("id")
    return [(run, verb.outcome(became.get(run.id, UNCHANGED), run.state)) for run in runs]


def count(done: Done) -> Counter[str]:
    return Counter(outcome.code for _run, outcome in done)


def samples(done: Done) -> dict[str, list[str]]:
    """Return the runs of each outcome."""
    found: dict[str, list[str]] = {}
    for run, outcome in done:
        found.setdefault(outcome.code, []).append(str(run.id))
    return found
