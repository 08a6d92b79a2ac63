"""How W1 grows: with runs in flight, steps per run, runs that are stored already, and workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .book import Book
from .crowd import put_to_sleep
from .peers import Peer
from .places import Place
from .throughput import COLUMNS as DRAINED
from .throughput import STEPS, beside_raw, drain, enough_runs, traced
from .workload import Workload

IN_FLIGHT = (1, 2, 4, 8, 16, 32, 64, 100, 256)
STEPS_PER_RUN = (10, 100, 1000, 5000)
STORED = (1_000, 10_000, 100_000, 1_000_000)
WORKERS = (1, 2, 4, 8)
_AT = 32


def with_runs_in_flight(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    cases = {f"{n} in flight": {"in_flight": n} for n in IN_FLIGHT}
    _measure(place, book, "in-flight", cases)


def with_steps(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    cases = {f"{steps:,} steps per run": {"steps": steps, "in_flight": _AT} for steps in STEPS_PER_RUN}
    _measure(place, book, "steps", cases)


def with_workers(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    cases = {f"{workers} workers": {"workers": workers, "in_flight": _AT} for workers in WORKERS}
    _measure(place, book, "workers", cases)


def with_stored_runs(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    runs = enough_runs(place, book.options.seconds, in_flight=_AT)
    for stored in STORED:
        place.fresh()
        put_to_sleep(place, stored)
        for _ in range(book.options.repeat):
            with place.beside() as raw:
                row = drain(place, runs, in_flight=_AT, fresh=False).figures()
            book.add("stored", place.name, f"{stored:,} sleeping runs", beside_raw(row, raw))


def _measure(place: Place, book: Book, name: str, cases: dict[str, dict[str, Any]]) -> None:
    runs = {case: _enough(place, book, **given) for case, given in cases.items()}
    counted = {case: traced(place, **given) if name != "workers" else {} for case, given in cases.items()}
    for _ in range(book.options.repeat):
        for case, given in cases.items():
            with place.beside() as raw:
                row = drain(place, runs[case], **given).figures()
            book.add(name, place.name, case, beside_raw({**row, **counted[case]}, raw))


def _enough(place: Place, book: Book, steps: int = STEPS, **given: Any) -> int:
    """As many runs as the same steps take in runs of ten; never fewer than can be in flight at once."""
    found = enough_runs(place, book.options.seconds, **given)
    return max(found * STEPS // steps, given["in_flight"])


GROWTH = [
    Workload("in-flight", "W1 with 1 to 256 runs in flight", with_runs_in_flight, DRAINED, on_request=True),
    Workload("steps", "W1 with 10 to 5,000 steps per run", with_steps, DRAINED, on_request=True),
    Workload("stored", "W1 beside 1,000 to 1,000,000 sleeping runs", with_stored_runs, DRAINED, on_request=True),
    Workload("workers", "W1 with 1 to 8 workers", with_workers, DRAINED, on_request=True),
]
