"""The histories in the tables, one after the other: a few at a time are in memory, however many there are."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby, islice
from uuid import UUID

from ..models import RunQuerySet, StepRecord, WorkflowRun
from .history import History, of_run

#: Runs whose ids are read at once, and those whose records are.
_PAGE, _BATCH = 1000, 50
_COLUMNS = ("id", "workflow", "version", "state", "reason", "generation", "seed", "arguments", "result")


def histories(alias: str, wanted: Iterable[RunQuerySet], most: int | None = None) -> Iterator[History]:
    """Yield the histories of these runs, the newest first, up to `most`; of several querysets together."""
    ids = islice(_merged(wanted), most)
    while batch := list(islice(ids, _BATCH)):
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


def _loaded(alias: str, ids: Sequence[UUID]) -> Iterator[History]:
    """Yield the histories of these runs, but for those that were pruned meanwhile."""
    runs = WorkflowRun.objects.using(alias).only(*_COLUMNS).in_bulk(ids)
    records: dict[UUID, list[StepRecord]] = defaultdict(list)
    for record in StepRecord.objects.using(alias).filter(run_id__in=ids).order_by("seq"):
        records[record.run_id].append(record)
    return (of_run(runs[run_id], records[run_id]) for run_id in ids if run_id in runs)
