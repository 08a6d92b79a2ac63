"""W5: a worker is killed in the middle of a step, and another one started. When does the run go on, and with what?"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from . import workflows
from .book import Book
from .peers import Peer
from .places import Place
from .workers import Worker, working
from .workload import Workload

STEPS, KILLED_IN = 10, 5


def measure(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    for _ in range(book.options.repeat):
        with tempfile.TemporaryDirectory() as folder:
            book.add("w5", place.name, "same host", _resumed(place, Path(folder) / "stamps"))


def _resumed(place: Place, stamps: Path) -> dict[str, float]:
    place.fresh()
    stamps.touch()
    first = Worker(place, BENCH_STAMPS=str(stamps))
    try:
        run_id = workflows.slow.start(STEPS)
        while not any(number == KILLED_IN for _at, _pid, number in _told(stamps)):
            time.sleep(0.002)
        time.sleep(workflows.SLOW / 2)
    finally:
        first.kill()
    with working(place, BENCH_STAMPS=str(stamps)) as second:
        workflows.slow.result(run_id, timeout=120)
        resumed_at = next(at for at, pid, _number in _told(stamps) if pid == second.pid)
    times = Counter(number for _at, _pid, number in _told(stamps))
    assert times.keys() == set(range(STEPS)), "a step is missing"
    return {
        "after_banner_ms": (resumed_at - second.ready_at) * 1000,
        "after_spawn_ms": (resumed_at - second.spawned_at) * 1000,
        "stored_steps_again": sum(times[number] - 1 for number in range(STEPS) if number != KILLED_IN),
        "broken_step_ran": times[KILLED_IN],
    }


def _told(stamps: Path) -> list[tuple[float, int, int]]:
    """Time, process and number of every step that began."""
    lines = (line.split() for line in stamps.read_text().splitlines())
    return [(float(at), int(pid), int(number)) for at, pid, number in lines]


COLUMNS = {
    "after_banner_ms": "ms after banner",
    "after_spawn_ms": "ms after spawn",
    "stored_steps_again": "stored steps run again",
    "broken_step_ran": "times the broken step ran",
}
WORKLOAD = Workload("w5", "worker killed mid-step, a new one started: until the run goes on", measure, COLUMNS)
