"""W7: a parent of a hundred children that do nothing, one after another and all at once, alone in the worker.

Milliseconds per child, from the parent's first claim to its end, beside those of a plain step of a run alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from canx_flow.models import WorkflowRun
from canx_flow.workflows import Workflow

from . import workflows
from .book import Book
from .peers import Peer
from .places import Place
from .workers import working
from .workload import Workload

CHILDREN = 100
CASES: dict[str, Workflow[..., Any]] = {"one after another": workflows.calls, "all at once": workflows.spawns}


def measure(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    place.fresh()
    with working(place):
        for parent in CASES.values():
            _milliseconds(parent, 10)
        for _ in range(book.options.repeat):
            step = _milliseconds(workflows.flow, CHILDREN)
            for case, parent in CASES.items():
                child = _milliseconds(parent, CHILDREN)
                row = {"ms_per_child": child, "x_step": child / step, "ms_per_step": step, "children": CHILDREN}
                book.add("w7", place.name, case, row)
    for peer in peers:
        for child in peer.alone(place, CHILDREN, book.options.repeat, "family"):
            row = {"ms_per_child": child, "children": CHILDREN}
            book.add("w7", place.name, f"{peer.name}, all at once", row)


def _milliseconds(workflow: Workflow[..., Any], number: int) -> float:
    """What a run of so many children, or steps, takes for each."""
    run_id: UUID = workflow.start(number)
    workflow.result(run_id, timeout=60)
    run = WorkflowRun.objects.get(id=run_id)
    assert WorkflowRun.objects.filter(parent_id=run_id, state="completed").count() in (0, number)
    assert run.started_at is not None
    assert run.finished_at is not None
    return (run.finished_at - run.started_at).total_seconds() / number * 1000


COLUMNS = {
    "ms_per_child": "ms/child",
    "x_step": "x a plain step",
    "ms_per_step": "ms/step",
    "children": "children",
}
WORKLOAD = Workload("w7", f"a parent of {CHILDREN} children", measure, COLUMNS)
