"""Rates as they are written in settings: `"100/m"`. Read by `conf`; what is not well written is refused there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_WRITTEN = re.compile(r"([0-9]{1,9})/([smhd])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in so many seconds."""

    number: int
    seconds: int
    #: As it was written.
    text: str

    @property
    def interval(self) -> int:
        """The microseconds between two, rounded up: a rate is never exceeded by rounding."""
        return -(-self.seconds * 1_000_000 // self.number)


def parse(text: Any) -> Rate:
    """Return the rate that is written so: a whole number, a slash, and one of s, m, h, d. ValueError for all else."""
    found = _WRITTEN.fullmatch(text) if isinstance(text, str) else None
    if found is None or int(found[1]) < 1:
        raise ValueError('must be a rate such as "100/m": a number of at least 1, a slash, and one of s, m, h, d')
    return Rate(int(found[1]), _SECONDS[found[2]], found[0])
