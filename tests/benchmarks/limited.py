"""W19: W1 through a queue whose limits do not bind, beside W1 itself: what limits cost where they change nothing.

Each case is drained between two drains without limits, and told beside their mean: the speed of a machine swings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from canx_flow import queues

from . import workflows
from .book import Book
from .peers import Peer
from .places import Place
from .throughput import STEPS, Drained, drain, drained, enough_runs
from .workload import Workload

QUEUE = "limited"
IN_FLIGHT = 32


@dataclass(frozen=True)
class Case:
    """Limits that the worker never reaches; `partitions`: over how many its runs are spread, if over any."""

    name: str
    limits: Mapping[str, Any]
    partitions: int = 0


CASES = (
    Case("concurrency 1,000", {"concurrency": 1000}),
    Case("rate 1,000,000/m", {"rate": "1000000/m"}),
    Case("100 partitions, 1,000 of each", {"partition_concurrency": 1000}, partitions=100),
)


def measure(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    """Every case in each repetition, in turn with the peers that have such limits."""
    seconds = book.options.seconds
    runs = enough_runs(place, seconds, in_flight=IN_FLIGHT) if seconds else 10
    for _ in range(book.options.repeat):
        before = _unlimited(place, runs)
        for case in CASES:
            found, after = _through(place, runs, case), _unlimited(place, runs)
            without = (before.rate + after.rate) / 2
            figures = found.figures()
            rate = figures.pop("steps_per_s")
            row = {"steps_per_s": rate, "x_w1": rate / without, "w1_per_s": without, **figures}
            book.add("w19", place.name, case.name, row)
            before = after
        for peer in peers:
            for case in CASES if peer.has_limits else ():
                row = peer.throughput(place, case.limits, case.partitions)
                book.add("w19", place.name, case.name, row, peer.name)


def _unlimited(place: Place, runs: int) -> Drained:
    return drain(place, runs, in_flight=IN_FLIGHT)


def _through(place: Place, runs: int, case: Case) -> Drained:
    """Drain as many runs from a queue with the case's limits."""
    place.fresh()
    queues.limits(QUEUE, **case.limits)
    return drained(place, list(_queued(runs, case)), steps=STEPS, in_flight=IN_FLIGHT)


def _queued(runs: int, case: Case) -> Iterator[UUID]:
    flow = workflows.flow.using(queue=QUEUE)
    if not case.partitions:
        yield from flow.start_many([(STEPS,)] * runs)
    for number in range(case.partitions):
        of_it = len(range(number, runs, case.partitions))
        yield from flow.using(partition=f"tenant-{number}").start_many([(STEPS,)] * of_it)


COLUMNS = {
    "steps_per_s": "steps/s",
    "x_w1": "x W1",
    "w1_per_s": "W1 steps/s",
    "worker_cpu_ms_per_step": "worker CPU ms/step",
    "database_cpu_ms_per_step": "database CPU ms/step",
    "statements_per_step": "statements/step",
    "commits_per_step": "commits/step",
}
WORKLOAD = Workload("w19", "W1 through queues with limits that do not bind", measure, COLUMNS)
