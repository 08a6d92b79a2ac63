"""Rates, such as 100 in a minute, and the sliding window that holds to one. Used by `queue_limits` and by `store`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import floor

from .naming import shown

#: Into how many parts a window is cut. The part in which it begins counts as a whole.
PARTS = 60

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_RATE = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,5})?([smhd])")


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `most` in any `seconds`."""

    most: int
    seconds: int

    @classmethod
    def read(cls, text: object, what: str = "rate") -> Rate:
        """Read `100/m`, `5/s`, `1000/h` or `50/30s`; TypeError or ValueError naming `what` for anything else."""
        if not isinstance(text, str):
            raise TypeError(f"{what} must be a text such as '100/m', not {type(text).__name__}")
        match = _RATE.fullmatch(text)
        if match is None:
            raise ValueError(f"{what} must be like '100/m', '5/s', '1000/h' or '50/30s', not {shown(text)}")
        most, count, unit = match.groups()
        return cls(int(most), int(count or 1) * _UNITS[unit])

    def __str__(self) -> str:
        """Return it as it may be read again."""
        unit, seconds = next(
            (unit, seconds) for unit, seconds in reversed(_UNITS.items()) if not self.seconds % seconds
        )
        count = self.seconds // seconds
        return f"{self.most}/{count if count > 1 else ''}{unit}"

    @property
    def part(self) -> float:
        """The seconds of one part of a window."""
        return self.seconds / PARTS


@dataclass(slots=True)
class Window:
    """How many there were of late, counted in parts of the rate's window.

    `now` is a time in seconds, of the one clock that all who share the window read.
    """

    rate: Rate
    #: By the number of the part, counted from the clock's beginning.
    counts: dict[int, int] = field(default_factory=dict)
    #: Something that was stored lay in the future, and counts as now: that is to be stored.
    is_moved: bool = False

    @classmethod
    def read(cls, rate: Rate, text: str, now: float) -> Window:
        """Read what was stored as `text`, perhaps under another rate, or by a clock that has been set back since."""
        seconds, stored = json.loads(text) if text else (rate.seconds, {})
        window, current = cls(rate), floor(now / rate.part)
        for number, count in _of(stored).items():
            # The end of an old part is the latest that it may stand for. What is in the future was just now.
            part = number if seconds == rate.seconds else floor((number + 1) * seconds / PARTS / rate.part)
            part, window.is_moved = min(part, current), window.is_moved or part > current
            if part >= current - PARTS:
                window.counts[part] = window.counts.get(part, 0) + count
        return window

    def text(self) -> str:
        """Return it as it is stored."""
        return json.dumps([self.rate.seconds, self.counts])

    def free(self) -> int:
        """Return how many more there may be at the moment for which it was read."""
        return max(0, self.rate.most - sum(self.counts.values()))

    def add(self, number: int, now: float) -> None:
        """Count so many more."""
        part = floor(now / self.rate.part)
        self.counts[part] = self.counts.get(part, 0) + number

    def free_at(self) -> float:
        """Return the time from which there may be one more."""
        left = sum(self.counts.values())
        for part in sorted(self.counts):
            left -= self.counts[part]
            if left < self.rate.most:
                return (part + PARTS + 1) * self.rate.part
        return 0.0


def _of(stored: Mapping[str, int]) -> dict[int, int]:
    return {int(number): count for number, count in stored.items()}
