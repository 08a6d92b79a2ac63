"""W18: `pruneflows` deletes what ended long ago, a quarter of all runs, beside a worker and those who start runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from . import filling, latency
from .book import Book
from .measure import percentile
from .peers import Peer
from .places import Place
from .workers import ROOT, working
from .workload import Workload

_WARM_UP, _STARTS, _AT_ONCE = 5, 40, 5
_DAYS = 270


def measure(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    """Starts before, beside and after it; the runs in the tables are those of the largest tables of W15."""
    runs = book.options.stored[-1]
    for _ in range(book.options.repeat):
        place.fresh()
        filling.fill(runs)
        filling.settle(analysed=True)
        with working(place, "--queue", "default"):
            latency.latencies(_WARM_UP)
            before = latency.latencies(_STARTS)
            beside, pruned, seconds = _prune(place)
            after = latency.latencies(_STARTS)
        alone, busy = percentile([*before, *after], 50) * 1000, percentile(beside, 50) * 1000
        row = {
            "runs_per_s": pruned / seconds, "more_ms": busy - alone, "p50_ms": busy, "alone_p50_ms": alone,
            "p99_ms": percentile(beside, 99) * 1000, "pruned": pruned, "starts": len(beside),
        }  # fmt: skip
        book.add("w18", place.name, f"of {runs:,} runs", row)


def _prune(place: Place) -> tuple[list[float], int, float]:
    """Latencies beside it, how many runs it has deleted, and the seconds that it took, its own start included."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "django", "pruneflows", "--older-than", str(_DAYS), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **place.environment()}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        beside = []
        while process.poll() is None:
            beside += latency.latencies(_AT_ONCE)
        told = json.loads(process.stdout.read())
    return beside, told["deleted"]["runs"], time.perf_counter() - began


COLUMNS = {
    "runs_per_s": "runs/s",
    "more_ms": "starts: p50 ms more",
    "p50_ms": "p50 ms beside it",
    "alone_p50_ms": "alone",
    "p99_ms": "p99 ms beside it",
    "pruned": "pruned",
    "starts": "starts",
}
WORKLOAD = Workload("w18", "runs are pruned beside a worker", measure, COLUMNS, on_request=True)
