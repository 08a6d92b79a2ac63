"""What the engine must reach, as ratios within one run, and what was reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from .book import OURS, Book
from .limited import CASES
from .long_runs import MANY
from .measure import Spread

Row = Mapping[str, float]


@dataclass(frozen=True)
class Target:
    """`figure` of each repetition, of which the median must be at most or at least so much."""

    workload: str
    database: str
    #: How the case's name begins.
    case: str
    says: str
    figure: Callable[[Row], float]
    least: float | None = None
    most: float | None = None
    #: Beside this engine: `figure` of ours by that of theirs.
    peer: str = ""
    #: What a row must have, where not each has it.
    needs: str = ""

    def reached(self, book: Book) -> Spread | None:
        """`None` if it was not measured."""
        ours = self._rows(book, OURS)
        if not self.peer:
            return Spread.of(map(self.figure, ours)) if ours else None
        theirs = self._rows(book, self.peer)
        pairs = zip(ours, theirs, strict=False)
        return Spread.of(self.figure(one) / self.figure(other) for one, other in pairs) if ours and theirs else None

    def is_met(self, reached: float) -> bool:
        return (self.least is None or reached >= self.least) and (self.most is None or reached <= self.most)

    def told(self, book: Book) -> str:
        """What it says beside what was reached."""
        return self.says

    @property
    def bound(self) -> str:
        return f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"

    def _rows(self, book: Book, engine: str) -> list[dict[str, float]]:
        """Those of the case; of a peer that has none of this name, its only ones."""
        of_engine = [key for key in book.keys(self.workload) if (key.database, key.engine) == (self.database, engine)]
        found = [key for key in of_engine if key.case.startswith(self.case)]
        if not found and engine != OURS:
            found = of_engine
        return book.rows[found[0]] if found else []


@dataclass(frozen=True)
class EachTarget(Target):
    """Every case of the workload must reach it: the worst one decides, and is named."""

    def reached(self, book: Book) -> Spread | None:
        found = [figure for figure, _case in self._figures(book)]
        spread = Spread.of(found) if found else None
        return spread and replace(spread, median=max(found))

    def told(self, book: Book) -> str:
        return f"{self.says}: {max(self._figures(book))[1]}"

    def _figures(self, book: Book) -> list[tuple[float, str]]:
        """The figure of each case for which there is one, the median of its repetitions, and the case."""
        cases = [key for key in book.keys(self.workload) if key.database == self.database]
        rows = {key.case: [row for row in book.rows[key] if self.needs in row] for key in cases}
        return [(Spread.of(map(self.figure, some)).median, case) for case, some in rows.items() if some]


def _the(name: str) -> Callable[[Row], float]:
    return lambda row: row[name]


def _x_w1(row: Row) -> float:
    return row["steps_per_s"] / min(2 * row["raw_per_s"], 10_000)


PG, FULL = "postgresql", "sqlite-full"
HEARD = ("nobody waits", "10,000 open waits")
RATE = _the("steps_per_s")
TARGETS = [
    Target("w1", PG, "32 ", "W1: steps/s by the lower of 2 x raw and 10,000", _x_w1, least=1),
    Target("w1", PG, "32 ", "W1 x Absurd", RATE, least=8, peer="Absurd"),
    Target("w1", PG, "32 ", "W1 x django-absurd", RATE, least=10, peer="django-absurd"),
    Target("w1", PG, "32 ", "W1 x DBOS", RATE, least=20, peer="DBOS"),
    Target("w1", PG, "32 ", "W1 commits per step", _the("commits_per_step"), most=0.1),
    Target("w1", PG, "32 ", "W1 statements per step", _the("statements_per_step"), most=0.3),
    Target("w1", FULL, "32 ", "W1 x raw", _the("x_raw"), least=1.2),
    Target("w1", FULL, "32 ", "W1 commits per step", _the("commits_per_step"), most=0.1),
    Target("w1", FULL, "16 ", "W1, a new user's settings: steps/s", RATE, least=5_000),
    Target("w1", FULL, "16 ", "W1, a new user's settings: x DBOS", RATE, least=10, peer="DBOS"),
    *(Target("w2", place, "", "W2 ms/step x raw commit", _the("x_raw"), most=1.6) for place in (PG, FULL)),
    *(Target("w3", place, "", "W3 p50 ms", _the("p50_ms"), most=15) for place in (PG, FULL)),
    *(Target("w3", place, "", "W3 p99 ms", _the("p99_ms"), most=50) for place in (PG, FULL)),
    *(Target("w4", place, "", "W4 p50 ms late", _the("p50_ms"), most=10) for place in (PG, FULL)),
    *(Target("w4", place, "", "W4 p99 ms late", _the("p99_ms"), most=40) for place in (PG, FULL)),
    *(Target("w4", place, "", "W4 woken early", _the("early"), most=0) for place in (PG, FULL)),
    *(Target("w5", place, "", "W5 ms after the banner", _the("after_banner_ms"), most=300) for place in (PG, FULL)),
    *(Target("w5", place, "", "W5 ms after the spawn", _the("after_spawn_ms"), most=1500) for place in (PG, FULL)),
    *(Target("w5", place, "", "W5 stored steps again", _the("stored_steps_again"), most=0) for place in (PG, FULL)),
    *(Target("w6", place, "", "W6 W3 p50 ms more than empty", _the("more_ms"), most=2) for place in (PG, FULL)),
    *(Target("w6", place, "", "W6 idle CPU ms/s", _the("idle_ms_per_s"), most=5) for place in (PG, FULL)),
    *(Target("w7", place, "all at once", "W7 ms per child", _the("ms_per_child"), most=1.5) for place in (PG, FULL)),
    *(Target("w7", place, "all at once", "W7 x a plain step", _the("x_step"), most=6) for place in (PG, FULL)),
    *(Target("w8", place, "5,000 ", "W8 µs per stored step", _the("us_per_step"), most=10) for place in (PG, FULL)),
    Target("w8", PG, "5,000 ", "W8 SELECTs", _the("selects"), most=1),
    *(Target("long", place, f"{MANY:,} sl", "last wake-up x first", _the("x_first"), most=3) for place in (PG, FULL)),
    *(Target("long", place, f"{MANY:,} w", "a wait x one of few", _the("x_first"), most=1.5) for place in (PG, FULL)),
    *(Target("w9", place, "", "W9 x write + raw commit", _the("x_base"), most=1.3) for place in (PG, FULL)),
    *(Target("w10", place, "", "W10 x atomic() + create()", _the("x_base"), most=1.5) for place in (PG, FULL)),
    *(Target("w11", place, "", "W11 x ideal", _the("x_ideal"), least=0.9) for place in (PG, FULL)),
    Target("w11", PG, "", "W11 sessions more than idle", _the("more_sessions"), most=1),
    *(Target("w12", place, "", "W12 x W1 at as many in flight", _the("x_w1"), least=0.7) for place in (PG, FULL)),
    *(Target("w12", place, "", "W12 memory grown, MB", _the("grown_mb"), most=40) for place in (PG, FULL)),
    *(Target("w13", place, "", "W13 s until all were awake", _the("awake_s"), most=1.5) for place in (PG, FULL)),
    *(Target("w14", place, "", "W14 µs per stored item", _the("us_per_item"), most=10) for place in (PG, FULL)),
    Target("start_many", PG, "", "start_many runs/s", _the("runs_per_s"), least=30_000),
    *(Target("w11", place, "", "memory at 256 async runs, MB", _the("peak_mb"), most=150) for place in (PG, FULL)),
    *(Target("w16", PG, case, f"W16 {case}: start p99 ms", _the("start_p99_ms"), most=20) for case in HEARD),
    *(
        EachTarget("w15", place, "", "W15 ms x those beside few runs, at most", _the("x_ms"), most=1.5, needs="x_ms")
        for place in (PG, FULL)
    ),
    EachTarget("pages", PG, "", "a page of the admin, ms, at most", _the("ms"), most=300),
    EachTarget("pages", FULL, "", "a page of the admin, ms, at most", _the("ms"), most=500),
    Target("w16", PG, HEARD[1], "W16 delivery p99 ms", _the("delivery_p99_ms"), most=100),
    *(Target("w16", PG, case, f"W16 {case}: worker's CPU %", _the("worker_percent"), most=30) for case in HEARD),
    Target("w17", PG, "64 ", "W17 x one worker's CPU per start", _the("x_start"), most=2),
    Target("w17", PG, "64 ", "W17 idle CPU ms/s each", _the("idle_ms_per_s"), most=3),
    *(
        Target("bytes", PG, "", f"{told} per run of ten steps x {peer}", _the(figure), most=1, peer=peer)
        for told, figure in (("bytes stored", "bytes_per_run"), ("WAL", "wal_bytes_per_run"))
        for peer in ("Absurd", "DBOS")
    ),
    Target("w18", PG, "", "W18 runs/s", _the("runs_per_s"), least=10_000),
    Target("w18", PG, "", "W18 starts: p50 ms more beside it", _the("more_ms"), most=10),
    *(
        Target("w19", place, case.name, f"W19 x W1: {case.name}", _the("x_w1"), least=0.9)
        for place in (PG, FULL) for case in CASES
    ),
    *(
        Target("w19", place, case.name, f"W19 x DBOS: {case.name}", RATE, least=10, peer="DBOS")
        for place in (PG, FULL) for case in CASES
    ),
    Target("w20", PG, "", "W20 p50 ms of a claim", _the("p50_ms"), most=5),
    *(Target("w21", place, "200 ", "W21 p99 ms that a tick is late", _the("p99_ms"), most=50) for place in (PG, FULL)),
    *(Target("w21", place, "200 ", "W21 ticks that are missing", _the("missing"), most=0) for place in (PG, FULL)),
    *(Target("w21", place, "1,000 ", "W21 idle CPU ms/s more", _the("more_ms_per_s"), most=3) for place in (PG, FULL)),
    *(
        EachTarget("w22", place, "", "W22 s until its turn, at most", _the("most_s"), most=1, needs="most_s")
        for place in (PG, FULL)
    ),
    Target("memory", PG, "256 in flight, ", "memory grown from first to last minute, MB", _the("grown_mb"), most=5),
    *(Target("memory", place, "", "memory at 256 plain runs, MB", _the("peak_mb"), most=150) for place in (PG, FULL)),
]  # fmt: skip
