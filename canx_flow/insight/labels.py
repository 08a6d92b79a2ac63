"""Where the words on the lines of a graph go: each on its own line, beside boxes and other words. Called by admin.

Plain geometry, as `layout`, whose lines these are. A line has few places where its word may stand; the first free one
is taken, and if none is, the one that covers least.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

from .layout import HEIGHT, WIDTH, Line, Pair

#: Height of a word, and how wide one of its characters is at most, in the size that graph.css gives it.
TALL, CHARACTER = 13.0, 6.0
_BESIDE = 3.0
#: How far along a stretch of a line: the middle first, or the end at which the fewest lines meet.
_MIDDLE = (0.5, 0.36, 0.64, 0.25, 0.75, 0.14, 0.86)
_LATE = (0.64, 0.75, 0.5, 0.86, 0.36, 0.25, 0.14)
_EARLY = (0.36, 0.25, 0.5, 0.14, 0.64, 0.75, 0.86)


#: Height of the rows by which what is near is found.
_ROW = 64.0


class Spot(NamedTuple):
    """A rectangle: its middle, and half of its width and height."""

    x: float
    y: float
    half: float
    tall: float = TALL / 2

    def covers(self, other: Spot) -> float:
        """Return the area that both have."""
        wide = min(self.x + self.half, other.x + other.half) - max(self.x - self.half, other.x - other.half)
        high = min(self.y + self.tall, other.y + other.tall) - max(self.y - self.tall, other.y - other.tall)
        return max(wide, 0.0) * max(high, 0.0)


class _Taken:
    """Rectangles that are there already, by the rows that they reach into: of a large graph each is near few others."""

    def __init__(self, spots: Iterable[Spot]) -> None:
        self._rows: dict[int, list[Spot]] = defaultdict(list)
        for spot in spots:
            self.add(spot)

    def add(self, spot: Spot) -> None:
        for row in _rows(spot):
            self._rows[row].append(spot)

    def least(self, spots: Iterable[Spot]) -> Spot:
        """Return the first of those that cover least: where one is free, none after it is looked at."""
        best: tuple[float, Spot] | None = None
        for spot in spots:
            covered = self._covered(spot)
            if best is None or covered < best[0]:
                best = covered, spot
            if not covered:
                break
        assert best is not None
        return best[1]

    def _covered(self, spot: Spot) -> float:
        near = {other for row in _rows(spot) for other in self._rows.get(row, ())}
        return sum(spot.covers(other) for other in near)


def _rows(spot: Spot) -> range:
    return range(int((spot.y - spot.tall) // _ROW), int((spot.y + spot.tall) // _ROW) + 1)


def width(label: str) -> float:
    """Return how much room a word needs, with some beside it."""
    return len(label) * CHARACTER + 2 * _BESIDE


def places(
    lines: Mapping[Pair, Line], labels: Mapping[Pair, str], boxes: Iterable[tuple[float, float]]
) -> dict[Pair, tuple[float, float]]:
    """Return the middle of each line's word. `boxes`: the middle of the upper edge of each, as `layout` placed it."""
    taken = _Taken(Spot(x, y + HEIGHT / 2, WIDTH / 2, HEIGHT / 2) for x, y in boxes)
    leaving, arriving = Counter(source for source, _ in lines), Counter(target for _, target in lines)
    found: dict[Pair, tuple[float, float]] = {}
    for pair, line in lines.items():
        crowd = leaving[pair[0]] - arriving[pair[1]]
        shares = _LATE if crowd > 0 else _EARLY if crowd < 0 else _MIDDLE
        half = width(labels[pair]) / 2
        spot = taken.least(Spot(x, y, half) for x, y in _along(line, shares))
        taken.add(spot)
        found[pair] = spot.x, spot.y
    return found


def _along(line: Line, shares: Iterable[float]) -> Iterator[tuple[float, float]]:
    """Yield where the word of a line may stand: on its first stretch, its last, and then on those between."""
    stretches = list(pairwise(line.points))
    if line.back:
        stretches = [stretches[1]]  # Upwards, outside of all boxes.
    for (x, y), (to_x, to_y) in dict.fromkeys([stretches[0], stretches[-1], *stretches]):
        for share in shares:
            yield x + (to_x - x) * _across(share), y + (to_y - y) * _down(share)


def _across(share: float) -> float:
    """Follow a curve that leaves and arrives upright: across it is slow at its ends."""
    return share * share * (3 - 2 * share)


def _down(share: float) -> float:
    rest = 1 - share
    return 1.5 * share * rest * rest + 1.5 * share * share * rest + share**3
