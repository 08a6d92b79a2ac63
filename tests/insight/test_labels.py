"""The words on the lines of a graph: none covers another, none stands in a box."""

from __future__ import annotations

from itertools import combinations

import pytest

from canx_flow.insight import labels
from canx_flow.insight.labels import Spot
from canx_flow.insight.layout import HEIGHT, WIDTH, Pair, layout


def spots(nodes: str, edges: str, label: str) -> dict[Pair, Spot]:
    """Where the words stand, all of them the same; each node and each end of an edge is a letter."""
    placed = layout(list(nodes), [(edge[0], edge[1]) for edge in edges.split()])
    said = dict.fromkeys(placed.lines, label)
    found = labels.places(placed.lines, said, placed.boxes.values())
    boxes = [Spot(x, y + HEIGHT / 2, WIDTH / 2, HEIGHT / 2) for x, y in placed.boxes.values()]
    words = {pair: Spot(x, y, len(label) * labels.CHARACTER / 2) for pair, (x, y) in found.items()}
    assert [pair for pair, word in words.items() if any(word.covers(box) for box in boxes)] == []
    return words


LONG, SHORT = "1,234, 12 % fail", "12"


@pytest.mark.parametrize(
    ("nodes", "edges", "label"),
    [
        ("abc", "ab bc ac", LONG),
        ("abcd", "ab ac ad bd cd", LONG),
        ("abcdef", "ab ac ad ae bf cf df ef af", LONG),
        ("abcdef", "ad ae af bd be bf cd ce cf", SHORT),
        ("abcd", "ab bc cd da ca db", LONG),
    ],
)
def test_no_word_covers_another(nodes: str, edges: str, label: str) -> None:
    """Where lines part, meet, cross, pass a box or lead back."""
    words = spots(nodes, edges, label)
    assert [pair for pair in combinations(words, 2) if words[pair[0]].covers(words[pair[1]])] == []


def test_a_word_alone_stands_in_the_middle_of_its_line() -> None:
    """Between two boxes, one below the other."""
    ((word, *more),) = [spots("ab", "ab", "7").values()]
    assert more == []
    assert (word.x, word.y > HEIGHT) == (WIDTH / 2, True)
