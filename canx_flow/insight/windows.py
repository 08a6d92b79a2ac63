"""One page of a run's step records: of all, or of those that have failed, go on, or undo something.

Called by the timeline for the admin. A fixed number of queries, however many steps there are, and nothing is read of a
large result: ids first, then the rows of that page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from django.db.models import Count, Q, QuerySet

from ..models import StepRecord, WorkflowRun
from ..states import Kind, RecordState
from . import stored

ROWS = 100
FAILED, GOING, UNDO = "failed", "running", "undo"
_OVER = (RecordState.COMPLETED, RecordState.FAILED, RecordState.CLOSED)
#: A step that has failed attempts, or for good; and what is not over.
_ONLY = {
    FAILED: Q(state=RecordState.FAILED) | Q(errors__isnull=False),
    GOING: ~Q(state__in=_OVER),
    UNDO: Q(kind=Kind.UNDO),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows: from the one of this number on, from 1; or those around this step; else the last. `only`: `_ONLY`."""

    first: int | None = None
    step: str = ""
    only: str = ""
    most: int = ROWS


def up_to(before: int | None) -> Wanted:
    """Ask for the last rows, or for the last before the one of this number."""
    if before is None:
        return Wanted()
    return Wanted(max(1, before - ROWS), most=min(ROWS, max(1, before - 1)))


@dataclass(frozen=True, slots=True)
class Window:
    """The records that were chosen, in the order of storing; the first of them has this number."""

    records: Sequence[StepRecord]
    first: int
    #: How many rows each choice has, if they were counted; `""` is all.
    counts: Mapping[str, int] = field(default_factory=dict)
    only: str = ""
    most: int = ROWS

    @property
    def total(self) -> int:
        """How many rows there are of this choice."""
        return self.counts.get(self.only, 0)

    @property
    def last(self) -> int:
        """The number of the last of them; 0 if there are none."""
        return self.first - 1 + len(self.records)

    @property
    def last_first(self) -> int:
        """The number of the row with which the last window begins."""
        return max(1, self.total - self.most + 1)


def last(records: Sequence[StepRecord], most: int) -> Window:
    """Return the last records of a run as a window: the number of the first one says how many there are before it."""
    return Window(records, records[0].seq if len(records) == most else 1)


def read(alias: str, run: WorkflowRun, wanted: Wanted, characters: int) -> Window:
    """Read a window of rows; of each result no more than so many characters, and none of a large one."""
    every = StepRecord.objects.using(alias).filter(run_id=run.id)
    most, only = wanted.most, wanted.only if wanted.only in _ONLY else ""
    chosen = every.filter(_ONLY[only]) if only else every
    counts, place = _counted(every, chosen, wanted.step)
    last_first = max(1, counts[only] - most + 1)
    first = wanted.first if wanted.first is not None else place - most // 2 if place else last_first
    first = min(max(first, 1), last_first)
    ids = list(chosen.order_by("seq", "id").values_list("id", flat=True)[first - 1 : first - 1 + most])
    rows = StepRecord.objects.using(alias).filter(id__in=ids)
    records = sorted(
        stored.beginnings(rows, "result", characters, large=stored.LARGE), key=lambda record: (record.seq, record.id)
    )
    return Window(records, first, counts, only, most)


def _counted(every: QuerySet[StepRecord], chosen: QuerySet[StepRecord], step: str) -> tuple[dict[str, int], int]:
    """Count the rows of each choice, and those of the chosen ones up to this step and with it; 0 if it is none."""
    found = every.aggregate(all=Count("id"), **{only: Count("id", filter=which) for only, which in _ONLY.items()})
    seq = chosen.filter(name=step).values("seq")[:1]
    place = chosen.filter(seq__lte=seq).count() if step else 0
    return {"": found["all"], **{only: found[only] for only in _ONLY}}, place
