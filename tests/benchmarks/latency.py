"""W3: a run is started in another process than the idle worker's, and seen completed there.

The pauses between starts are random, so that they keep step with no poll; one in twenty is long enough for the worker
to put everything away.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from canx_flow.models import WorkflowRun

from . import workflows
from .book import Book
from .measure import percentile
from .peers import Peer
from .places import Place
from .workers import working
from .workload import Workload

_WARM_UP = 5
_LOOK = 0.001
_PATIENCE = 30.0


def pause() -> None:
    time.sleep(random.uniform(1.0, 1.6) if random.random() < 0.05 else random.uniform(0.02, 0.2))


def seconds_until_done(start: Callable[[], Callable[[], bool]], look: float = _LOOK) -> float:
    """`start` starts a run and returns how to ask whether it is completed."""
    began = time.perf_counter()
    is_done = start()
    while not is_done():
        if time.perf_counter() - began > _PATIENCE:
            raise TimeoutError("the run was not completed")
        time.sleep(look)
    return time.perf_counter() - began


def latencies(starts: int) -> list[float]:
    """Seconds from each start in this process to its end seen here."""
    found = []
    for _ in range(starts):
        pause()
        found.append(seconds_until_done(_start))
    return found


def _start() -> Callable[[], bool]:
    run_id = workflows.flow.start(1)
    return WorkflowRun.objects.filter(id=run_id, state="completed").exists


def measure(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    place.fresh()
    with working(place):
        latencies(_WARM_UP)
        for _ in range(book.options.repeat):
            book.add("w3", place.name, "idle worker", figures(latencies(book.options.starts // book.options.repeat)))
    for peer in peers:
        starts = max(20, book.options.starts // 10)
        book.add("w3", place.name, "idle worker", figures(peer.latencies(place, starts)), peer.name)


def figures(found: Sequence[float]) -> dict[str, float]:
    return {
        "p50_ms": percentile(found, 50) * 1000,
        "p99_ms": percentile(found, 99) * 1000,
        "least_ms": min(found) * 1000,
        "most_ms": max(found) * 1000,
        "count": len(found),
    }


COLUMNS = {"p50_ms": "p50 ms", "p99_ms": "p99 ms", "most_ms": "most ms", "count": "starts"}
WORKLOAD = Workload("w3", "idle worker: started in another process, until seen completed", measure, COLUMNS)
