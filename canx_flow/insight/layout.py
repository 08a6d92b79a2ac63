"""Where the boxes and lines of a graph go: in layers from top to bottom, the same for the same graph. Called by admin.

Plain geometry, without Django: lines that go back are turned round, each box is put below all that lead to it, long
lines are given a place in each layer they pass, and each layer is ordered by the middle of its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

WIDTH, HEIGHT = 184, 44
_GAP, _BETWEEN, _NARROW = 22, 46, 26
_SWEEPS = 6

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Line:
    """The points that a line passes, from box to box; `back`: it leads upwards, along the right side."""

    points: tuple[tuple[float, float], ...]
    back: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """The middle of the upper edge of each box, the lines, and the size of the whole."""

    boxes: Mapping[str, tuple[float, float]]
    lines: Mapping[Pair, Line]
    width: float
    height: float


def layout(nodes: Sequence[str], edges: Iterable[Pair]) -> Layout:
    """Place these nodes; their order decides which of two lines between them leads back."""
    pairs = [pair for pair in edges if pair[0] != pair[1]]
    back = _leading_back(nodes, pairs)
    forward = [pair for pair in pairs if pair not in back]
    layer = _layers(nodes, forward)
    chains = {pair: _chain(pair, layer) for pair in forward}
    rows = _rows(nodes, layer, chains)
    links = [pair for chain in chains.values() for pair in pairwise(chain)]
    _order(rows, links)
    across = _across(rows, links)
    place = {name: (across[name], float(row * (HEIGHT + _BETWEEN))) for row, names in enumerate(rows) for name in names}
    boxes = {name: place[name] for name in nodes}
    lines = {pair: _line(chain, place) for pair, chain in chains.items()}
    right = max((x for x, _y in place.values()), default=0) + WIDTH / 2
    for number, pair in enumerate(sorted(back)):
        lines[pair] = _back(boxes[pair[0]], boxes[pair[1]], right + 18 + 12 * number)
    width = right + (30 + 12 * len(back) if back else 0)
    return Layout(boxes, lines, width, len(rows) * (HEIGHT + _BETWEEN) - _BETWEEN)


def _leading_back(nodes: Sequence[str], pairs: Sequence[Pair]) -> set[Pair]:
    """Return the edges that close a circle, found by going down from the first node on."""
    below: dict[str, list[str]] = {name: [] for name in nodes}
    place = {name: number for number, name in enumerate(nodes)}
    for source, below_it in sorted(pairs, key=lambda pair: place[pair[1]]):
        below[source].append(below_it)
    back: set[Pair] = set()
    state: dict[str, int] = {}
    for root in nodes:
        stack = [(root, iter(below[root]))] if root not in state else []
        state.setdefault(root, 1)
        while stack:
            name, targets = stack[-1]
            target = next(targets, "")
            if not target:
                state[name] = 2
                stack.pop()
            elif target not in state:
                state[target] = 1
                stack.append((target, iter(below[target])))
            elif state[target] == 1:
                back.add((name, target))
    return back


def _layers(nodes: Sequence[str], forward: Sequence[Pair]) -> dict[str, int]:
    """Put each node one layer below the lowest that leads to it."""
    above: dict[str, list[str]] = {name: [] for name in nodes}
    for source, target in forward:
        above[target].append(source)
    layer: dict[str, int] = {}

    def of(name: str) -> int:
        if name not in layer:
            layer[name] = max((of(source) + 1 for source in above[name]), default=0)
        return layer[name]

    for name in nodes:
        of(name)
    return layer


def _chain(pair: Pair, layer: Mapping[str, int]) -> list[str]:
    """Return the node, a place in each layer between, and the other node."""
    source, target = pair
    return [source, *(f"{source}\0{target}\0{row}" for row in range(layer[source] + 1, layer[target])), target]


def _rows(nodes: Sequence[str], layer: Mapping[str, int], chains: Mapping[Pair, Sequence[str]]) -> list[list[str]]:
    rows: list[list[str]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for name in nodes:
        rows[layer[name]].append(name)
    for (source, _target), chain in sorted(chains.items()):
        for number, name in enumerate(chain[1:-1], 1):
            rows[layer[source] + number].append(name)
    return rows


def _order(rows: list[list[str]], links: Sequence[Pair]) -> None:
    """Order each layer by the middle of its neighbours in the layer before, downwards and upwards in turn."""
    above, below = _neighbours(links)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for row in rows[1:] if down else rows[-2::-1]:
            place = {name: number for names in rows for number, name in enumerate(names)}
            beside = above if down else below
            middle = {name: _mean([place[other] for other in beside.get(name, ())], place[name]) for name in row}
            row.sort(key=lambda name: (middle[name], place[name]))


def _across(rows: Sequence[Sequence[str]], links: Sequence[Pair]) -> dict[str, float]:
    """Return how far to the right each place is: below its neighbours where there is room."""
    above, below = _neighbours(links)
    across = {name: x for row in rows for name, x in zip(row, _spread(row, [0.0] * len(row)), strict=True)}
    for sweep in range(_SWEEPS * 2):
        beside = above if sweep % 2 == 0 else below
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            wanted = [_mean([across[other] for other in beside.get(name, ())], across[name]) for name in row]
            across.update(zip(row, _spread(row, wanted), strict=True))
    least = min((x - _size(name) / 2 for name, x in across.items()), default=0)
    return {name: x - least for name, x in across.items()}


def _spread(row: Sequence[str], wanted: Sequence[float]) -> list[float]:
    """Return places near the wanted ones, in this order and without overlapping, as far left as right of them."""
    placed: list[float] = []
    for name, want in zip(row, wanted, strict=True):
        least = placed[-1] + (_size(row[len(placed) - 1]) + _size(name)) / 2 + _GAP if placed else want
        placed.append(max(want, least))
    shift = sum(want - x for want, x in zip(wanted, placed, strict=True)) / len(row) if row else 0
    return [x + shift for x in placed]


def _neighbours(links: Sequence[Pair]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for source, target in links:
        above.setdefault(target, []).append(source)
        below.setdefault(source, []).append(target)
    return above, below


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _size(name: str) -> int:
    return _NARROW if "\0" in name else WIDTH


def _line(chain: Sequence[str], place: Mapping[str, tuple[float, float]]) -> Line:
    (x, y), *between = (place[name] for name in chain)
    *passed, (to_x, to_y) = between
    points = [(x, y + HEIGHT)]
    for at, top in passed:
        points += [(at, top), (at, top + HEIGHT)]
    return Line((*points, (to_x, to_y)))


def _back(source: tuple[float, float], target: tuple[float, float], lane: float) -> Line:
    (x, y), (to_x, to_y) = source, target
    middle = HEIGHT / 2
    return Line(
        ((x + WIDTH / 2, y + middle), (lane, y + middle), (lane, to_y + middle), (to_x + WIDTH / 2, to_y + middle)),
        back=True,
    )
