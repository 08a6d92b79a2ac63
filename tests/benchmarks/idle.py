"""W17: many workers are idle. What each of them costs, and what one start costs all of them, the database included."""

from __future__ import annotations

import time
from collections.abc import Sequence

from canx_flow.models import Worker as WorkerRow

from ..waiting import wait_until
from . import latency
from .book import Book
from .measure import children, cpu_seconds_of_threads, percentile
from .peers import Peer
from .places import Place
from .workers import Worker, working
from .workload import Workload

_WARM_UP = 5  # starts for each worker, of which two are told: PostgreSQL plans a statement anew the first five times
#: Seconds until all have settled.
_SETTLE = 5.0


def measure(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    """Beside the first number of workers, the others."""
    options = book.options
    for _ in range(options.repeat):
        first = None
        for number in options.idle_workers:
            row = _figures(place, number, options.idle_seconds, max(10, options.starts // options.repeat))
            first = row if first is None else first
            row["x_start"] = row["start_cpu_ms"] / first["start_cpu_ms"]
            book.add("w17", place.name, f"{number} workers", row)


def _figures(place: Place, number: int, seconds: float, starts: int) -> dict[str, float]:
    place.fresh()
    with working(place, "--processes", str(number)) as parent:
        wait_until(lambda: WorkerRow.objects.filter(state="alive").count() == number, 300)
        latency.latencies(_WARM_UP * number)
        time.sleep(_SETTLE)
        workers, database = _cpu(place, parent)
        time.sleep(seconds)
        workers_idle, database_idle = (
            (now - before) / seconds for now, before in zip(_cpu(place, parent), (workers, database), strict=True)
        )
        began, before = time.perf_counter(), sum(_cpu(place, parent))
        times = latency.latencies(starts)
        passed = time.perf_counter() - began
        spent = sum(_cpu(place, parent)) - before - (workers_idle + database_idle) * passed
    return {
        "start_cpu_ms": max(spent, 0.0) / starts * 1000,
        "idle_ms_per_s": (workers_idle + database_idle) / number * 1000,
        "idle_worker_ms_per_s": workers_idle / number * 1000,
        "idle_database_ms_per_s": database_idle / number * 1000,
        "p50_ms": percentile(times, 50) * 1000,
        "p99_ms": percentile(times, 99) * 1000,
    }


def _cpu(place: Place, parent: Worker) -> tuple[float, float]:
    """CPU seconds of all workers, and of the database, so far."""
    pids = [parent.pid, *children(parent.pid)]
    return sum(map(cpu_seconds_of_threads, pids)), place.cpu()


COLUMNS = {
    "start_cpu_ms": "CPU ms per start",
    "x_start": "x one worker",
    "idle_ms_per_s": "idle CPU ms/s each",
    "idle_worker_ms_per_s": "of it worker",
    "idle_database_ms_per_s": "database",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
}
WORKLOAD = Workload("w17", "many idle workers", measure, COLUMNS, databases=("postgresql",), on_request=True)
