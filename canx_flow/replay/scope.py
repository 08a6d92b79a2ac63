"""The keys of one branch: which comes next, and how far replay has come.

No Django, no I/O. Used by branches and contexts, over the journal of the run.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import NoReturn
from uuid import UUID

from ..core.changes import Record
from ..core.journal import Journal
from ..core.naming import MAX_KEY, step_name
from ..states import Kind, RecordState

_OVER = (RecordState.COMPLETED, RecordState.FAILED)


class Scope:
    """The keys of one branch: which comes next, and whether replay of the branch is over.

    Names are counted here, so a key never depends on which branch ran first.
    """

    __slots__ = (
        "prefix", "_counts", "_journal", "_over", "end", "replaying", "is_past", "_all_met", "_ended_with", "_late",
        "_met_before", "_random",
    )  # fmt: skip

    def __init__(self, journal: Journal, prefix: str = "") -> None:
        self.prefix = prefix
        self._counts: dict[str, int] = {}
        self._journal = journal
        self._over = journal.over.setdefault(prefix, {})
        #: The number of the last stored record: once it is met, or an operation finds none, replay is over for good.
        self.end = journal.end_of(prefix)
        self.replaying = self.end > 0
        #: Whether that record was met, however late: none that was stored is still to come.
        self.is_past = not self.replaying
        #: Whether it is known that no record is left to be come to.
        self._all_met = False
        #: Of a branch: the record after which an earlier activation has gone on already, if that is known.
        self._ended_with: Record | None = None
        if self.replaying and prefix and _goes_on_at_once(last := journal.last_of(prefix)):
            self._ended_with = last
        #: The record met last, if replay was over by then; and the number of the last record there was.
        self._late: Record | None = None
        self._met_before = 0
        self._random: random.Random | None = None

    @property
    def used(self) -> bool:
        """Whether anything has been asked for by name."""
        return bool(self._counts)

    @property
    def is_silent(self) -> bool:
        """Whether what comes now has been logged before: replay goes on, or the branch seems to have ended before."""
        if self.replaying or self._ended_with is None:
            return self.replaying
        return self._journal.last_of(self.prefix) is self._ended_with

    def has_ended(self) -> None:
        """Note that the branch has come to its end before."""
        self._ended_with = self._journal.last_of(self.prefix)

    def key(self, name: str) -> str:
        """Return the key of the next use of this name: `name`, `name#2`, … with the branch's prefix."""
        # One that was used before is right; those that begin so are the engine's own.
        if type(name) is str and (count := self._counts.get(name)) and name[0] != "#":
            self._counts[name] = count = count + 1
            key = f"{self.prefix}{name}#{count}"
            return key if len(key) <= MAX_KEY else _refuse_long(key)
        if not isinstance(name, str):
            raise TypeError(f"step name must be a str, not {type(name).__name__}")
        return self._next(step_name(name))

    def engine_key(self, name: str) -> str:
        """Return the same for a name of the engine's own, which no user's name can equal."""
        return self._next(f"#{name}")

    def _next(self, name: str) -> str:
        count = self._counts[name] = self._counts.get(name, 0) + 1
        key = f"{self.prefix}{name}" if count == 1 else f"{self.prefix}{name}#{count}"
        return key if len(key) <= MAX_KEY else _refuse_long(key)

    def past(self, name: str, kind: str) -> Record | None:
        """Return what the next use of this name has come to, if a replay of this journal has passed it before.

        It is used with that. In half the time of `key` and a search: a long run that is woken passes thousands.
        """
        over = self._over.get(name) if type(name) is str else None
        if over is None:
            return None
        count = self._counts.get(name, 0)
        if count >= len(over) or over[count].kind != kind:
            return None
        record = over[count]
        self._counts[name] = count + 1
        if record.seq == self.end or not self.replaying:
            self.met(record)
        return record

    def passed(self, name: str, record: Record) -> None:
        """Note what the last use of this name has come to. It is over: that never changes."""
        if type(name) is not str:  # Of a subclass the text is the name.
            return
        over = self._over.setdefault(name, [])
        if len(over) == self._counts[name] - 1:
            over.append(record)

    def met(self, record: Record | None) -> None:
        """Note that an operation found this record, or none. Records of steps that were removed are never met."""
        if record is None:
            self.replaying = False
            return
        self.is_past = self.is_past or record.seq == self.end
        if self.replaying:
            self.replaying = not self.is_past
        else:
            self._late, self._met_before = record, self._journal.last_seq

    def joined(self, ends: Iterable[int], decision: Record | None = None) -> None:
        """Note that branches were come to, by the numbers of their last records; `decision`: the record over them.

        If the last record of all is one of theirs, as of a step that was in flight when it was decided, replay ends
        with what is stored behind the decision besides: the branch's own, or of branches that it has not come to.
        """
        if max(ends, default=0) < self.end:
            return
        left = 0 if decision is None else max(filter(decision.seq.__lt__, self._left()), default=0)
        if left:
            self.end = left
        else:
            self.replaying, self.is_past = False, True

    def holds_later(self) -> bool:
        """Return whether a record is stored that stands behind the call that the body makes now.

        One that no call has come to stands behind it, unless one of the same epoch was stored after it that has been
        come to: then its step was removed. By order alone it would stand in front of whatever today's code has put
        before it.
        """
        if not self.end or self._all_met:
            return False
        if not self.is_past:
            return True
        met: set[int] = set()
        for record, is_met in sorted(self._below(), key=lambda each: -each[0].seq):
            if is_met:
                met.add(record.epoch)
            elif record.epoch not in met and record.kind != Kind.PATCH:
                return True
        self._all_met = True
        return False

    def _left(self) -> Iterator[int]:
        """Yield the numbers of this branch's own records, and of those below it that it has not come to."""
        for record, is_met in self._below():
            if not is_met or "/" not in record.name[len(self.prefix) :]:
                yield record.seq

    def _below(self) -> Iterator[tuple[Record, bool]]:
        """Yield the records of this branch and of those below it: each, and whether a call has come to it."""
        for record in self._journal.records.values():
            if record.name.startswith(self.prefix):
                name = record.name[len(self.prefix) :].partition("/")[0].partition("[")[0]
                yield record, self.has_given(name)

    def has_given(self, name: str) -> bool:
        """Return whether this name has been given to a call: `left`, or `left#2`, which is its second use."""
        first, _, number = name.rpartition("#")  # What is the engine's own begins with one: `#race`, `#race#2`.
        return self._counts.get(first, 0) >= int(number) if first else name in self._counts

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


def _goes_on_at_once(record: Record | None) -> bool:
    """Return whether the activation that has stored this record has gone on after it: a wait may have ended since."""
    return record is not None and record.state in _OVER and record.kind not in (Kind.SLEEP, Kind.WAIT)


def _refuse_long(key: str) -> NoReturn:
    raise ValueError(f"step key {key[:40]!r}… has {len(key)} characters, at most {MAX_KEY} are allowed")
