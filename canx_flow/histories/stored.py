"""The histories in the tables, one after the other: a few at a time are in memory, however many there are."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby, islice
from uuid import UUID

from django.db.models import Count

from ..core.changes import Record
from ..models import RunQuerySet, StepRecord, WorkflowRun
from ..models.conditions import of_runs
from .history import History, of_run

#: Runs whose ids are read at once; of those whose records are: how many, and how many records.
_PAGE, _BATCH, _RECORDS = 1000, 50, 5000
_COLUMNS = (
    "id",
    "workflow",
    "version",
    "state",
    "reason",
    "generation",
    "seed",
    "arguments",
    "result",
    "scheduled_for",
)
_OF_RECORD = ("seq", "name", "kind", "state", "attempts", "epoch", "result", "errors")


def histories(alias: str, wanted: Iterable[RunQuerySet], most: int | None = None) -> Iterator[History]:
    """Yield the histories of these runs, the newest first, up to `most`; of several querysets together."""
    for batch in _batches(alias, islice(_merged(wanted), most)):
        yield from _loaded(alias, batch)


def _merged(wanted: Iterable[RunQuerySet]) -> Iterator[UUID]:
    pages = [_paged(runs) for runs in wanted]
    found = heapq.merge(*pages, key=lambda found: found[0], reverse=True)
    return (run_id for run_id, _same in groupby(run_id for _created_at, run_id in found))


def _paged(runs: RunQuerySet) -> Iterator[tuple[datetime, UUID]]:
    """Yield when each of these runs was created, and its id: by the primary key, in the database's own order of ids."""
    found = list(runs.order_by("-id").values_list("created_at", "id")[:_PAGE])
    while found:
        yield from found
        after = runs.filter(id__lt=found[-1][1])
        found = list(after.order_by("-id").values_list("created_at", "id")[:_PAGE])


def _batches(alias: str, ids: Iterator[UUID]) -> Iterator[list[UUID]]:
    """Yield these ids in batches that have only so many records together; a run with more has one of its own."""
    while some := list(islice(ids, _BATCH)):
        records = StepRecord.objects.using(alias).filter(of_runs(some))
        sizes = dict(records.values_list("run_id").annotate(Count("id")))
        batch, size = list[UUID](), 0
        for run_id in some:
            size += sizes.get(run_id, 0)
            if batch and size > _RECORDS:
                yield batch
                batch, size = [], sizes.get(run_id, 0)
            batch.append(run_id)
        yield batch


def _loaded(alias: str, ids: Sequence[UUID]) -> Iterator[History]:
    """Yield the histories of these runs, but for those that were pruned meanwhile."""
    runs = WorkflowRun.objects.using(alias).only(*_COLUMNS).in_bulk(ids)
    records: dict[UUID, list[Record]] = defaultdict(list)
    rows = StepRecord.objects.using(alias).filter(of_runs(ids)).order_by("seq")
    for run_id, *values in rows.values_list("run_id", *_OF_RECORD):
        records[run_id].append(Record(*values))
    return (of_run(runs[run_id], records[run_id]) for run_id in ids if run_id in runs)
