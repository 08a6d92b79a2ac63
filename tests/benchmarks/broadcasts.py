"""W16: another process broadcasts a thousand events a second. Runs are started meanwhile, and some wait for an event.

How long until a worker has picked a start up, until a run that waits goes on, and what it costs the worker.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from canx_flow.models import Event, WorkflowRun

from ..waiting import wait_until
from . import workflows
from .book import Book
from .latency import pause
from .measure import percentile
from .peers import Peer
from .places import Place
from .workers import ROOT, Worker, working
from .workload import Workload

RATE = 1000
OPEN = 10_000
_HEARD_PER_S = 20  # broadcasts that a run waits for
_PATIENCE = 120.0
_PAUSE = 0.5  # seconds between two counts of all runs that have ended, on the cores that are measured


def measure(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    seconds = max(1.0, 2 * book.options.seconds)
    for waits in (0, OPEN):
        for _ in range(book.options.repeat):
            place.fresh()
            with working(place) as worker:
                _listen(waits)
                row = _broadcast(place, worker, seconds, int(_HEARD_PER_S * seconds) if waits else 0)
            book.add("w16", place.name, f"{waits:,} open waits" if waits else "nobody waits", row)


def _listen(waits: int) -> None:
    """Start runs that wait, each for its own key, and see them wait."""
    if waits:
        workflows.listen.start_many([(f"order-{number}",) for number in range(waits)])
    waiting = WorkflowRun.objects.filter(state="waiting")
    wait_until(lambda: waiting.count() >= waits, _PATIENCE, message="not all runs wait")


def _broadcast(place: Place, worker: Worker, seconds: float, heard: int) -> dict[str, float]:
    worker_before, database_before, began = worker.cpu(), place.cpu(), time.perf_counter()
    sender = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.broadcaster", str(RATE), str(seconds), str(heard)],
        cwd=ROOT, env={**os.environ, **place.environment()}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    ids = []
    while sender.poll() is None:
        pause()
        ids.append(workflows.flow.start(1))
    passed = time.perf_counter() - began
    worker_cpu, database_cpu = worker.cpu() - worker_before, place.cpu() - database_before
    assert sender.stdout is not None
    sent = float(sender.stdout.read())
    _wait_for_ends(len(ids) + heard)
    starts = WorkflowRun.objects.filter(id__in=ids).values_list("created_at", "started_at")
    picked_up = [(started - created).total_seconds() for created, started in starts if started is not None]
    delivered = _delivered(heard)
    return {
        "sent_per_s": sent,
        "start_p50_ms": percentile(picked_up, 50) * 1000, "start_p99_ms": percentile(picked_up, 99) * 1000,
        **({"delivery_p50_ms": percentile(delivered, 50) * 1000, "delivery_p99_ms": percentile(delivered, 99) * 1000}
           if delivered else {}),
        "worker_percent": worker_cpu / passed * 100, "database_percent": database_cpu / passed * 100,
        "count": len(picked_up),
    }  # fmt: skip


def _wait_for_ends(runs: int) -> None:
    ended = WorkflowRun.objects.filter(state="completed")
    wait_until(lambda: ended.count() >= runs, _PATIENCE, message="not all runs have ended", pause=_PAUSE)


def _delivered(heard: int) -> list[float]:
    """Seconds from each broadcast that a run waited for until that went on."""
    events = Event.objects.filter(name="paid", key__in=[f"order-{number}" for number in range(heard)])
    sent_at = {key: moment.timestamp() for key, moment in events.values_list("key", "created_at")}
    ended = [
        workflows.listen.result(run.id) for run in WorkflowRun.objects.filter(workflow="listen", state="completed")
    ]
    return [moment - sent_at[key] for key, moment in ended]


COLUMNS = {
    "sent_per_s": "sent/s",
    "start_p50_ms": "start picked up p50 ms",
    "start_p99_ms": "p99 ms",
    "delivery_p50_ms": "delivered p50 ms",
    "delivery_p99_ms": "p99 ms",
    "worker_percent": "worker's CPU %",
    "database_percent": "database's",
    "count": "starts",
}
WORKLOAD = Workload("w16", f"{RATE:,} broadcasts a second", measure, COLUMNS, ("postgresql",))
