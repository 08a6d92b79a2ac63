"""The steps that take longest, of those that were stored last. Two queries. Called by the admin."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from ..core.columns import Between
from ..models import StepRecord, WorkflowRun
from ..states import Kind, RecordState

#: The newest records that are looked at.
MOST_RECORDS = 2_000
_OVER = (RecordState.COMPLETED, RecordState.FAILED)
_COUNT, _ITEM = re.compile(r"#\d+(?=/|\[|$)"), re.compile(r"\[\d+\]")


@dataclass(frozen=True, slots=True)
class Slow:
    """A step, by whatever number of its uses; seconds from its first call to its end, with pauses between attempts."""

    workflow: str
    step: str
    calls: int
    p50: float
    p95: float
    #: The run in which it took longest.
    run_id: UUID


def steps(alias: str, most: int) -> list[Slow]:
    """Return the steps that take longest, by what nineteen of twenty calls take."""
    took: dict[tuple[str, str], list[tuple[float, UUID]]] = defaultdict(list)
    rows = StepRecord.objects.using(alias).filter(id__gt=0).order_by("-id")  # So that it is the key that is asked.
    columns = ("run_id", "name", "kind", "state", "started_at", "finished_at")
    newest = [row for row in rows.values_list(*columns)[:MOST_RECORDS] if row[2] == Kind.STEP and row[3] in _OVER]
    workflows = _workflows(alias, {row[0] for row in newest})
    for run_id, name, _kind, _state, began, ended in newest:
        if ended is not None and run_id in workflows:
            took[workflows[run_id], _known(name)].append(((ended - began).total_seconds(), run_id))
    return sorted((_slow(*key, times) for key, times in took.items()), key=lambda slow: -slow.p95)[:most]


def _slow(workflow: str, step: str, times: Sequence[tuple[float, UUID]]) -> Slow:
    ordered = sorted(times)
    p50, p95 = (ordered[int(len(ordered) * share)][0] for share in (0.5, 0.95))
    return Slow(workflow, step, len(ordered), p50, p95, ordered[-1][1])


def _known(name: str) -> str:
    """Return the name of a step without the number of its use, and with any number for an item's."""
    return _ITEM.sub("[…]", _COUNT.sub("", name))


def _workflows(alias: str, ids: set[UUID]) -> dict[UUID, str]:
    if not ids:
        return {}
    # With their range, as in `conditions.of_runs`.
    runs = WorkflowRun.objects.using(alias).filter(Between("id", min(ids), max(ids)), id__in=ids)
    return dict(runs.values_list("id", "workflow"))
