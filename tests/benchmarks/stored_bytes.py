"""Bytes: what a run of ten no-op steps leaves in tables and indexes, and what is written ahead for it.

From before the runs are queued until the last has ended; a checkpoint right before, so that every engine writes as many
whole pages ahead.
"""

from __future__ import annotations

from collections.abc import Sequence

from .book import Book
from .measure import per_run
from .peers import Peer
from .places import Place
from .throughput import STEPS, drain
from .workload import Workload

#: Enough that the first page of each index is nothing beside them.
RUNS = 1000


def measure(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    """Count once per repetition, in turn with the peers."""
    for _ in range(book.options.repeat):
        place.fresh()
        before = place.written()
        drain(place, RUNS, steps=STEPS, fresh=False)
        book.add("bytes", place.name, _CASE, per_run(before, place.written(), RUNS))
        for peer in peers:
            book.add("bytes", place.name, _CASE, peer.written(place, RUNS), peer.name)


_CASE = f"{RUNS:,} runs"
COLUMNS = {"bytes_per_run": "bytes stored per run", "wal_bytes_per_run": "bytes of WAL per run"}
WORKLOAD = Workload(
    "bytes", "bytes stored and written ahead for a run of 10 steps", measure, COLUMNS, ("postgresql",), on_request=True
)
