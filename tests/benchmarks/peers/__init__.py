"""The peers, from the benchmark's side: their programs run in an environment of their own, made by `make bench-peers`.

The other files of this folder are those programs. Each engine keeps its defaults.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..measure import cpu_seconds_with_children, per_run

if TYPE_CHECKING:
    from ..places import Place

HERE = Path(__file__).resolve().parent
PYTHON = HERE.parents[2] / ".bench" / "peers" / "bin" / "python"
STEPS = 10
_LOOK, _PATIENCE = 0.05, 300.0


@dataclass
class Peer:
    """One engine. Every measurement begins in empty tables."""

    name: str
    program: str
    databases: tuple[str, ...]
    #: Runs of W1, so that it takes some five seconds.
    runs: int
    #: How it takes a map of items, and what its branches are: for people.
    maps: str
    branches: str
    #: Whether a run that has stored steps is replayed by a restart alone, for it holds its thread while it waits.
    replays_at_start: bool = False
    #: Whether its queues have limits as ours have: for W19.
    has_limits: bool = False
    _client: _Program = field(init=False)
    _worker: _Program = field(init=False)
    _url: str = field(default="", init=False)

    # -- what is measured, as for our own engine -----------------------------------------------------

    def throughput(
        self, place: Place, limits: Mapping[str, Any] | None = None, partitions: int = 0
    ) -> dict[str, float]:
        """W1. Statements are counted exactly, less our own asking; commits are not: idle sessions tell them late.

        W19 with `limits`: through a queue that has them, perhaps spread over so many partitions.
        """
        with self._prepared(place) as stamps:
            if limits is None:
                self._ask("start", "flow", STEPS, self.runs)
            else:
                self._ask("start_limited", "flow", STEPS, self.runs, limits, partitions)
            before = place.counters()
            with self._working(stamps) as worker:
                self._wait(lambda: _told(stamps, "began"), 0.01)
                worker_before, database_before = cpu_seconds_with_children(worker.pid), place.cpu()
                looks = self._wait(lambda: self._ask("done") >= self.runs)
                seconds = time.time() - _told(stamps, "began")[0]
                worker_cpu = cpu_seconds_with_children(worker.pid) - worker_before
                database_cpu = place.cpu() - database_before
            after, steps = place.counters(), self.runs * STEPS
        counted = {"statements": -looks, "begin_commit": 0} if after else {}
        return {
            "steps_per_s": steps / seconds, "runs": self.runs, "seconds": seconds,
            "worker_cpu_ms_per_step": worker_cpu / steps * 1000,
            **({"database_cpu_ms_per_step": database_cpu / steps * 1000} if database_cpu else {}),
            **{f"{name}_per_step": (after[name] - before[name] + more) / steps for name, more in counted.items()},
        }  # fmt: skip

    def written(self, place: Place, runs: int) -> dict[str, float]:
        """Bytes stored and written ahead for each run of ten steps."""
        with self._prepared(place) as stamps:
            before = place.written()
            self._ask("start", "flow", STEPS, runs)
            with self._working(stamps):
                self._wait(lambda: self._ask("done") >= runs)
            return per_run(before, place.written(), runs)

    def alone(self, place: Place, steps: int, repeat: int, flow: str = "alone") -> list[float]:
        """W2, W7 with the flow `family`, W12 with `mapped`: milliseconds per step, child or item, so many times."""
        found = []
        with self._prepared(place) as stamps, self._working(stamps):
            self._run("flow", 1)
            for _ in range(repeat):
                stamps.write_text("")
                self._run(flow, steps)
                (first,), (last,) = _told(stamps, "first"), _told(stamps, "last")
                found.append((last - first) / steps * 1000)
        return found

    def naps(self, place: Place, branches: int, repeat: int) -> list[tuple[float, float]]:
        """W13: seconds until all have slept, and until the run that waits for them has ended."""
        found = []
        with self._prepared(place) as stamps, self._working(stamps):
            self._run("flow", 1)
            for _ in range(repeat):
                stamps.write_text("")
                self._run("naps", branches)
                (first,), (last,), awake = (_told(stamps, word) for word in ("first", "last", "awake"))
                assert len(awake) == branches
                found.append((max(awake) - first, last - first))
        return found

    def resumed(self, place: Place, steps: int, turns: int) -> list[float]:
        """W14: seconds from when its worker has a run again to when that has come behind its stored steps."""
        found = []
        with self._prepared(place) as stamps:
            with self._working(stamps):
                self._ask("start", "history", steps, 1)
                self._wait(lambda: _told(stamps, "behind"))
                for turn in range(0 if self.replays_at_start else turns):
                    self._wait(lambda: self._ask("waiting"))
                    stamps.write_text("")
                    self._ask("wake", turn)
                    found.append(self._replayed(stamps))
            for _ in range(turns if self.replays_at_start else 0):
                stamps.write_text("")
                with self._working(stamps):
                    found.append(self._replayed(stamps))
        return found

    def _replayed(self, stamps: Path) -> float:
        self._wait(lambda: _told(stamps, "behind"))
        (begun, *_), (behind, *_) = _told(stamps, "has"), _told(stamps, "behind")
        return behind - begun

    def latencies(self, place: Place, starts: int) -> list[float]:
        """W3. Pauses are longer than the longest poll of them all, so that they keep step with none."""
        found = []
        with self._prepared(place) as stamps, self._working(stamps):
            self._run("flow", 1)
            for _ in range(starts):
                time.sleep(random.uniform(0.1, 1.3))
                began = time.perf_counter()
                self._run("flow", 1, look=0.001)
                found.append(time.perf_counter() - began)
        return found

    def lags(self, place: Place, sleeps: int, seconds: float) -> list[float]:
        """W4: how many seconds late each was woken."""
        with self._prepared(place) as stamps, self._working(stamps):
            self._run("flow", 1)
            before = self._ask("done")
            self._ask("start", "nap", seconds, sleeps)
            self._wait(lambda: self._ask("done") >= before + sleeps)
            return [float(line[1]) for line in _lines(stamps, "lag")]

    # -- its processes -------------------------------------------------------------------------------

    @contextmanager
    def _prepared(self, place: Place) -> Iterator[Path]:
        """Its tables are made and its client answers; gives the file of its worker's stamps."""
        self._url = place.peer_url()
        with tempfile.TemporaryDirectory() as folder:
            stamps, said = Path(folder) / "stamps", Path(folder) / "client"
            stamps.touch()
            self._client = _Program(self, "client", said, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            try:
                self._ask("prepare")
                yield stamps
            finally:
                self._client.end()

    @contextmanager
    def _working(self, stamps: Path) -> Iterator[_Program]:
        self._worker = _Program(self, "worker", stamps.parent / "worker", BENCH_STAMPS=str(stamps))
        try:
            yield self._worker
        finally:
            self._worker.end()

    def _ask(self, question: str, *given: Any) -> Any:
        asked, answers = self._client.process.stdin, self._client.process.stdout
        assert asked is not None
        assert answers is not None
        asked.write(json.dumps({"ask": question, "with": given}).encode() + b"\n")
        asked.flush()
        line = answers.readline()
        if not line:
            self._client.process.wait()
            self._client.check()
        return json.loads(line)

    def _run(self, flow: str, argument: Any, look: float = 0.01) -> None:
        (run,) = self._ask("start", flow, argument, 1)
        self._wait(lambda: self._ask("is_done", run), look)

    def _wait(self, fact: Callable[[], object], look: float = _LOOK) -> int:
        """Until it is so; how often that was asked."""
        deadline, looks = time.monotonic() + _PATIENCE, 1
        while not fact():
            self._worker.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} has not ended its runs: {self._worker.said()}")
            time.sleep(look)
            looks += 1
        return looks


