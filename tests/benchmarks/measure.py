"""Arithmetic and meters that every workload shares: spread, percentiles, CPU time of processes."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Spread:
    """Several repetitions of one figure."""

    median: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        found = sorted(values)
        return cls(statistics.median(found), found[0], found[-1], len(found))

    def as_json(self) -> dict[str, float]:
        return asdict(self)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which so many per cent of them lie (nearest rank)."""
    found = sorted(values)
    return found[min(len(found) - 1, round(percent / 100 * (len(found) - 1)))]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of the children that it has outlived."""
    return sum(_stat(pid)[11:15]) / _TICKS


def cpu_seconds_with_children(pid: int) -> float:
    """The same, with the children that are alive: of a PostgreSQL cluster, whose backends come and go."""
    return cpu_seconds(pid) + sum(cpu_seconds(child) for child in children(pid))


def children(parent: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if _stat(int(folder.name))[1] == parent:
                found.append(int(folder.name))
    return found


def cpu_seconds_of_threads(pid: int) -> float:
    """CPU time of the threads that a process has now, to the nanosecond: for what takes less than a tick."""
    spent = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError):
            spent += int(thread.read_text().split()[0])
    return spent / 1e9


def resident_bytes(pid: int) -> int:
    return _status(pid, "VmRSS")


def peak_bytes(pid: int) -> int:
    """What it has had resident at most; not the kernel's own answer at its end, which knows the parent's peak too."""
    return _status(pid, "VmHWM")


def _status(pid: int, name: str) -> int:
    """0 once the process is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0


def _stat(pid: int) -> list[int]:
    """/proc/<pid>/stat from the state on, which is given as 0; zeros once the process is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return [0] * 50
    return [0, *map(int, fields[1:])]


def per_run(before: dict[str, int], after: dict[str, int], runs: int) -> dict[str, float]:
    """Name what each of these runs has added."""
    return {f"{name}_per_run": (after[name] - before[name]) / runs for name in after}
