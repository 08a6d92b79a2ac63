"""Memory of a worker with 256 plain runs in flight: its peak in a drain of W1; with `--minutes`, whether it grows.

W11 tells that of a worker with as many async ones.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from . import workflows
from .book import Book
from .measure import Spread, resident_bytes
from .peers import Peer
from .places import Place
from .throughput import STEPS, drain, enough_runs
from .workers import PATIENCE, working
from .workload import Workload

IN_FLIGHT = 256
_LOOK = 1.0
_MINUTE = int(60 / _LOOK)  # looks
_WARM_UP = 5
#: Runs that wait at least, so that the worker never runs dry.
_BACKLOG = 5000


def measure(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    runs = enough_runs(place, book.options.seconds, in_flight=IN_FLIGHT)
    for _ in range(book.options.repeat):
        drained = drain(place, runs, in_flight=IN_FLIGHT)
        row = {"peak_mb": drained.peak_bytes / 1e6, "steps_per_s": drained.rate}
        book.add("memory", place.name, f"{IN_FLIGHT} in flight", row)
    if book.options.minutes:
        book.add("memory", place.name, f"{IN_FLIGHT} in flight, {book.options.minutes:g} minutes", _flat(place, book))


def _flat(place: Place, book: Book) -> dict[str, float]:
    """The first minute beside the last; the very first seconds are left out, as everything is still being loaded."""
    place.fresh()
    seen: list[float] = []
    seconds = book.options.minutes * 60
    with working(place, "--concurrency", str(IN_FLIGHT), patience=PATIENCE + seconds) as worker:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            _keep_busy()
            time.sleep(_LOOK)
            seen.append(resident_bytes(worker.pid) / 1e6)
        finished = workflows.flow.runs.states("completed").count()
    minutes = [Spread.of(seen[first : first + _MINUTE]).median for first in range(_WARM_UP, len(seen), _MINUTE)]
    return {
        "peak_mb": max(seen), "first_minute_mb": minutes[0], "last_minute_mb": minutes[-1],
        "grown_mb": minutes[-1] - minutes[0], "steps_per_s": finished * STEPS / seconds,
        **{f"minute_{number}_mb": each for number, each in enumerate(minutes, start=1)},
    }  # fmt: skip


def _keep_busy() -> None:
    waiting = workflows.flow.runs.filter(ready=True).order_by()[:_BACKLOG].count()
    if waiting < _BACKLOG:
        workflows.flow.start_many([(STEPS,)] * _BACKLOG)


COLUMNS = {
    "peak_mb": "peak MB",
    "first_minute_mb": "first minute",
    "last_minute_mb": "last minute",
    "grown_mb": "grown",
    "steps_per_s": "steps/s",
}
WORKLOAD = Workload("memory", f"memory of the worker with {IN_FLIGHT} `def` runs in flight", measure, COLUMNS)
