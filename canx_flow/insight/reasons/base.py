"""What every reason has: a level, fields, and words in which the fields' names stand in braces.

What holds a name, a moment or an error in its field is drawn by whoever shows it: as plain text by `words`, as HTML by
the admin.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from enum import IntEnum
from typing import Any, ClassVar

from ...core.pretty import printable
from .. import speech
from ..display import ShownError

#: Fields that hold names from the project: of steps, queues, limits, events, keys, workers, workflows and schedules.
NAMES = frozenset(
    {"step", "queue", "event", "key", "worker", "workflow", "limit", "partition", "schedule", "executor", "task"}
)
#: Moments that are still to come, or are late.
DUE = frozenset({"until"})


Exact = Callable[[datetime], str]


class Level(IntEnum):
    """How bad it is: as it should be; to be looked at; it will not go on by itself."""

    FINE = 0
    WARN = 1
    BAD = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason(ABC):
    """One reason. Seconds are floats, moments are aware; a field that does not apply has its default."""

    level: ClassVar[Level] = Level.FINE

    @property
    def code(self) -> str:
        """What it is, for programs: `unserved`, `retrying`, …"""
        return type(self).__name__.lower()

    @property
    @abstractmethod
    def text(self) -> str:
        """Its words in the reader's language, with the names of its fields in braces; safe in HTML."""

    def values(self) -> dict[str, Any]:
        """Return its fields."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def words(self, now: datetime, exact: Exact | None = None) -> str:
        """Return its words as plain text; `exact`: what writes the moments to come beside how far away they are."""
        return self.text.format(**{name: _plain(name, value, now, exact) for name, value in self.values().items()})


def _plain(name: str, value: Any, now: datetime, exact: Exact | None) -> str:
    match value:
        case datetime() if name in DUE:
            said = speech.due(value, now)
            return said if exact is None else f"{said} ({exact(value)})"
        case datetime():
            return speech.when(value, now)
        case float():
            return speech.span(value)
        case bool():
            return ""
        case int():
            return speech.number(value)
        case ShownError():
            return value.brief
    return "" if value is None else printable(str(value))


def clauses(*clauses: str | bool | None) -> str:
    return ", ".join(clause for clause in clauses if clause and clause is not True)
