"""W15: what a worker's turn, projects and people ask of the tables, beside few runs and beside many.

With and without statistics. Milliseconds are what a caller waits; pages, which the server counts, do not
depend on what else the machine does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice

from django.db import connection

from . import filling
from .book import Book
from .measure import percentile
from .operations import Operation, operations
from .peers import Peer
from .places import Place
from .workload import Workload

#: Calls that are not counted, and those that are, for each repetition.
_WARM_UP, _TIMES = 2, 5


def measure(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    """Fill the tables once for each number of runs; every operation is repeated there, the first times for warmth."""
    found: dict[str, dict[str, float]] = {}
    times = _TIMES * book.options.repeat if book.options.seconds else 1
    for runs in book.options.stored:
        place.fresh()
        filling.leave_statistics_alone()
        filling.fill(runs)
        for analysed in (False, True):
            filling.settle(analysed=analysed)
            for operation in operations():
                row = found.setdefault(operation.name + ("" if analysed else ", not analysed"), {})
                row.update(_figures(place, operation, runs, times))
    for name, row in found.items():
        book.add("w15", place.name, name, {**row, **_grown(row)})


def _figures(place: Place, operation: Operation, runs: int, times: int) -> dict[str, float]:
    taken: list[float] = []
    pages = place.pages()
    for seconds in _seconds(operation, _WARM_UP + times):
        taken.append(seconds)
        if len(taken) == _WARM_UP:
            pages = place.pages()
    found = taken[_WARM_UP:] or taken
    if not found:  # There are no such runs in tables so small.
        return {}
    row = {f"ms_{runs}": percentile(found, 50) * 1000}
    if read := place.pages() - pages:
        row[f"pages_{runs}"] = read / len(found)
    return row


def _seconds(operation: Operation, times: int) -> Iterator[float]:
    """Seconds of each call; what it is given is made outside the time."""
    for given in islice(operation.given(), times):
        began = time.perf_counter()
        operation.call(given)
        yield time.perf_counter() - began
    assert not connection.in_atomic_block


def _grown(row: dict[str, float]) -> dict[str, float]:
    """By how much the largest tables take more than the smallest."""
    grown = {}
    for unit in ("ms", "pages"):
        values = [value for name, value in row.items() if name.startswith(f"{unit}_")]
        if len(values) > 1:
            grown[f"x_{unit}"] = values[-1] / values[0]
    return grown


_SIZES = {10_000: "10,000", 100_000: "100,000", 1_000_000: "1,000,000", 10_000_000: "10,000,000"}
COLUMNS = {
    "x_pages": "x pages",
    **{f"pages_{size}": f"pages at {told}" for size, told in _SIZES.items()},
    "x_ms": "x ms",
    **{f"ms_{size}": f"ms at {told}" for size, told in _SIZES.items()},
}
WORKLOAD = Workload("w15", "calls, lists and chores beside any number of runs", measure, COLUMNS, on_request=True)
