"""A workflow as a graph: the steps, branches, waits and children that its last runs have come to, and in which order.

Made from records alone, so no picture is kept by hand. Plain data, without the database: `paths` reads what this draws,
`own_way` marks where one run stands in it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from ..states import ANSWERS, CANCELLED, COMPLETED, ENDED, FAILED, Kind, RecordState

#: Steps that are drawn: of a workflow that makes up names there are thousands, of which the most frequent are shown.
MOST_NODES = 60
#: From this use of a name on, all its uses are one: a loop.
_LOOP = 3

#: The names of the ends; no step can have such a name.
START = "#start"
END = {COMPLETED: "#completed", FAILED: "#failed", CANCELLED: "#cancelled"}

_COUNT = re.compile(r"#(\d+)(?=/|\[|$)")
_ITEM = re.compile(r"\[\d+\]")
_OPEN = (RecordState.OPEN, RecordState.STARTED, RecordState.DUE)


@dataclass(slots=True)
class Node:
    """A step, wait, call or map. `runs` that came to it, `records`: how often, `failed`: of those, `here`: open now."""

    key: str
    kind: str
    runs: int = 0
    records: int = 0
    failed: int = 0
    here: int = 0
    #: Seconds that half of those which have completed took at most.
    took: float | None = None


@dataclass(slots=True)
class Edge:
    """That `target` came after `source`. `runs` in which it did, `failed`: those in which the target failed then."""

    source: str
    target: str
    runs: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Graph:
    """`nodes` in the order in which runs come to them; `names`: which of the runs' names are which node."""

    nodes: dict[str, Node]
    edges: dict[tuple[str, str], Edge]
    names: Names
    runs: int = 0
    #: Of one run: the nodes that it has come to, with whether it is `done`, `here` or `failed` there, stands behind it
    #: (`last`), or has `ended` so; and the edges of its way.
    marks: Mapping[str, str] = field(default_factory=dict)
    way: Collection[tuple[str, str]] = ()

    @property
    def left_out(self) -> int:
        """How many names are too rare to be drawn."""
        return len(self.names.left_out)


class Seen(NamedTuple):
    """One record, as the graph needs it."""

    seq: int
    name: str
    kind: str
    state: str
    took: float | None = None

    @property
    def open(self) -> bool:
        """Whether the run is there now."""
        return self.state in _OPEN


@dataclass(frozen=True, slots=True)
class Path:
    """The records of one run, in the order in which they were stored, and the run's state."""

    state: str
    records: Sequence[Seen]


def draw(paths: Sequence[Path]) -> Graph:
    """Make the graph of these runs."""
    names = Names.of_paths(paths)
    building = _Building()
    for path in paths:
        building.add(path, names)
    return building.graph(names)


def draw_one(path: Path, names: Names) -> Graph:
    """Make the graph of one run alone, with the names of another graph."""
    building = _Building()
    building.add(path, names)
    return building.graph(names)


# -- which names are one ---------------------------------------------------------------------------------


@lru_cache(maxsize=8192)
def _parts(name: str) -> tuple[str, str, int]:
    """Return the scope of a name, the name without items and counts, and which use of it this is."""
    scope = name[: name.rfind("/") + 1]
    own = _ITEM.sub("", name[len(scope) :])
    count = _COUNT.search(own)
    return scope, _COUNT.sub("", own), int(count[1]) if count is not None else 1


class Names:
    """Which records are one node: items of a map, the uses of a name in a loop, one branch entered again."""

    def __init__(self, loops: Collection[str], left_out: Collection[str] = ()) -> None:
        self.loops, self.left_out = frozenset(loops), frozenset(left_out)
        self._keys: dict[str, str] = {}

    @classmethod
    def of_paths(cls, paths: Sequence[Path]) -> Names:
        """Find which names these runs use again and again, and which are too rare."""
        found = cls({loop for path in paths for loop in _loops(path)})
        runs: Counter[str] = Counter()
        for path in paths:
            runs.update(found.keys(path))
        kept = sorted(runs, key=lambda key: (-runs[key], key))
        return cls(found.loops, kept[MOST_NODES:])

    def beside(self, path: Path, known: Collection[str]) -> Names:
        """Return the names with which one more run can be drawn: its own last nodes, too, which are not `known`."""
        found = Names(self.loops | {*_loops(path)})
        unknown = [key for key in found.keys(path) if key not in known]
        return Names(found.loops, unknown[:-MOST_NODES])

    def keys(self, path: Path) -> Sequence[str]:
        """Return the nodes of a run, in the order in which it came to them first."""
        return list(dict.fromkeys(self.of(seen.name) for seen in path.records if is_drawn(seen)))

    def of(self, name: str) -> str:
        """Return the key of the node that a record of this name belongs to."""
        found = self._keys.get(name)
        if found is None:
            scope, own, use = _parts(name)
            key = _COUNT.sub("", scope) + own
            found = self._keys[name] = key if use == 1 or key in self.loops else f"{key}#{use}"
        return found


