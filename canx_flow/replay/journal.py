"""A run's journal in memory: which records there are, which key comes next, and what does not match.

No Django, no I/O. The executor loads it, the operations read and extend it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from ..changes import Record
from ..naming import MAX_KEY, step_name


class Journal:
    """The records of one run by key, and the number of the next one."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.records: dict[str, Record] = {record.name: record for record in records}
        self.loaded = len(self.records)
        self.last_seq = max((record.seq for record in self.records.values()), default=0)

    def new(self, name: str, kind: str, state: str, epoch: int, started_at: datetime, **values: Any) -> Record:
        """A record that is not stored yet, the next in order."""
        self.last_seq += 1
        record = Record(self.last_seq, name, kind, state, epoch=epoch, started_at=started_at, **values)
        self.records[name] = record
        return record

    def consumed_events(self) -> frozenset[int]:
        return frozenset(record.event_id for record in self.records.values() if record.event_id is not None)


class Branch:
    """One scope of keys: the run itself, a branch of a gather, an item of a map.

    Names are counted here, so a key never depends on which branch ran first.
    """

    __slots__ = ("prefix", "_counts", "replaying", "seen", "stored", "_random")

    def __init__(self, journal: Journal, prefix: str = "") -> None:
        self.prefix = prefix
        self._counts: dict[str, int] = {}
        self.stored = sum(1 for name in journal.records if name.startswith(prefix)) if prefix else journal.loaded
        #: Stored records met so far; with the first operation that finds none, replay is over.
        self.seen = 0
        self.replaying = self.stored > 0
        self._random: random.Random | None = None

    def key(self, name: str) -> str:
        """The key of the next use of this name: `name`, `name#2`, … with the branch's prefix."""
        if not isinstance(name, str):
            raise TypeError(f"step name must be a str, not {type(name).__name__}")
        return self._next(step_name(name))

    def engine_key(self, name: str) -> str:
        """The same for a name of the engine's own, which no user's name can equal."""
        return self._next(f"#{name}")

    def _next(self, name: str) -> str:
        count = self._counts[name] = self._counts.get(name, 0) + 1
        key = f"{self.prefix}{name}" if count == 1 else f"{self.prefix}{name}#{count}"
        if len(key) > MAX_KEY:
            raise ValueError(f"step key {key[:40]!r}… has {len(key)} characters, at most {MAX_KEY} are allowed")
        return key

    def met(self, found: bool) -> None:
        """Count a stored record that was met, or end the replay because there was none."""
        if found:
            self.seen += 1
            self.replaying = self.seen < self.stored
        else:
            self.replaying = False

    def random(self, run_id: UUID, generation: int) -> random.Random:
        """This branch's own generator, seeded the same on every replay."""
        if self._random is None:
            self._random = random.Random(f"{run_id}:{generation}:{self.prefix}")
        return self._random
