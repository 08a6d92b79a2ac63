"""W12: a map of 10,000 items. W13: 1,000 branches that each sleep a second. W14: a run with stored items goes on.

W12's rate is told beside that of W1 with as many runs in flight as the map has items at a time, drained right before.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models import Max, Min

from canx_flow.models import StepRecord, WorkflowRun

from . import workflows
from .book import Book
from .measure import Spread, peak_bytes, resident_bytes
from .peers import Peer
from .places import Place
from .resume import History
from .throughput import drain
from .workers import PATIENCE, working
from .workload import Workload

ITEMS, AT_ONCE = 10_000, 32
BRANCHES = 1_000
_RUNS = 1_000  # of W1, beside the map
_TURNS = 5


def measure_map(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    items, runs = (ITEMS, _RUNS) if book.options.seconds else (100, 10)
    for _ in range(book.options.repeat):
        beside = drain(place, runs, in_flight=AT_ONCE)
        place.fresh()
        with working(place) as worker:
            _ended(workflows.mapped.start(100, AT_ONCE))  # Whatever is loaded once is loaded.
            before, cpu = resident_bytes(worker.pid), worker.cpu()
            run_id = workflows.mapped.start(items, AT_ONCE)
            _ended(run_id)
            grown, cpu = peak_bytes(worker.pid) - before, worker.cpu() - cpu
        rate = items / _seconds(run_id)
        book.add("w12", place.name, f"{items:,} items, {AT_ONCE} at a time", {
            "steps_per_s": rate, "x_w1": rate / beside.rate, "w1_per_s": beside.rate,
            "worker_cpu_ms_per_step": cpu / items * 1000,
            "w1_cpu_ms_per_step": beside.worker_cpu / beside.steps * 1000, "grown_mb": grown / 1e6,
        })  # fmt: skip
    for peer in peers:
        for milliseconds in peer.alone(place, items, book.options.repeat, "mapped"):
            row = {"steps_per_s": 1000 / milliseconds}
            book.add("w12", place.name, f"{items:,} items, {peer.maps}", row, peer.name)


def measure_branches(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    branches = BRANCHES if book.options.seconds else 20
    place.fresh()
    with working(place):
        for _ in range(book.options.repeat):
            run_id = workflows.branches.start(branches)
            _ended(run_id)
            run = WorkflowRun.objects.get(id=run_id)
            slept = StepRecord.objects.filter(run_id=run_id, kind="sleep")
            assert slept.count() == branches
            awake: Any = slept.aggregate(last=Max("finished_at"))["last"]
            assert run.started_at is not None
            assert run.finished_at is not None
            book.add("w13", place.name, f"{branches:,} branches", {
                "awake_s": (awake - run.started_at).total_seconds(),
                "ended_s": (run.finished_at - run.started_at).total_seconds(),
                "activations": run.epoch,
            })  # fmt: skip
    for peer in peers:
        for awake, ended in peer.naps(place, branches, book.options.repeat):
            case = f"{branches:,} branches, {peer.branches}"
            book.add("w13", place.name, case, {"awake_s": awake, "ended_s": ended}, peer.name)


def measure_resume(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    items = ITEMS if book.options.seconds else 100
    place.fresh()
    with working(place) as worker:
        history, base = (History(worker, workflows.mapped_history, number) for number in (items, 1))
        for _ in range(book.options.repeat):
            turns = [(history.go_on(), base.go_on()) for _ in range(_TURNS)]
            took, empty = (Spread.of(turn[n][0] for turn in turns).median for n in (0, 1))
            _add_resumed(place, book, items, took, empty)
    for peer in peers:
        for _ in range(book.options.repeat):
            took, empty = (Spread.of(peer.resumed(place, steps, _TURNS)).median for steps in (items, 1))
            _add_resumed(place, book, items, took, empty, peer.name)


def _add_resumed(place: Place, book: Book, items: int, took: float, empty: float, engine: str = "canx_flow") -> None:
    row = {"us_per_item": (took - empty) / items * 1e6, "ms": took * 1000, "base_ms": empty * 1000}
    book.add("w14", place.name, f"{items:,} items", row, engine)


def _ended(run_id: UUID) -> None:
    deadline = time.monotonic() + PATIENCE
    while not WorkflowRun.objects.filter(id=run_id, state="completed").exists():
        assert time.monotonic() < deadline, f"it is {WorkflowRun.objects.get(id=run_id).state}"
        time.sleep(0.05)


def _seconds(run_id: UUID) -> float:
    """From the first step's start to the run's end."""
    began: Any = StepRecord.objects.filter(run_id=run_id, kind="step").aggregate(began=Min("started_at"))["began"]
    ended = WorkflowRun.objects.get(id=run_id).finished_at
    assert ended is not None
    return float((ended - began).total_seconds())


W12 = Workload(
    "w12", f"a map of {ITEMS:,} no-op items, {AT_ONCE} at a time", measure_map,
    {
        "steps_per_s": "steps/s", "x_w1": "x W1", "w1_per_s": "W1 steps/s",
        "worker_cpu_ms_per_step": "worker CPU ms/step", "w1_cpu_ms_per_step": "W1's", "grown_mb": "worker grown MB",
    },
)  # fmt: skip
W13 = Workload(
    "w13", f"{BRANCHES:,} branches of one run that sleep a second each", measure_branches,
    {"awake_s": "s until all were awake", "ended_s": "s to its end", "activations": "activations"},
)  # fmt: skip
W14 = Workload(
    "w14", f"a run with a map of {ITEMS:,} stored items goes on, with the load", measure_resume,
    {"us_per_item": "us/item", "ms": "ms in all", "base_ms": "ms with 1 item"},
)  # fmt: skip
