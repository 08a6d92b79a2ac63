"""W4: some hundred runs sleep for a second at once. How late is each woken, and is one ever early?

The lag is the time between the step before the sleep and the step after it, less the second: storing the first of
them is in it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from canx_flow.models import WorkflowRun

from . import workflows
from .book import Book
from .latency import figures
from .peers import Peer
from .places import Place
from .workers import working
from .workload import Workload

SLEEPS = 300
SECONDS = 1.0


def measure(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    place.fresh()
    with working(place):
        lags(place, 10)
        for _ in range(book.options.repeat):
            found = lags(place, SLEEPS)
            book.add("w4", place.name, "at once", {**figures(found), "early": sum(lag < 0 for lag in found)})
    for peer in peers:
        found = peer.lags(place, SLEEPS, SECONDS)
        book.add("w4", place.name, "at once", {**figures(found), "early": sum(lag < 0 for lag in found)}, peer.name)


def lags(place: Place, sleeps: int) -> list[float]:
    ids = workflows.nap.start_many([(SECONDS,)] * sleeps)
    deadline = time.monotonic() + 60
    unfinished = WorkflowRun.objects.filter(id__in=ids).exclude(state="completed")
    while unfinished.exists():
        assert time.monotonic() < deadline, f"{unfinished.count()} runs still sleep"
        time.sleep(0.1)
    times = [workflows.nap.result(run_id) for run_id in ids]
    return [after - before - SECONDS for before, after in times]


COLUMNS = {
    "p50_ms": "p50 ms late",
    "p99_ms": "p99 ms late",
    "most_ms": "most ms late",
    "early": "early",
    "count": "sleeps",
}
WORKLOAD = Workload("w4", f"{SLEEPS} sleeps of {SECONDS:g} s at once", measure, COLUMNS)
