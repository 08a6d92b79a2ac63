"""A run's journal in memory: its records by key, and what replay asks of all of them, kept as they come.

No Django, no I/O. The store loads a journal; the branches of an activation read and extend it.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from datetime import datetime
from itertools import count
from typing import Any

from ..states import ANSWERS, DECISIONS, Kind, RecordState
from .changes import Record

_WAITS = (RecordState.OPEN, RecordState.DUE)
_OVER = frozenset((RecordState.COMPLETED, RecordState.FAILED, RecordState.CLOSED))


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
        #: The ends of children that were looked for, by their event; `None` for one that had not ended then.
        self.child_ends: dict[str, Any] = {}
        #: By scope and name: the records of its uses that are over, in order, as far as replays have come to them.
        self.over: dict[str, dict[str, list[Record]]] = {}
        #: Characters of all results and errors.
        self.size = 0
        #: The last record in each scope below the run's own, by prefix: looked for when first asked for.
        self._ends: dict[str, Record] | None = None
        for record in records:
            self.put(record)
        self._numbers = count(self.last_seq + 1)

    def next_seq(self) -> int:
        """Return the number of the next record. Threads that take one at the same time get different ones."""
        self.last_seq = number = next(self._numbers)
        return number

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
        if self._ends is not None:
            _note_end(self._ends, record)

    def open(self) -> set[str]:
        """Return the keys of the waits that are open."""
        return {name for name in self.unfinished if self.records[name].state == RecordState.OPEN}

    def waits_below(self, prefix: str, but: Set[str]) -> list[Record]:
        """Return the records at which branches below this prefix wait, or are to go on, in the order of their keys.

        `but`: steps that are being called now. What they have come to, they will say themselves.
        """
        names = sorted(name for name in self.unfinished - but if name.startswith(prefix))
        return [self.records[name] for name in names if self.records[name].state in _WAITS]

    def become(self, name: str, state: str, finished_at: datetime | None) -> None:
        """Note what others have made of an unfinished record: its timer has fired."""
        record = self.records[name]
        record.state, record.finished_at = state, finished_at
        self.put(record)

    def end_of(self, prefix: str) -> int:
        """Return the number of the last stored record in a scope; 0 if it has none."""
        if not prefix:
            return self.last_seq
        last = self.last_of(prefix)
        return 0 if last is None else last.seq

    def last_of(self, prefix: str) -> Record | None:
        """Return the last record in the scope of a branch, if there is one. One pass serves all scopes."""
        if self._ends is None:
            self._ends = _ends(self.records.values())
        return self._ends.get(prefix)

    def end_of_body(self, prefix: str) -> int:
        """Return the same of what the body itself has stored there: undo steps come after its end."""
        every = self.records.values()
        if not any(record.kind == Kind.UNDO for record in every):
            return self.end_of(prefix)
        return max((each.seq for each in every if each.kind != Kind.UNDO and each.name.startswith(prefix)), default=0)

    def goes_on_after(self, name: str) -> bool:
        """Return whether what this record is of has gone on after it: there are later records in its scope, or above.

        Those of sibling branches say nothing of it.
        """
        record = self.records.get(name)
        if record is None:
            return False
        above = _scope(name)
        later = (other for other in self.records.values() if other.seq > record.seq)
        work = (other.name for other in later if other.kind not in ANSWERS + DECISIONS)
        return any(above.startswith(_scope(other)) for other in work)

    def renew(self, unfinished: Iterable[Record]) -> bool:
        """Take what has become of the unfinished records since, for another replay; False if these are not they."""
        found = list(unfinished)
        if {record.name for record in found} != self.unfinished:
            return False
        if any(self.records[record.name].seq != record.seq for record in found):
            return False
        self._ends = None
        self.child_ends.clear()
        for record in found:
            self.put(record)
        return True


def _scope(name: str) -> str:
    """Return the prefix of the branch that a key stands in: the empty one of the run itself, or that of a branch."""
    return name[: name.rfind("/") + 1]


def _ends(records: Iterable[Record]) -> dict[str, Record]:
    """Return the last record below each prefix: `a/b/c` stands in the scopes `a/` and `a/b/`."""
    ends: dict[str, Record] = {}
    for record in records:
        _note_end(ends, record)
    return ends


def _note_end(ends: dict[str, Record], record: Record) -> None:
    cut = record.name.find("/") + 1
    while cut:
        prefix = record.name[:cut]
        last = ends.get(prefix)
        if last is None or record.seq >= last.seq:
            ends[prefix] = record
        cut = record.name.find("/", cut) + 1
