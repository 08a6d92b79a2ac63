"""W2, W9, W10: one run alone in the worker, milliseconds per step beside the same writes without a workflow.

W2: 200 no-op steps beside the raw commit. W9: each step writes one row through the ORM, beside that write alone plus
one raw commit. W10: the same with `atomic=True`, beside Django's own `atomic()` and `create()`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Min

from canx_flow.models import StepRecord, WorkflowRun
from canx_flow.workflows import Workflow

from . import workflows
from .book import Book
from .peers import Peer
from .places import Place
from .workers import working
from .workload import Workload

STEPS = 200
#: Repetitions per one that is asked for: each is short, and one disturbance must not decide.
_EACH = 3
_BASE_SECONDS = 0.5


def no_ops(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    place.fresh()
    with working(place):
        _ms_per_step(workflows.flow, STEPS)
        for _ in range(book.options.repeat * _EACH):
            with place.beside() as raw:
                ours = _ms_per_step(workflows.flow, STEPS)
            book.add("w2", place.name, "alone", _beside_raw(ours, raw))
    for peer in peers:
        with place.beside() as raw:
            found = peer.alone(place, STEPS, book.options.repeat)
        for theirs in found:
            book.add("w2", place.name, "alone", _beside_raw(theirs, raw), peer.name)


def _beside_raw(ms: float, raw: list[float]) -> dict[str, float]:
    return {"ms_per_step": ms, "raw_ms": 1000 / raw[0], "x_raw": ms * raw[0] / 1000}


def writes(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    def beside() -> dict[str, float]:
        alone, raw = _ms_of(workflows.write), 1000 / place.raw(_BASE_SECONDS)
        return {"base_ms": alone + raw, "write_ms": alone, "raw_ms": raw}

    _writing(place, book, "w9", beside, atomic=False)


def atomic_writes(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    def beside() -> dict[str, float]:
        return {"base_ms": _ms_of(transaction.atomic(workflows.write))}

    _writing(place, book, "w10", beside, atomic=True)


def _writing(place: Place, book: Book, name: str, beside: Callable[[], dict[str, float]], *, atomic: bool) -> None:
    place.fresh()
    with working(place):
        _ms_per_step(workflows.writing, STEPS, atomic)
        for _ in range(book.options.repeat * _EACH):
            base = beside()
            ours = _ms_per_step(workflows.writing, STEPS, atomic)
            book.add(name, place.name, "alone", {"ms_per_step": ours, **base, "x_base": ours / base["base_ms"]})


def _ms_per_step(workflow: Workflow[..., Any], steps: int, *more: Any) -> float:
    """From the first step's start to the run's end, as its own rows tell."""
    run_id = workflow.start(steps, *more)
    workflow.result(run_id, timeout=120)
    return took(run_id) / steps * 1000


def took(run_id: UUID) -> float:
    began: Any = StepRecord.objects.filter(run_id=run_id).aggregate(began=Min("started_at"))["began"]
    ended: Any = WorkflowRun.objects.get(id=run_id).finished_at
    return float((ended - began).total_seconds())


def _ms_of(write: Callable[[int], object]) -> float:
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < _BASE_SECONDS:
        write(count)
        count += 1
    return passed / count * 1000


W2 = Workload(
    "w2", f"one run of {STEPS} no-op steps, alone in the worker", no_ops,
    {"ms_per_step": "ms/step", "raw_ms": "raw commit ms", "x_raw": "x raw"},
)  # fmt: skip
W9 = Workload(
    "w9", "a step with one ORM write", writes,
    {"ms_per_step": "ms/step", "base_ms": "write + raw commit ms", "x_base": "x that", "write_ms": "write ms"},
)  # fmt: skip
W10 = Workload(
    "w10", "a step with one ORM write, atomic=True", atomic_writes,
    {"ms_per_step": "ms/step", "base_ms": "atomic() + create() ms", "x_base": "x that"},
)  # fmt: skip
