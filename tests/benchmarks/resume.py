"""W8: a run with thousands of stored steps goes on. What does each of them cost, its loading included?

From the event that wakes it to its next step, less the same for a run with one stored step.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from canx_flow import client
from canx_flow.models import StepRecord, WorkflowRun
from canx_flow.workflows import Workflow

from . import workflows
from .book import Book
from .measure import Spread, cpu_seconds_of_threads
from .peers import Peer
from .places import Place
from .workers import Worker, working
from .workload import Workload

LENGTHS = (500, 1000, 2000, 5000)
_TURNS = 5


class History:
    """One run of this worker's, and how often it was woken."""

    def __init__(self, worker: Worker, workflow: Workflow[..., Any], steps: int) -> None:
        self._worker = worker
        self._run_id = workflow.start(steps)
        self._turn = 0
        #: How often we ourselves have read its records.
        self.looks = 0

    def go_on(self) -> tuple[float, float]:
        """Wake it; seconds until its next step begins, and the worker's CPU until it waits again."""
        self.wait()
        cpu, sent_at = cpu_seconds_of_threads(self._worker.pid), time.time()
        client.send(self._run_id, "go on")
        while (told := self._told()) is None:
            time.sleep(0.005)
        self._turn += 1
        self.wait()
        return float(json.loads(told)) - sent_at, cpu_seconds_of_threads(self._worker.pid) - cpu

    def wait(self) -> None:
        """Until it waits for its next event."""
        while not WorkflowRun.objects.filter(id=self._run_id, state="waiting").exists():
            time.sleep(0.01)

    def _told(self) -> str | None:
        self.looks += 1
        found = StepRecord.objects.filter(run_id=self._run_id, name=f"there-{self._turn}")
        return found.values_list("result", flat=True).first()


def measure(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    place.fresh()
    with working(place) as worker:
        histories = {steps: History(worker, workflows.history, steps) for steps in (1, *LENGTHS)}
        for _ in range(book.options.repeat):
            _record(place, book, histories)


def _record(place: Place, book: Book, histories: dict[int, History]) -> None:
    """A few turns of every run, in turn; the median of each length. One more counts the statements."""
    turns = [{steps: history.go_on() for steps, history in histories.items()} for _ in range(_TURNS)]
    took = {steps: Spread.of(turn[steps][0] for turn in turns).median for steps in histories}
    cpu = {steps: Spread.of(turn[steps][1] for turn in turns).median for steps in histories}
    for steps in LENGTHS:
        book.add("w8", place.name, f"{steps:,} steps", {
            "us_per_step": (took[steps] - took[1]) / steps * 1e6,
            "cpu_us_per_step": (cpu[steps] - cpu[1]) / steps * 1e6,
            "ms": took[steps] * 1000,
            "base_ms": took[1] * 1000,
            **_counted(place, histories[steps]),
        })  # fmt: skip


def _counted(place: Place, history: History) -> dict[str, float]:
    """How many SELECTs read its records when it goes on, less our own."""
    history.wait()
    before, looks = place.selects(StepRecord._meta.db_table), history.looks
    history.go_on()
    after = place.selects(StepRecord._meta.db_table)
    return {"selects": after - before - (history.looks - looks)} if after else {}


COLUMNS = {
    "us_per_step": "us/step",
    "cpu_us_per_step": "worker CPU us/step",
    "ms": "ms in all",
    "base_ms": "ms with 1 step",
    "selects": "SELECTs of records",
}
WORKLOAD = Workload("w8", "a run with stored steps goes on, with the load", measure, COLUMNS)
