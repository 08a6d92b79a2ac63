"""What `why` goes by, read for many runs at once: workers, open waits, failing steps, places in the queue.

A fixed number of queries, each by an index, however many runs are asked about.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from uuid import UUID

from django.db.models import Count, F

from ..core import clock
from ..core.limits import Bucket
from ..core.naming import token_of
from ..models import Delegation, RunQuerySet, StepRecord, WorkflowRun
from ..models.conditions import of_runs
from ..states import FAILED, STOPPING, UNFINISHED, Kind, RecordState
from ..store import limits
from . import counting, held, overdue, reading, serving
from .display import ShownError
from .held import Held
from .reading import OpenWait
from .serving import Serving

#: Runs that go before one are counted up to so many.
MOST_AHEAD = 10_000


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found at the moment `now`. `records`: of the step that the first wait of a run is for."""

    now: datetime
    workers: Mapping[UUID, Serving]
    waits: Mapping[UUID, Sequence[OpenWait]]
    records: Mapping[UUID, StepRecord]
    ahead: Mapping[UUID, int]
    undo_left: Mapping[UUID, int]
    errors: Mapping[UUID, ShownError | None]
    #: Of the limits that are full: who has a place there longest, and how many have one.
    holders: Mapping[Bucket, tuple[UUID, int]]
    held: Held
    #: By run: where the attempt of the delegated step stands that its first wait is for.
    out: Mapping[UUID, Delegation]

    @property
    def live(self) -> list[Serving]:
        """The workers that do what is due."""
        return [worker for worker in self.workers.values() if worker.lives]


def gather(
    alias: str,
    runs: Sequence[WorkflowRun],
    workers: Sequence[Serving] | None = None,
    waits: Mapping[UUID, Sequence[OpenWait]] | None = None,
) -> Evidence:
    """Read what is to be known of these runs; `workers` and `waits` have been read before, if they are given."""
    now = clock.now()
    unfinished = [run for run in runs if run.state in UNFINISHED]
    if workers is None:
        workers = serving.serving(alias, now) if unfinished else ()
    if waits is None:
        waits = reading.open_waits(alias, [run.id for run in unfinished if not run.ready and run.owner_id is None])
    return Evidence(
        now=now, workers={worker.id: worker for worker in workers}, waits=waits,
        records=_records(alias, waits), ahead=_ahead(alias, [run for run in unfinished if run.ready]),
        undo_left=_undo_left(alias, [run.id for run in unfinished if run.state == STOPPING and run.has_undo]),
        errors=_errors(alias, [run for run in runs if run.state == FAILED]), holders=_holders(alias, waits),
        held=held.gather(alias, [run for run in unfinished if run.ready], now), out=_out(alias, waits),
    )  # fmt: skip


def _records(alias: str, waits: Mapping[UUID, Sequence[OpenWait]]) -> dict[UUID, StepRecord]:
    """Read the records of the steps that these runs wait in."""
    told = (Kind.RETRY, Kind.WAIT, Kind.CALL, Kind.DELEGATE)
    steps = {run_id: found[0].step for run_id, found in waits.items() if found and found[0].kind in told}
    if not steps:
        return {}
    records = StepRecord.objects.using(alias).filter(of_runs(list(steps)), name__in=set(steps.values()))
    records = records.only("run_id", "name", "attempts", "errors", "started_at")
    records = records.annotate(of_workflow=F("run__workflow"))  # For `reading.failing_record`.
    # Rows come a few at a time, because the errors of a single step may be megabytes.
    found = records.iterator(chunk_size=20)
    return {record.run_id: record for record in found if steps[record.run_id] == record.name}


def _out(alias: str, waits: Mapping[UUID, Sequence[OpenWait]]) -> dict[UUID, Delegation]:
    """Read where the attempts stand that these runs wait for."""
    first = [found[0] for found in waits.values() if found]
    tokens = [token for wait in first if (token := token_of(wait.event)) is not None]
    rows = Delegation.objects.using(alias).filter(token__in=tokens) if tokens else ()
    return {row.run_id: row for row in rows}


def _holders(alias: str, waits: Mapping[UUID, Sequence[OpenWait]]) -> dict[Bucket, tuple[UUID, int]]:
    """Read who holds the places for which these runs wait."""
    first = [found[0] for found in waits.values() if found and found[0].kind == Kind.LIMIT and found[0].due_at is None]
    full = {(wait.event or "", wait.key or "") for wait in first}
    if not full:
        return {}
    held = limits.held(alias).filter(name__in={name for name, _key in full}, key__in={key for _name, key in full})
    found: dict[Bucket, tuple[UUID, int]] = {}
    for name, key, run_id in held.values_list("name", "key", "run_id")[:MOST_AHEAD]:
        longest, number = found.get((name, key), (run_id, 0))
        found[name, key] = longest, number + 1
    return found


def _ahead(alias: str, runs: Sequence[WorkflowRun]) -> dict[UUID, int]:
    """Count the runs that are claimed before each of these; `MOST_AHEAD` or more are not counted on."""
    groups: dict[tuple[str, int], list[UUID]] = defaultdict(list)
    for run in runs:
        groups[run.queue, run.priority].append(run.id)
    sets = [rows for group, ids in groups.items() for rows in _between(alias, *group, sorted(ids))]
    counts = iter(counting.capped(alias, sets, MOST_AHEAD))
    found: dict[UUID, int] = {}
    for ids in groups.values():
        ahead = next(counts)
        for run_id in sorted(ids):
            ahead += next(counts)
            found[run_id] = ahead
    return found


def _between(alias: str, queue: str, priority: int, ids: Sequence[UUID]) -> list[RunQuerySet]:
    """Return the runs of a larger priority, those before the first of these, and those from each one to the next."""
    due = overdue.ready(alias, [queue])
    same = due.filter(priority=priority)
    between = [same.filter(id__gte=first, id__lt=last) for first, last in pairwise(ids)]
    return [due.filter(priority__gt=priority), same.filter(id__lt=ids[0]), *between]


def _undo_left(alias: str, ids: Sequence[UUID]) -> dict[UUID, int]:
    if not ids:
        return {}
    undo = StepRecord.objects.using(alias).filter(of_runs(ids), kind=Kind.UNDO)
    left = undo.exclude(state__in=(RecordState.COMPLETED, RecordState.FAILED))
    return dict(left.order_by().values_list("run_id").annotate(left=Count("id")))


def _errors(alias: str, runs: Sequence[WorkflowRun]) -> dict[UUID, ShownError | None]:
    """Return what each failed run has failed with; it is read for those that were loaded without it."""
    loaded = {run.id: reading.error(run) for run in runs if "error" in run.__dict__}
    return {**loaded, **reading.errors(alias, [run for run in runs if run.id not in loaded])}
