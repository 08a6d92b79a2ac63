"""W1: runs of ten no-op steps, queued and then drained by one worker, at several numbers of runs in flight.

From the first step's start to the last run's end, as the worker's own rows tell. Counted: everything that the worker
sent from its start to its end.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db.models import Max, Min

from canx_flow.models import StepRecord, WorkflowRun
from canx_flow.workflows import Workflow

from . import workflows
from .book import Book
from .peers import Peer
from .places import Place
from .workers import Worker
from .workload import ALL, Workload

STEPS = 10
#: The default of `runflowworker` first.
IN_FLIGHT = (16, 32, 100)
_PILOT_RUNS = 300
_TRACED_STEPS = 6000


@dataclass(frozen=True, slots=True)
class Drained:
    """One repetition."""

    runs: int
    steps: int
    seconds: float
    worker_cpu: float
    database_cpu: float
    peak_bytes: int
    counted: dict[str, int]

    @property
    def rate(self) -> float:
        return self.steps / self.seconds

    def figures(self) -> dict[str, float]:
        return {
            "steps_per_s": self.rate,
            "runs": self.runs,
            "seconds": self.seconds,
            "worker_cpu_ms_per_step": self.worker_cpu / self.steps * 1000,
            **({"database_cpu_ms_per_step": self.database_cpu / self.steps * 1000} if self.database_cpu else {}),
            "peak_mb": self.peak_bytes / 1e6,
            **{f"{name}_per_step": count / self.steps for name, count in self.counted.items()},
            **{f"{name}_per_run": count / self.runs for name, count in self.counted.items()},
        }


def drain(
    place: Place, runs: int, *, steps: int = STEPS, in_flight: int = 16, workers: int = 1,
    workflow: Workflow[..., Any] = workflows.flow, fresh: bool = True, **environment: str,
) -> Drained:  # fmt: skip
    """Queue these runs, in empty tables unless told otherwise, and let the workers drain them."""
    if fresh:
        place.fresh()
    ids = workflow.start_many([(steps,)] * runs)
    return drained(place, ids, steps=steps, in_flight=in_flight, workers=workers, **environment)


def drained(
    place: Place, ids: list[UUID], *, steps: int, in_flight: int, workers: int = 1, **environment: str
) -> Drained:
    """Let the workers drain these runs, which are queued."""
    place.settle()
    before, cpu_before = place.counters(), place.cpu()
    started = [Worker(place, "--burst", "--concurrency", str(in_flight), **environment) for _ in range(workers)]
    worker_cpu = sum(worker.wait() for worker in started)
    place.settle()
    after, database_cpu = place.counters(), place.cpu() - cpu_before
    return Drained(
        len(ids), len(ids) * steps, _took(ids, steps), worker_cpu, database_cpu,
        max(worker.peak_bytes for worker in started),
        {name: after[name] - before[name] for name in after},
    )  # fmt: skip


def _took(ids: list[UUID], steps: int) -> float:
    """Seconds from the first step to the last end; everything must have been done."""
    ours = WorkflowRun.objects.filter(id__range=(min(ids), max(ids)))
    ends, records = ours.filter(state="completed"), StepRecord.objects.filter(run__in=ours)
    assert ends.count() == len(ids), f"{len(ids) - ends.count()} of {len(ids)} runs are not completed"
    assert records.count() == len(ids) * steps, f"{records.count()} records of {len(ids) * steps} steps"
    began: Any = records.aggregate(began=Min("started_at"))["began"]
    ended: Any = ends.aggregate(ended=Max("finished_at"))["ended"]
    return float((ended - began).total_seconds())


def enough_runs(place: Place, seconds: float, **options: Any) -> int:
    """How many runs take about so long: found by draining a few, and then some more."""
    runs = _PILOT_RUNS
    for _ in range(2):
        took = drain(place, runs, **options).seconds
        if took >= seconds:
            break
        runs = min(runs * 20, round(runs * seconds / took * 1.15))
    return runs


def measure(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    """At each number of runs in flight, in turn with the peers; the raw limit right before each."""
    options = book.options
    numbers = options.in_flight or (IN_FLIGHT if place.durable else IN_FLIGHT[:1])
    runs = {n: enough_runs(place, options.seconds, in_flight=n) for n in numbers}
    counted = {n: traced(place, in_flight=n) for n in numbers}
    for _ in range(options.repeat):
        for n in numbers:
            with place.beside() as raw:
                row = drain(place, runs[n], in_flight=n).figures()
            book.add("w1", place.name, f"{n} in flight", beside_raw({**row, **counted[n]}, raw))
        for peer in peers:
            with place.beside() as raw:
                row = peer.throughput(place)
            book.add("w1", place.name, "its default", beside_raw(row, raw), peer.name)


def beside_raw(row: dict[str, float], raw: list[float]) -> dict[str, float]:
    """The row, with what the bare driver did at that time."""
    rate = row.pop("steps_per_s")
    return {"steps_per_s": rate, "x_raw": rate / raw[0], "raw_per_s": raw[0], **row}


def traced(place: Place, *, steps: int = STEPS, **options: Any) -> dict[str, float]:
    """What is sent per step where only a trace can tell: it would slow a measured repetition."""
    if not place.traced:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "counts.json"
        drained = drain(place, max(1, _TRACED_STEPS // steps), steps=steps, BENCH_TRACE=str(path), **options)
        counts: dict[str, int] = json.loads(path.read_text())
    framing = sum(counts.get(word, 0) for word in ("BEGIN", "COMMIT", "ROLLBACK"))
    sent = {
        "statements": sum(counts.values()) - framing,
        "begin_commit": framing,
        "commits": counts.get("COMMIT", 0),
    }
    return {f"{name}_per_step": count / drained.steps for name, count in sent.items()} | {
        f"{name}_per_run": count / drained.runs for name, count in sent.items()
    }


COLUMNS = {
    "steps_per_s": "steps/s",
    "x_raw": "x raw",
    "raw_per_s": "raw rows/s",
    "worker_cpu_ms_per_step": "worker CPU ms/step",
    "database_cpu_ms_per_step": "database CPU ms/step",
    "statements_per_step": "statements/step",
    "begin_commit_per_step": "BEGIN+COMMIT/step",
    "commits_per_step": "commits/step",
    "statements_per_run": "statements/run",
    "peak_mb": "peak MB",
}
WORKLOAD = Workload("w1", "runs of 10 no-op steps, drained by one worker", measure, COLUMNS, ALL)
