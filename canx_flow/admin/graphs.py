"""A workflow's graph as boxes and lines with words, ready to be drawn as SVG and as a table. Called by `workflows`.

Classes alone say how it looks: static/canx_flow/graph.css.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext

from ..core.pretty import printable
from ..insight import labels, speech
from ..insight.graph import END, START, Edge, Graph, Node
from ..insight.layout import HEIGHT, WIDTH, Line, layout
from ..states import CANCELLED, COMPLETED, FAILED
from . import words

#: Characters of a name that fit into its box.
_FIT = 23
_EDGE = 8
_STATES = {key: state for state, key in END.items()}


@dataclass(frozen=True, slots=True)
class Box:
    x: float
    y: float
    label: str
    note: str
    title: str
    look: str

    @property
    def middle(self) -> float:
        return self.x + WIDTH / 2


@dataclass(frozen=True, slots=True)
class Arrow:
    path: str
    label: str
    at: tuple[float, float]
    width: float
    title: str
    look: str

    @property
    def corner(self) -> tuple[float, float]:
        """The upper left of what keeps its line from its label."""
        return self.at[0] - self.width / 2, self.at[1] - 10


@dataclass(frozen=True, slots=True)
class Way:
    """A row of the table: what came after what, in how many runs, and in how many of them it failed."""

    source: str
    target: str
    runs: int
    failed: int
    share: str


@dataclass(frozen=True, slots=True)
class Spot:
    """A row of the other table: what is known of one step, wait or call, and what one run has done there."""

    name: str
    kind: str
    runs: int
    records: int
    failed: int
    took: str
    mark: str


@dataclass(frozen=True, slots=True)
class Drawing:
    boxes: Sequence[Box]
    arrows: Sequence[Arrow]
    ways: Sequence[Way]
    spots: Sequence[Spot]
    width: int
    height: int
    runs: int
    left_out: int
    #: Whether the way of one run is marked.
    marked: bool = False
    box_width: int = WIDTH
    box_height: int = HEIGHT


#: What one run has done at a node.
_MARKS = {
    "done": gettext_lazy("this run was here"),
    "here": gettext_lazy("this run is here"),
    "failed": gettext_lazy("it failed here"),
    "last": gettext_lazy("this run was here last"),
    "ended": gettext_lazy("this run ended so"),
}


def drawing(graph: Graph) -> Drawing | None:
    """Place the graph; `None` if no run has come to any step."""
    if not graph.nodes:
        return None
    met = {name for pair in graph.edges for name in pair}
    names = [START, *graph.nodes, *(END[state] for state in (COMPLETED, CANCELLED, FAILED) if END[state] in met)]
    placed = layout(names, graph.edges)
    boxes = [_box(name, graph.nodes.get(name), placed.boxes[name], graph) for name in names]
    said = {pair: _label(graph.edges[pair]) for pair in placed.lines}
    spots = labels.places(placed.lines, said, placed.boxes.values())
    return Drawing(
        boxes,
        [
            _arrow(graph.edges[pair], line, said[pair], spots[pair], pair in graph.way)
            for pair, line in placed.lines.items()
        ],
        list(_ways(graph)), [_spot(node, graph) for node in graph.nodes.values()],
        round(placed.width) + 2 * _EDGE, round(placed.height) + 2 * _EDGE, graph.runs, graph.left_out,
        bool(graph.marks),
    )  # fmt: skip


def _box(name: str, node: Node | None, at: tuple[float, float], graph: Graph) -> Box:
    x, y = at[0] - WIDTH / 2 + _EDGE, at[1] + _EDGE
    mark = graph.marks.get(name, "")
    look = [f"canx-mark-{mark}"] if mark else []
    if node is None:
        note, title = _of_end(name, graph), [_said(name)]
        look.append(f"canx-node-{'start' if name == START else _STATES[name]}")
    else:
        note, title = _note(node), _title(node)
        look += [f"canx-node-{node.kind}", *(["canx-node-failing"] if node.failed else [])]
        look += ["canx-node-here"] if node.here else []
    title += [str(_MARKS[mark])] if mark else []
    return Box(x, y, _cut(_said(name)), note, ", ".join(title), " ".join(look))


def _of_end(name: str, graph: Graph) -> str:
    return _runs(graph.runs) if name == START else ""


def _note(node: Node) -> str:
    """Say what it is, how many runs came to it, and how many are there; else how long it takes."""
    note = [_kind(node), _runs(node.runs)]
    if node.here:
        note.append(_("{number} here").format(number=speech.number(node.here)))
    elif node.took is not None:
        note.append(words.took(node.took, briefly=True))
    return " · ".join(note)


def _title(node: Node) -> list[str]:
    title = [_said(node.key), _kind(node), _times(node)]
    if node.took is not None:
        title.append(_("half of them took up to {span}").format(span=words.took(node.took)))
    if node.failed:
        title.append(
            ngettext("{number} failed", "{number} failed", node.failed).format(number=speech.number(node.failed))
        )
    if node.here:
        here = speech.number(node.here)
        title.append(ngettext("{number} is here now", "{number} are here now", node.here).format(number=here))
    return title


def _spot(node: Node, graph: Graph) -> Spot:
    mark = graph.marks.get(node.key, "")
    return Spot(
        _said(node.key), _kind(node), node.runs, node.records, node.failed, words.took(node.took),
        str(_MARKS[mark]) if mark else "",
    )  # fmt: skip


def _kind(node: Node) -> str:
    return str(words.KINDS.get(node.kind, node.kind))


def _cut(said: str) -> str:
    return said if len(said) <= _FIT else f"{said[: _FIT - 1]}…"


def _runs(number: int) -> str:
    return ngettext("{number} run", "{number} runs", number).format(number=speech.number(number))


def _times(node: Node) -> str:
    text = ngettext("{records} times in {runs} run", "{records} times in {runs} runs", node.runs)
    return text.format(records=speech.number(node.records), runs=speech.number(node.runs))


def _said(name: str) -> str:
    if name == START:
        return pgettext("graph of a workflow", "start")
    return str(words.RUN_STATES[_STATES[name]]) if name in _STATES else printable(name)


def _share(edge: Edge) -> str:
    return _("{number} %").format(number=f"{100 * edge.failed / edge.runs:.0f}") if edge.failed else ""


def _label(edge: Edge) -> str:
    """Say in how many runs a line was gone, and in how many of these what it leads to has failed."""
    runs = speech.number(edge.runs)
    if edge.failed and edge.target not in _STATES:
        return _("{runs}, {share} fail").format(runs=runs, share=_share(edge))
    return runs


def _arrow(edge: Edge, line: Line, label: str, at: tuple[float, float], walked: bool) -> Arrow:
    points = [(x + _EDGE, y + _EDGE) for x, y in line.points]
    title = f"{_said(edge.source)} → {_said(edge.target)}: {label}"
    looks = {"canx-edge-bad": edge.failed, "canx-edge-back": line.back, "canx-edge-walked": walked}
    look = " ".join(name for name, holds in looks.items() if holds)
    middle = round(at[0] + _EDGE, 1), round(at[1] + _EDGE + 4, 1)  # Text stands on its line.
    return Arrow(_path(points, line.back), label, middle, labels.width(label), title, look)


def _path(points: Sequence[tuple[float, float]], back: bool) -> str:
    (x, y), *rest = points
    drawn = [f"M{x:.1f} {y:.1f}"]
    for to_x, to_y in rest:
        half = (y + to_y) / 2
        drawn.append(
            f"L{to_x:.1f} {to_y:.1f}" if back else f"C{x:.1f} {half:.1f} {to_x:.1f} {half:.1f} {to_x:.1f} {to_y:.1f}"
        )
        x, y = to_x, to_y
    return "".join(drawn)


def _ways(graph: Graph) -> Iterator[Way]:
    place = {name: number for number, name in enumerate([START, *graph.nodes, *_STATES])}
    for edge in sorted(graph.edges.values(), key=lambda edge: (place[edge.source], place[edge.target])):
        yield Way(_said(edge.source), _said(edge.target), edge.runs, edge.failed, _share(edge))
