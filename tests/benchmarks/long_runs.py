"""One run of thousands of sleeps, and one of thousands of waits whose events are there already.

Sleeps: the worker's CPU per wake-up, of a run that has just begun and of one that has slept some thousand times; what
it has slept before was no time at all, in one activation. Waits: the same
of each, of short and of long runs; that nothing grows with their number, the ratio says.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import UUID

from canx_flow.models import WorkflowRun

from . import workflows
from .book import Book
from .measure import cpu_seconds_of_threads
from .peers import Peer
from .places import Place
from .workers import PATIENCE, Worker, working
from .workload import Workload

MANY, FEW = 5_000, 500
#: Wake-ups of which the CPU is the mean.
_WOKEN = 100


def measure(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    many, few, woken = (MANY, FEW, _WOKEN) if book.options.seconds else (50, 10, 5)
    place.fresh()
    rows: list[dict[str, float]] = []
    with working(place) as worker:
        _wake_ups(worker, 0, woken)  # Whatever is done once is done.
        for _ in range(book.options.repeat):
            first, last = _wake_ups(worker, 0, woken), _wake_ups(worker, many, woken)
            rows.append({"first_ms": first, "last_ms": last, "x_first": last / first})
    for row in rows:
        book.add("long", place.name, f"{many:,} sleeps", row)
    for _ in range(book.options.repeat):
        short, long = _waits(place, few), _waits(place, many)
        book.add("long", place.name, f"{many:,} waits", {"first_ms": short, "last_ms": long, "x_first": long / short})


def _wake_ups(worker: Worker, slept: int, woken: int) -> float:
    """Milliseconds of CPU that one wake-up takes of a run that has slept so often."""
    run_id = workflows.sleeper.start(slept, woken)
    _until(run_id, "sleeping")
    cpu = cpu_seconds_of_threads(worker.pid)
    workflows.sleeper.wake(run_id)
    _until(run_id, "completed")
    return (cpu_seconds_of_threads(worker.pid) - cpu) / woken * 1000


def _waits(place: Place, waits: int) -> float:
    """Milliseconds of CPU that each wait takes of a run that has so many, whose events are there."""
    place.fresh()
    run_id = workflows.waiter.start(waits)
    for _ in range(waits):
        workflows.waiter.send(run_id, "come")
    with working(place, "--burst", patience=PATIENCE) as worker:
        cpu = worker.wait()
    _until(run_id, "completed")
    return cpu / waits * 1000


def _until(run_id: UUID, state: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not WorkflowRun.objects.filter(id=run_id, state=state).exists():
        assert time.monotonic() < deadline, f"it never was {state}"
        time.sleep(0.05)


COLUMNS = {"first_ms": "ms of the first", "last_ms": "ms of the last", "x_first": "x"}
WORKLOAD = Workload("long", f"one run of {MANY:,} sleeps, one of {MANY:,} waits", measure, COLUMNS)
