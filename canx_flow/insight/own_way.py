"""Where one run has been in the graph of its workflow, and where it stands. Plain data. Called by `paths`."""

from __future__ import annotations

from dataclasses import replace

from ..states import ENDED, RecordState
from . import graph
from .graph import END, START, Graph, Names, Path

DONE, HERE, FAILED, LAST, ENDED_SO = "done", "here", "failed", "last", "ended"


def marked(of: Graph, own: Path, *, whole: bool) -> Graph:
    """Mark the way of this run, and add what of it the graph does not have.

    `whole`: whether its first records are there.
    """
    names = of.names.beside(own, of.nodes)
    alone = graph.draw_one(own, names)
    way = {pair for pair in alone.edges if whole or pair[0] != START}
    return replace(
        of,
        nodes={**of.nodes, **{key: node for key, node in alone.nodes.items() if key not in of.nodes}},
        edges={**{pair: alone.edges[pair] for pair in sorted(way)}, **of.edges},
        marks=_marks(own, names),
        way=way,
    )


def _marks(own: Path, names: Names) -> dict[str, str]:
    marks: dict[str, str] = {}
    last = START
    for seen in filter(graph.is_drawn, own.records):
        last = names.of(seen.name)
        if marks.get(last) != HERE:  # One item of a map may be over, and another not.
            marks[last] = FAILED if seen.state == RecordState.FAILED else HERE if seen.open else DONE
    if own.state in ENDED:
        over = {key: LAST if mark == HERE else mark for key, mark in marks.items()}  # It is nowhere any more.
        return {**over, END[own.state]: ENDED_SO}
    return marks if HERE in marks.values() else {**marks, last: LAST if marks else HERE}
