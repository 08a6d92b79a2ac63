"""A run's journal in memory: its records by key, and what replay asks of all of them, kept as they come.

No Django, no I/O. The store loads a journal; the branches of an activation read and extend it.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..states import ANSWERS, RecordState
from .changes import Record

_OVER = frozenset((RecordState.COMPLETED, RecordState.FAILED))


class Journal:
    """The records of one run by key, the number of the last one, and the events that they have consumed."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.records: dict[str, Record] = {}
        self.last_seq = 0
        #: The keys of the records that are not over: what may still become of them, others may have written.
        self.unfinished: set[str] = set()
        #: The ids of the events that waits of this run have read.
        self.events: set[int] = set()
        #: By name and key of the event, the one that was read last, as far as it was read since the journal was loaded.
        self.last_read: dict[tuple[str, str | None], int] = {}
        #: By scope and name: the records of its uses that are over, in order, as far as replays have come to them.
        self.over: dict[str, dict[str, list[Record]]] = {}
        #: Characters of all results and errors.
        self.size = 0
        #: The last number in each scope below the run's own, by prefix: read from all records when first asked for.
        self._ends: dict[str, int] | None = None
        for record in records:
            self.put(record)

    def next_seq(self) -> int:
        """Return the number of the next record."""
        self.last_seq += 1
        return self.last_seq

    def put(self, record: Record) -> None:
        """Note a record that is new, or has changed, or stands for another one of this key."""
        self.records[record.name] = record
        self.last_seq = max(self.last_seq, record.seq)
        if record.state not in _OVER:
            self.unfinished.add(record.name)
        elif self.unfinished:
            self.unfinished.discard(record.name)
        if record.event_id is not None:
            self.events.add(record.event_id)
        if record.result is not None:
            self.size += len(record.result)
        if record.errors is not None:
            self.size += len(record.errors)

    def open(self) -> set[str]:
        """Return the keys of the waits that are open."""
        return {name for name in self.unfinished if self.records[name].state == RecordState.OPEN}

    def end_of(self, prefix: str) -> int:
        """Return the number of the last stored record in a scope; 0 if it has none. One pass serves all scopes."""
        if not prefix:
            return self.last_seq
        if self._ends is None:
            self._ends = _ends(self.records.values())
        return self._ends.get(prefix, 0)

    def goes_on_after(self, name: str) -> bool:
        """Return whether there are later records than this one, but for what was only asked for."""
        record = self.records.get(name)
        later = (other for other in self.records.values() if record is not None and other.seq > record.seq)
        return any(other.kind not in ANSWERS for other in later)

    def renew(self, unfinished: Iterable[Record]) -> bool:
        """Take what has become of the unfinished records since, for another replay; False if these are not they."""
        found = list(unfinished)
        if {record.name for record in found} != self.unfinished:
            return False
        if any(self.records[record.name].seq != record.seq for record in found):
            return False
        for record in found:
            self.put(record)
        self._ends = None
        return True


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