def _loops(path: Path) -> Iterator[str]:
    """Yield the names that a run uses again at once, or often."""
    last: dict[str, str] = {}
    for seen in path.records:
        scope, own, use = _parts(seen.name)
        if use >= _LOOP or (use > 1 and last.get(scope) == own):
            yield _COUNT.sub("", scope) + own
        last[scope] = own


def is_drawn(seen: Seen) -> bool:
    """Tell whether a record is a node: it is no answer, and no decision over branches."""
    return seen.kind not in ANSWERS and not _is_decision(seen)


def _is_decision(seen: Seen) -> bool:
    return seen.kind in (Kind.GATHER, Kind.RACE)


# -- which comes after which -----------------------------------------------------------------------------


@dataclass(slots=True)
class _Scope:
    """Where a branch stands: after which nodes its next record comes, and which branches it has begun since."""

    after: set[str] = field(default_factory=set)
    begun: dict[str, None] = field(default_factory=dict)


class _Building:
    """Adds up the ways of many runs."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: dict[tuple[str, str], Edge] = {}
        self._places: defaultdict[str, list[int]] = defaultdict(list)
        self._took: defaultdict[str, list[float]] = defaultdict(list)
        self._runs = 0

    def add(self, path: Path, names: Names) -> None:
        """Add the way of one run."""
        self._runs += 1
        way = _Way()
        drawn: dict[str, None] = {}
        for place, seen in enumerate(path.records):
            if _is_decision(seen):
                way.join(_parts(seen.name)[0])
            elif seen.kind not in ANSWERS and (key := names.of(seen.name)) not in names.left_out:
                self._count(key, seen, key not in drawn, path.state not in ENDED)
                if key not in drawn:
                    self._places[key].append(place)
                drawn[key] = None
                way.step(key, seen)
        if path.state in ENDED:
            way.end(END[path.state])
        for pair, failed in way.edges.items():
            edge = self.edges.setdefault(pair, Edge(*pair))
            edge.runs += 1
            edge.failed += failed

    def _count(self, key: str, seen: Seen, first: bool, goes_on: bool) -> None:
        node = self.nodes.setdefault(key, Node(key, seen.kind))
        if seen.kind == Kind.MAP:
            node.kind = Kind.MAP
        node.runs += first
        node.records += 1
        node.failed += seen.state == RecordState.FAILED
        node.here += goes_on and seen.open and seen.kind != Kind.MAP
        if seen.took is not None and seen.state == RecordState.COMPLETED:
            self._took[key].append(seen.took)

    def graph(self, names: Names) -> Graph:
        """Return the nodes in the order in which runs come to them, on average."""
        mean = {key: sum(places) / len(places) for key, places in self._places.items()}
        order = sorted(self.nodes, key=lambda key: (mean[key], key))
        edges = {pair: self.edges[pair] for pair in sorted(self.edges)}
        for key, took in self._took.items():
            self.nodes[key].took = sorted(took)[len(took) // 2]
        return Graph({key: self.nodes[key] for key in order}, edges, names, self._runs)


class _Way:
    """The way of one run: its edges, and whether what they lead to failed."""

    def __init__(self) -> None:
        self.edges: dict[tuple[str, str], bool] = {}
        self._scopes: dict[str, _Scope] = {"": _Scope({START})}
        self._failed: set[str] = set()

    def step(self, key: str, seen: Seen) -> None:
        """Go on to a node: within its branch, else from where its branch began."""
        scope = self._scope(_parts(seen.name)[0])
        self._join(scope)
        failed = seen.state == RecordState.FAILED
        for source in scope.after - {key}:
            self.edges[source, key] = self.edges.get((source, key), False) or failed
        scope.after = {key}
        if failed:
            self._failed.add(key)

    def join(self, name: str) -> None:
        """Note that the branches which this scope has begun are over."""
        self._join(self._scope(name))

    def end(self, key: str) -> None:
        """Lead to the end of the run: from what has failed in it, if that is what it ended with."""
        last = self._scopes[""]
        self._join(last)
        sources = (last.after & self._failed or last.after) if key == END[FAILED] else last.after
        for source in sources:
            self.edges[source, key] = key == END[FAILED]

    def _scope(self, name: str) -> _Scope:
        found = self._scopes.get(name)
        if found is None:
            above = name[: name.rstrip("/").rfind("/") + 1]
            parent = self._scope(above)
            parent.begun[name] = None
            found = self._scopes[name] = _Scope(set(parent.after))
        return found

    def _join(self, scope: _Scope) -> None:
        begun, scope.begun = scope.begun, {}
        ends: set[str] = set()
        for name in begun:
            self._join(self._scopes[name])
            ends |= self._scopes[name].after
        scope.after = ends or scope.after
