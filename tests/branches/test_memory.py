"""What very many branches take of a real worker's memory: a bounded piece, however often they come."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from ..benchmarks.measure import peak_bytes, resident_bytes
from ..crowding import FLOWS, KINDS
from ..processes import WorkerProcess
from ..waiting import wait_until

pytestmark = [
    pytest.mark.once,
    pytest.mark.parametrize("kind", KINDS),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="its meters read /proc"),
]

#: What a worker may have grown by, and what the last runs may have added to that: their like has been there before.
MOST, MOST_AT_LAST = 90e6, 15e6
RUNS = 6


def _ended(flow: Any, run_id: Any) -> Any:
    return wait_until(lambda: flow.status(run_id).finished_at and flow.status(run_id), 120)


def _grown(worker: WorkerProcess, flow: Any, few: int, many: int) -> tuple[Any, float, float]:
    """What each run of so many branches returns, and by how many bytes they have let the worker grow, at last too."""
    worker.start()
    _ended(flow, flow.start(few))  # Whatever is loaded once is loaded.
    sizes, results = [resident_bytes(worker.pid)], []
    for _ in range(RUNS):
        results.append(_ended(flow, flow.start(many)).result)
        sizes.append(resident_bytes(worker.pid))
    assert results == results[:1] * RUNS
    print("MB:", *(round(size / 1e6) for size in sizes))
    return results[0], peak_bytes(worker.pid) - sizes[0], sizes[-1] - sizes[-2]


def test_a_thousand_branches_of_one_gather(worker: WorkerProcess, kind: str) -> None:
    """All of them sleep at one time; what they took is taken again by those of a later run."""
    result, grown, at_last = _grown(worker, FLOWS["wide", kind], 50, 1000)
    assert result == 2000
    assert grown < MOST
    assert at_last < MOST_AT_LAST


def test_maps_in_a_gather_in_a_race(worker: WorkerProcess, kind: str) -> None:
    """Ten thousand items in two hundred branches; the race is won, and nothing of it stays."""
    result, grown, at_last = _grown(worker, FLOWS["deep", kind], 4, 200)
    assert result == ("work", 10_000)
    assert grown < MOST
    assert at_last < MOST_AT_LAST
