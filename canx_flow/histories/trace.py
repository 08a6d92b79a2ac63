"""What of a history a replay has come to, and what it has left behind. Filled by the branches of `port`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf

from ..core.changes import Record
from ..replay.scope import Scope
from ..states import ANSWERS, Kind

#: Without a record they end no history: of branches that were not decided over each has one of its own.
LOOKED_THROUGH = (*ANSWERS, Kind.GATHER, Kind.RACE)
#: An undo belongs to the step that it undoes.
_NOT_MISSED = (*LOOKED_THROUGH, Kind.UNDO)


@dataclass(frozen=True, slots=True)
class Missed:
    """A call that is not on record. `is_past`: no record is left that a later call of the run might come to."""

    key: str
    kind: str
    is_past: bool


@dataclass(frozen=True, slots=True)
class Left:
    """What is on record and was left behind: a record, or a branch as a whole."""

    key: str
    kind: str

    def __str__(self) -> str:
        return f"the {self.kind} {self.key!r}"


class Trace:
    """Which records a replay has come to, and where its branches have ended."""

    def __init__(self) -> None:
        self.met: set[str] = set()
        #: The key that was looked up last; empty before the first.
        self.last = ""
        #: The calls that are not on record, in the order the replay has come to them.
        self.missed: list[Missed] = []
        #: By prefix, the branches that were begun, and the number of the record that is not over, if that ends them.
        self._ends: dict[str, float] = {}
        self._scopes: dict[str, Scope] = {}

    def begin(self, scope: Scope) -> None:
        """Note a branch that begins."""
        self._scopes[scope.prefix], self._ends[scope.prefix] = scope, inf

    def meet(self, record: Record, *, over: bool) -> None:
        """Note a record that a call has come to; one that is not over ends its branch."""
        self.met.add(record.name)
        if not over:
            self._ends[scope_of(record.name)] = record.seq

    def miss(self, key: str, kind: str) -> None:
        """Note a call that is not on record."""
        self.missed.append(Missed(key, kind, all(scope.is_past for scope in self._above(scope_of(key)))))

    def left_behind(self, records: Iterable[Record]) -> list[Left]:
        """Return what no call has come to, in order, but for what has lost a race: it is not begun again."""
        found = (self._left(each) for each in sorted(records, key=lambda each: each.seq))
        return list(dict.fromkeys(left for left in found if left is not None))

    def _left(self, record: Record) -> Left | None:
        key, kind = record.name, record.kind
        if kind in _NOT_MISSED or key in self.met or step_of(key) in self.met:
            return None
        while (scope := scope_of(key)) not in self._ends:
            key, kind = scope[:-1], "branch"
        if kind == "branch" and self._scopes[scope].has_given(key[len(scope) :]):
            return None
        return Left(key, kind) if record.seq < self._ends[scope] else None

    def _above(self, prefix: str) -> Iterator[Scope]:
        """Yield the scope of a branch, and of all above it."""
        yield self._scopes[prefix]
        while prefix:
            prefix = scope_of(prefix[:-1])
            yield self._scopes[prefix]


def step_of(key: str) -> str:
    """Return the key without what follows it in brackets: `ship` of its item `ship[3]`."""
    return key.partition("[")[0]


def scope_of(key: str) -> str:
    """Return the prefix of the branch that a key belongs to."""
    return key[: key.rfind("/") + 1]