class _Program:
    """One of a peer's two processes."""

    def __init__(
        self, peer: Peer, role: str, said: Path, stdin: int | None = None, stdout: int | None = None, **environment: str
    ) -> None:
        self._said = said
        with said.open("wb") as file:
            self.process = subprocess.Popen(
                [str(PYTHON), str(HERE / peer.program), role, peer._url],
                stdin=stdin or subprocess.DEVNULL, stdout=stdout or file, stderr=file,
                env={**os.environ, **environment}, cwd=said.parent,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> str:
        return self._said.read_text(errors="replace")[-2000:]

    def check(self) -> None:
        """Raise what it said last, if it has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"{self._said.name} left with {self.process.returncode}: {self.said()}")

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _lines(stamps: Path, word: str) -> list[list[str]]:
    return [line.split() for line in stamps.read_text().splitlines() if line.split()[0] == word]


def _told(stamps: Path, word: str) -> list[float]:
    """The times of these stamps."""
    return [float(line[-1]) for line in _lines(stamps, word)]


PEERS = [
    Peer("Absurd", "absurd.py", ("postgresql",), 500, "one after another", "a task each"),
    Peer("django-absurd", "django_absurd_tasks.py", ("postgresql",), 350, "one after another", "a task each"),
    Peer(
        "DBOS", "dbos_transact.py", ("postgresql", "sqlite-full"), 220, "32 at a time", "coroutines",
        replays_at_start=True, has_limits=True,
    ),
]  # fmt: skip


def peers_for(place: Place) -> Sequence[Peer]:
    return [peer for peer in PEERS if place.name in peer.databases]
