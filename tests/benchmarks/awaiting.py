"""W11: 256 async runs in flight, each awaiting 50 ms in every step. Ideal: all of them wait, all the time.

Where the worker cannot store that many steps, its rate with steps that await nothing is the limit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from . import workflows
from .book import Book
from .peers import Peer
from .places import Place
from .throughput import drain, enough_runs
from .workers import working
from .workload import Workload

IN_FLIGHT = 256
IDEAL = IN_FLIGHT / workflows.AWAITED
_LOOK = 0.2


def measure(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    seconds = book.options.seconds
    unhindered = enough_runs(place, seconds, in_flight=IN_FLIGHT, workflow=workflows.async_flow)
    # Whole rounds, and several of them: in a last one that is not full, slots wait for runs, not runs for the worker.
    rounds = 2 * enough_runs(place, seconds, in_flight=IN_FLIGHT, workflow=workflows.waiting) // IN_FLIGHT + 1
    runs = rounds * IN_FLIGHT
    idle = _sessions_of_an_idle_worker(place)
    for _ in range(book.options.repeat):
        most = drain(place, unhindered, in_flight=IN_FLIGHT, workflow=workflows.async_flow).rate
        with _watching(place.connections) as seen:
            drained = drain(place, runs, in_flight=IN_FLIGHT, workflow=workflows.waiting)
        sessions = {"sessions": max(seen), "idle_sessions": idle, "more_sessions": max(seen) - idle} if idle else {}
        book.add("w11", place.name, f"{IN_FLIGHT} in flight", {
            "steps_per_s": drained.rate, "x_ideal": drained.rate / min(IDEAL, most), "unhindered_per_s": most,
            **sessions, **drained.figures(),
        })  # fmt: skip


def _sessions_of_an_idle_worker(place: Place) -> int:
    place.fresh()
    with working(place), _watching(place.connections) as seen:
        threading.Event().wait(2.0)
    return seen[-1]


@contextmanager
def _watching(look: Callable[[], int]) -> Iterator[list[int]]:
    """Everything that `look` said, again and again, while the block ran."""
    seen: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK):
            seen.append(look())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield seen
    finally:
        ended.set()
        watching.join()


COLUMNS = {
    "steps_per_s": "steps/s",
    "x_ideal": f"x ideal ({IDEAL:,.0f} or unhindered)",
    "unhindered_per_s": "unhindered steps/s",
    "sessions": "sessions",
    "idle_sessions": "of them idle",
    "worker_cpu_ms_per_step": "worker CPU ms/step",
    "peak_mb": "peak MB",
}
WORKLOAD = Workload(
    "w11", f"{IN_FLIGHT} async runs in flight, each step awaits {workflows.AWAITED * 1000:g} ms", measure, COLUMNS
)
