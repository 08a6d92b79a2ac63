"""A run's journal in memory: its records by key, and for each scope of keys the next key and how far replay has come.

No Django, no I/O. The executor loads the journal; branches read and extend it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from uuid import UUID

from ..core.changes import Record
from ..core.naming import MAX_KEY, step_name
from ..states import Kind


class Journal:
    """The records of one run by key, the number of the last one, and the events that they have consumed."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.records: dict[str, Record] = {record.name: record for record in records}
        self.last_seq = max((record.seq for record in self.records.values()), default=0)
        #: The last number in each scope below the run's own, by prefix: read from all records when first asked for.
        self._ends: dict[str, int] | None = None

    def next_seq(self) -> int:
        """Return the number of the next record."""
        self.last_seq += 1
        return self.last_seq

    def end_of(self, prefix: str) -> int:
        """Return the number of the last stored record in a scope; 0 if it has none. One pass serves all scopes."""
        if not prefix:
            return self.last_seq
        if self._ends is None:
            self._ends = _ends(self.records.values())
        return self._ends.get(prefix, 0)

    def goes_on_after(self, name: str) -> bool:
        """Return whether there are later records than this one, but for moments that were asked for."""
        record = self.records.get(name)
        later = (other for other in self.records.values() if record is not None and other.seq > record.seq)
        return any(other.kind != Kind.NOW for other in later)

    def consumed_events(self) -> frozenset[int]:
        """Return the ids of the events that waits of this run have read."""
        return frozenset(record.event_id for record in self.records.values() if record.event_id is not None)


def _ends(records: Iterable[Record]) -> dict[str, int]:
    """Return the highest number below each prefix: `a/b/c` stands in the scopes `a/` and `a/b/`."""
    ends: dict[str, int] = {}
    for record in records:
        cut = record.name.find("/") + 1
        while cut:
            prefix = record.name[:cut]
            ends[prefix] = max(record.seq, ends.get(prefix, 0))
            cut = record.name.find("/", cut) + 1
    return ends


class Scope:
    """The keys of one branch: which comes next, and whether replay of the branch is over.

    Names are counted here, so a key never depends on which branch ran first.
    """

    __slots__ = ("prefix", "_counts", "_journal", "_end", "replaying", "_late", "_met_before", "_random")

    def __init__(self, journal: Journal, prefix: str = "") -> None:
        self.prefix = prefix
        self._counts: dict[str, int] = {}
        self._journal = journal
        #: The number of the last stored record: once it is met, or an operation finds none, replay is over for good.
        self._end = journal.end_of(prefix)
        self.replaying = self._end > 0
        #: The record met last, if replay was over by then; and the number of the last record there was.
        self._late: Record | None = None
        self._met_before = 0
        self._random: random.Random | None = None

    @property
    def used(self) -> bool:
        """Whether anything has been asked for by name."""
        return bool(self._counts)

    def key(self, name: str) -> str:
        """Return the key of the next use of this name: `name`, `name#2`, … with the branch's prefix."""
        if not isinstance(name, str):
            raise TypeError(f"step name must be a str, not {type(name).__name__}")
        return self._next(step_name(name))

    def engine_key(self, name: str) -> str:
        """Return the same for a name of the engine's own, which no user's name can equal."""
        return self._next(f"#{name}")

    def _next(self, name: str) -> str:
        count = self._counts[name] = self._counts.get(name, 0) + 1
        key = f"{self.prefix}{name}" if count == 1 else f"{self.prefix}{name}#{count}"
        if len(key) > MAX_KEY:
            raise ValueError(f"step key {key[:40]!r}… has {len(key)} characters, at most {MAX_KEY} are allowed")
        return key

    def met(self, record: Record | None) -> None:
        """Note that an operation found this record, or none. Records of steps that were removed are never met."""
        if record is None:
            self.replaying = False
        elif self.replaying:
            self.replaying = record.seq != self._end
        else:
            self._late, self._met_before = record, self._journal.last_seq

    def renumbered(self) -> Record | None:
        """Renumber the stored record that the body came to last, if today's code has stored something before it.

        So the next replay ends where this one did. `None` if there is none.
        """
        record, journal = self._late, self._journal
        if record is None or journal.last_seq > self._met_before or record.seq == journal.last_seq:
            return None
        record.seq = journal.next_seq()
        return record

    def random(self, run_id: UUID, generation: int) -> random.Random:
        """Return this branch's own generator, seeded the same on every replay."""
        if self._random is None:
            self._random = random.Random(f"{run_id}:{generation}:{self.prefix}")
        return self._random
