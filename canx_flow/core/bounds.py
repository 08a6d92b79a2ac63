"""The bounds of a stored value: its depth, its size, and how many items of a set may have one hash.

Checked by `encoding` while it goes through a value, and by `decoding` before it makes a set.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from typing import Any

#: Containers within containers; a value that holds itself has no end.
MAX_DEPTH = 200
#: Of one set: a few hundred compare each other in a millisecond.
_MOST_COLLIDING = 500
COLLIDING = f"more than {_MOST_COLLIDING} of its items have the same hash, so that making the set takes too long"
TOO_DEEP = f"it is nested more than {MAX_DEPTH} levels deep, or contains itself"
_SHOWN_PATH = 12


class Refused(Exception):  # noqa: N818 - never seen outside
    """A value that cannot be stored. On its way out, each container adds where it was."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.parts: list[str] = []

    def path(self) -> str:
        parts = self.parts[::-1]
        return "".join(parts) if len(parts) <= _SHOWN_PATH else "".join(parts[:_SHOWN_PATH]) + "…"


class TooLarge(Exception):  # noqa: N818 - never seen outside
    """What was counted so far is too large already."""


class Walk:
    """One pass through a value. `depth`: containers around the current item; `left`: characters still allowed.

    Containers that share what they hold, and so are small in memory, may be without end as text: the least that each
    will take is counted before it is written.
    """

    __slots__ = ("depth", "left")

    def __init__(self, left: float) -> None:
        self.depth = 0
        self.left = left

    def enter(self) -> None:
        if self.depth > MAX_DEPTH:
            raise Refused(TOO_DEEP)
        self.depth += 1

    def leave(self, size: int) -> None:
        self.depth -= 1
        self.take(size)

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise TooLarge


#: For what holds nothing, and is no larger as text than it is already.
ALONE = Walk(math.inf)


def collides(items: Collection[Any]) -> bool:
    """Tell whether making a set of these takes quadratic time: each is compared with all others of the same hash.

    The set was made once where it comes from, and would be made again at every replay.
    """
    if len(items) <= _MOST_COLLIDING or len(items) - len(set(map(hash, items))) < _MOST_COLLIDING:
        return False
    return max(Counter(map(hash, items)).values()) > _MOST_COLLIDING
