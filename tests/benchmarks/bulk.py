"""`start_many`: a hundred thousand runs in one transaction."""

from __future__ import annotations

import time
from collections.abc import Sequence

from . import workflows
from .book import Book
from .peers import Peer
from .places import Place
from .workload import Workload

RUNS = 100_000


def measure(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    for _ in range(book.options.repeat):
        with place.beside() as raw:
            rate = _runs_per_s(place)
        row = {"runs_per_s": rate, "x_raw": rate / raw[0], "raw_per_s": raw[0]}
        book.add("start_many", place.name, f"{RUNS:,} runs", row)


def _runs_per_s(place: Place) -> float:
    place.fresh()
    began = time.perf_counter()
    workflows.flow.start_many((10,) for _ in range(RUNS))
    return RUNS / (time.perf_counter() - began)


COLUMNS = {"runs_per_s": "runs/s", "x_raw": "x raw", "raw_per_s": "raw rows/s"}
WORKLOAD = Workload("start_many", f"{RUNS:,} runs by start_many", measure, COLUMNS)
