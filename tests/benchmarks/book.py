"""What was measured: one row of figures per repetition, kept by workload, engine, database and case.

Workloads write into it; tables, targets and the JSON file are made from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .measure import Spread

OURS = "canx_flow"


class Key(NamedTuple):
    workload: str
    database: str
    case: str
    engine: str


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks of the workloads."""

    #: Empty: as many as are usual for the database.
    in_flight: tuple[int, ...] = ()
    repeat: int = 3
    seconds: float = 5.0
    starts: int = 300
    sleeping: int = 1_000_000
    idle_seconds: float = 60.0
    minutes: float = 0.0
    #: Runs in the tables, from few to many.
    stored: tuple[int, ...] = (10_000, 1_000_000)
    idle_workers: tuple[int, ...] = (1, 64)


@dataclass
class Book:
    """Every repetition, in the order in which it was measured."""

    options: Options = field(default_factory=Options)
    #: Told each repetition when it is done: somebody watches.
    on_row: Callable[[Key, Mapping[str, float]], object] = lambda _key, _row: None
    rows: dict[Key, list[dict[str, float]]] = field(default_factory=dict)

    def add(self, workload: str, database: str, case: str, row: Mapping[str, float], engine: str = OURS) -> None:
        key = Key(workload, database, case, engine)
        self.rows.setdefault(key, []).append(dict(row))
        self.on_row(key, row)

    def keys(self, workload: str) -> list[Key]:
        return [key for key in self.rows if key.workload == workload]

    def repetitions(self, workload: str, database: str, case: str, engine: str = OURS) -> list[dict[str, float]]:
        return self.rows.get(Key(workload, database, case, engine), [])

    def spreads(self, key: Key) -> dict[str, Spread]:
        """Each figure of a case over its repetitions."""
        rows = self.rows[key]
        return {name: Spread.of(row[name] for row in rows if name in row) for name in _names(rows)}

    def as_json(self) -> list[dict[str, Any]]:
        return [
            {**key._asdict(), "figures": {name: spread.as_json() for name, spread in self.spreads(key).items()},
             "repetitions": rows}
            for key, rows in self.rows.items()
        ]  # fmt: skip

    def read(self, figures: Sequence[Mapping[str, Any]]) -> None:
        """Take in what `as_json` gave."""
        for one in figures:
            key = Key(one["workload"], one["database"], one["case"], one["engine"])
            self.rows.setdefault(key, []).extend(one["repetitions"])


def _names(rows: Iterable[Mapping[str, float]]) -> Iterator[str]:
    return iter(dict.fromkeys(name for row in rows for name in row))
