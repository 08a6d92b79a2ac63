"""W6: a million runs sleep. Is a start as quick as in empty tables, and what does it cost to do nothing?

The CPU of a minute, of the worker and of every process of the database, less what the database takes with the same
rows and no worker.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from . import latency
from .book import Book
from .crowd import put_to_sleep
from .measure import percentile
from .peers import Peer
from .places import Place
from .workers import Worker, working
from .workload import Workload

_WARM_UP, _STARTS = 5, 25
#: Seconds until the database has put in order what the copying left.
_SETTLE = 5.0


def measure(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    """Latencies of the full tables between those of empty ones, before and after: the machine's speed swings."""
    options = book.options
    before = _empty_p50s(place, options.repeat)
    put_to_sleep(place, options.sleeping)
    time.sleep(_SETTLE)
    without_worker = _database_ms_per_s(place, options.idle_seconds)
    with working(place) as worker:
        crowded = _p50s(options.repeat)
        time.sleep(_SETTLE)
        worker_cpu, database_cpu = idle_ms_per_s(place, worker, options.idle_seconds)
    own = max(0.0, database_cpu - without_worker)
    idle = {
        "idle_ms_per_s": worker_cpu + own, "idle_worker_ms_per_s": worker_cpu, "idle_database_ms_per_s": own,
        "without_worker_ms_per_s": without_worker,
    }  # fmt: skip
    after = _empty_p50s(place, options.repeat)
    for one, other, full in zip(before, after, crowded, strict=True):
        empty = (one + other) / 2
        row = {"p50_ms": full, "empty_p50_ms": empty, "more_ms": full - empty, **idle}
        book.add("w6", place.name, f"{options.sleeping:,} sleeping", row)


def _empty_p50s(place: Place, repeat: int) -> list[float]:
    place.fresh()
    with working(place):
        return _p50s(repeat)


def _p50s(repeat: int) -> list[float]:
    latency.latencies(_WARM_UP)
    return [percentile(latency.latencies(_STARTS), 50) * 1000 for _ in range(repeat)]


def _database_ms_per_s(place: Place, seconds: float) -> float:
    place.settle()
    before = place.cpu()
    if before:
        time.sleep(seconds)
    return (place.cpu() - before) / seconds * 1000


def idle_ms_per_s(place: Place, worker: Worker, seconds: float) -> tuple[float, float]:
    """CPU of the worker, and of the database, while nothing is to do."""
    worker_before, database_before = worker.cpu(), place.cpu()
    time.sleep(seconds)
    return (worker.cpu() - worker_before) / seconds * 1000, (place.cpu() - database_before) / seconds * 1000


COLUMNS = {
    "p50_ms": "W3 p50 ms",
    "empty_p50_ms": "in empty tables",
    "more_ms": "more",
    "idle_ms_per_s": "idle CPU ms/s",
    "idle_worker_ms_per_s": "of it worker",
    "idle_database_ms_per_s": "database",
    "without_worker_ms_per_s": "(database without worker)",
}
WORKLOAD = Workload("w6", "sleeping runs in the tables", measure, COLUMNS)
