"""W20: one claim of 64 runs, of 100,000 that are ready in 10,000 partitions, half of them in a single one.

From the call to its commit, in this process. Also while another worker's runs keep 1,600 partitions busy, and of the
same runs without limits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from uuid import UUID

from django.db import connections
from django.utils import timezone

from canx_flow import queues
from canx_flow.core.identity import uuid7_series
from canx_flow.models import WorkflowRun
from canx_flow.store import leases
from canx_flow.store.queue_claims import QueueClaims

from . import filling
from .book import Book
from .measure import percentile
from .peers import Peer
from .places import Place
from .workload import Workload

QUEUE = "tenants"
READY, PARTITIONS, CLAIMED, BUSY = 100_000, 10_000, 64, 1_600
#: Claims for each repetition; and before the first, for PostgreSQL plans a statement anew the first five times.
_TIMES, _WARM_UP = 40, 10
_KNOWN = [("flow", "")]
_ROWS = 2_000  # in one INSERT


def measure(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    """All repetitions in the same tables. What was claimed has ended before the next claim."""
    small = not book.options.seconds
    ready, partitions, busy, times = (10_000, 1_000, 200, 2) if small else (READY, PARTITIONS, BUSY, _TIMES)
    place.fresh()
    _fill(ready, partitions)
    filling.settle(analysed=True)
    told = f"{ready:,} ready, {partitions:,} partitions"
    queues.limits(QUEUE, partition_concurrency=1)
    _measure(place, book, told, times)
    _claim(_worker(), busy)
    _measure(place, book, f"{told}, {busy:,} of them busy", times)
    queues.limits(QUEUE, partition_concurrency=None)
    _measure(place, book, f"{ready:,} ready, without limits", times)


def _measure(place: Place, book: Book, case: str, times: int) -> None:
    worker = _worker()
    for _ in range(_WARM_UP):
        _seconds(worker)
    for _ in range(book.options.repeat):
        found = [_seconds(worker) for _ in range(times)]
        row = {"p50_ms": percentile(found, 50) * 1000, "p99_ms": percentile(found, 99) * 1000, "claims": times}
        book.add("w20", place.name, case, row)


def _worker() -> tuple[UUID, QueueClaims]:
    """A live worker of its own, which begins its turns anywhere."""
    owner = leases.register(host="benchmark", pid=1).id
    return owner, QueueClaims(owner, [QUEUE])


def _seconds(worker: tuple[UUID, QueueClaims]) -> float:
    """What one claim takes; its runs end outside the time."""
    began = time.perf_counter()
    _claim(worker, CLAIMED)
    passed = time.perf_counter() - began
    ended = {"owner_id": None, "ready": False, "state": "completed", "finished_at": timezone.now()}
    WorkflowRun.objects.filter(owner_id=worker[0]).update(**ended)
    return passed


def _claim(worker: tuple[UUID, QueueClaims], number: int) -> None:
    runs = worker[1].claim(connections["default"], number, 0, _KNOWN).runs
    assert len(runs) == number, f"{len(runs)} of {number} were claimed"


def _fill(ready: int, partitions: int) -> None:
    """Runs that are alike but for their partitions: the first one has half of them, the oldest."""
    ids = iter(uuid7_series(ready))
    names = _names(ready, partitions)
    rows = (
        WorkflowRun(id=run_id, workflow="flow", arguments="[[10],{}]", queue=QUEUE, partition=name)
        for run_id, name in zip(ids, names, strict=True)
    )
    WorkflowRun.objects.bulk_create(rows, _ROWS)


def _names(ready: int, partitions: int) -> Iterator[str]:
    for number in range(ready):
        small = number - ready // 2
        yield "tenant-0" if small < 0 else f"tenant-{1 + small % (partitions - 1)}"


COLUMNS = {"p50_ms": "p50 ms", "p99_ms": "p99 ms", "claims": "claims"}
WORKLOAD = Workload("w20", f"a claim of {CLAIMED} among {PARTITIONS:,} partitions", measure, COLUMNS)
