"""A timeline as bars: where each step, wait and branch begins and ends between 0 and 100, with long gaps folded.

Called by the admin, which draws it. Knows no HTML and no database: made from the rows of one page.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate, pairwise
from uuid import UUID

from ..core.naming import label
from ..models import WorkflowRun
from ..states import Kind, RecordState
from .reading import OpenWait
from .rows import CALLED, INTERRUPTED, Row

#: Of the width that one folded gap takes.
FOLD = 9.0
#: Gaps are folded that take more than this share of what is left.
_SHARE = 0.6
_MOST_FOLDS = 6
#: Seconds that a gap must take to be folded: who reads of milliseconds wants to see them to one measure.
_LEAST_FOLDED = 1.0
#: Failed attempts of one row that are drawn, the last ones.
_ATTEMPTS = 20
_ITEM = re.compile(r"(.+)(\[\d+\])")
_WAITING = (Kind.SLEEP, Kind.WAIT, Kind.CALL, Kind.DELEGATE)

# What a part of a bar is.
WORK, FAILED, PAUSE, WAIT, DUE, SPAN = "work", "failed", "pause", "wait", "due", "span"


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a bar. `until` of one that has no end yet is now, and it is `open`."""

    kind: str
    began: datetime
    until: datetime
    open: bool = False
    #: The number of the attempt, if it is one.
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class Kin:
    """A child run, and the first of its rows."""

    run: WorkflowRun
    rows: Sequence[Row]


@dataclass(slots=True)
class Bar:
    """One line of the chart: a row, a branch, the items of a map or a child run, with what is nested in it."""

    label: str
    row: Row | None = None
    child: WorkflowRun | None = None
    #: Whether it is a step of a child, which has no row in the table of this run's steps.
    foreign: bool = False
    parts: Sequence[Part] = ()
    nested: list[Bar] = field(default_factory=list)

    @property
    def began(self) -> datetime | None:
        """When the first of it began."""
        moments = [part.began for part in self.parts]
        moments += [began for bar in self.nested if (began := bar.began) is not None]
        return min(moments, default=None)

    @property
    def until(self) -> datetime | None:
        """When the last of it ended, or is due."""
        moments = [part.until for part in self.parts]
        moments += [until for bar in self.nested if (until := bar.until) is not None]
        return max(moments, default=None)


# -- bars ------------------------------------------------------------------------------------------


_NO_KIN: Mapping[UUID, Kin] = {}


def bars(rows: Iterable[Row], now: datetime, kin: Mapping[UUID, Kin] = _NO_KIN, *, foreign: bool = False) -> list[Bar]:
    """Make the bars of these rows, those of branches, children and a map's items nested, by their beginnings."""
    root = Bar("")
    known: dict[tuple[str, ...], Bar] = {(): root}
    for row in rows:
        if row.began is not None and (row.kind in (Kind.STEP, Kind.UNDO, Kind.MAP) or row.kind in _WAITING):
            bar = _at(known, _path(row.name))
            bar.row, bar.parts, bar.foreign = row, list(parts(row, now)), foreign
            if row.child is not None and row.child in kin:
                bar.nested.append(_child(kin[row.child], now))
    _finish(root)
    return root.nested


def _child(kin: Kin, now: datetime) -> Bar:
    run = kin.run
    part = Part(SPAN, run.started_at or run.created_at, run.finished_at or now, run.finished_at is None)
    return Bar(label(run.workflow, run.version), None, run, True, [part], bars(kin.rows, part.until, foreign=True))


def _path(name: str) -> tuple[str, ...]:
    """Return the branches, and the map, that a name is nested in, and what is left of it."""
    *branches, leaf = name.split("/")
    item = _ITEM.fullmatch(leaf)
    return (*branches, item[1], item[2]) if item is not None else (*branches, leaf)


def _at(known: dict[tuple[str, ...], Bar], path: tuple[str, ...]) -> Bar:
    if path not in known:
        known[path] = Bar(path[-1])
        _at(known, path[:-1]).nested.append(known[path])
    return known[path]


def _finish(bar: Bar) -> None:
    """Put what is nested in order; a branch has no row of its own, and spans what it holds."""
    for nested in bar.nested:
        _finish(nested)
    bar.nested.sort(key=lambda nested: nested.began.timestamp() if nested.began is not None else 0.0)
    began, until = bar.began, bar.until
    if not bar.parts and began is not None and until is not None:
        bar.parts = [Part(SPAN, began, until)]


def parts(row: Row, now: datetime) -> Iterator[Part]:
    """Yield the stretches of a row, one after the other."""
    if row.began is None:
        return
    if row.kind in _WAITING:
        yield Part(WAIT, row.began, row.ended or now, row.ended is None)
    elif row.kind == Kind.MAP:
        yield Part(SPAN, row.began, row.ended or now, row.ended is None)
    else:
        yield from _attempts(row, row.began, now)
    if row.ended is None and row.wait is not None:
        yield from _due(row.wait, now)


def _due(wait: OpenWait, now: datetime) -> Iterator[Part]:
    if wait.due_at is not None and wait.due_at > now:
        yield Part(DUE, now, wait.due_at)


def _attempts(row: Row, began: datetime, now: datetime) -> Iterator[Part]:
    """Yield each attempt, and the pauses between them. Of the one that succeeded only its end is stored."""
    last = began
    for error in row.errors[-_ATTEMPTS:]:
        if error.at is None or error.at < last:
            continue
        called = max(error.began or (began if error is row.errors[0] else error.at), last)
        if called > last:
            yield Part(PAUSE, last, called)
        yield Part(FAILED, called, error.at, attempt=error.attempt)
        last = error.at
    succeeded = row.state == RecordState.COMPLETED
    goes_on = row.state in (CALLED, INTERRUPTED)
    if not row.errors:
        kind = FAILED if row.state == RecordState.FAILED else WORK
        yield Part(kind, last, row.ended or now, row.state == CALLED)
    elif succeeded or goes_on:
        end = row.ended or now
        yield Part(PAUSE, last, end)
        yield Part(WORK, end, end, row.state == CALLED, row.attempts if succeeded else row.attempts + 1)
    elif row.ended is None:
        yield Part(PAUSE, last, now)


# -- the scale -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of time on the axis, from `x` on, so wide; folded if it is shown shorter than it was."""

    began: datetime
    until: datetime
    x: float
    width: float
    folded: bool

    def place(self, at: datetime) -> float:
        """Return where a moment of this stretch is drawn."""
        whole = (self.until - self.began).total_seconds()
        return self.x + (self.width * (at - self.began).total_seconds() / whole if whole else 0.0)


@dataclass(frozen=True, slots=True)
class Scale:
    """The axis: stretches of time, one after the other."""

    stretches: Sequence[Stretch]

    def place(self, at: datetime) -> float:
        """Return where a moment is drawn, from 0 to 100."""
        for stretch in self.stretches:
            if at <= stretch.until:
                return max(stretch.place(at), 0.0)
        return 100.0

    @property
    def folds(self) -> Sequence[Stretch]:
        """The gaps that are shown shorter than they were."""
        return [stretch for stretch in self.stretches if stretch.folded]


def scale(drawn: Sequence[Bar]) -> Scale | None:
    """Make the axis for these bars: `None` if nothing of them has begun."""
    moments = sorted(set(_moments(drawn)))
    if not moments:
        return None
    if len(moments) == 1:
        moments.append(moments[0] + timedelta(milliseconds=1))
    gaps = [(after - before).total_seconds() for before, after in pairwise(moments)]
    folded = _folded(gaps, _idle(moments, drawn))
    rest = sum(gap for place, gap in enumerate(gaps) if place not in folded) or 1.0
    room, x = 100.0 - FOLD * len(folded), 0.0
    stretches: list[Stretch] = []
    for place, (before, after) in enumerate(pairwise(moments)):
        width = FOLD if place in folded else room * gaps[place] / rest
        stretches.append(Stretch(before, after, x, width, place in folded))
        x += width
    return Scale(_joined(stretches))


def _moments(drawn: Iterable[Bar]) -> Iterator[datetime]:
    for bar in drawn:
        for part in bar.parts:
            yield part.began
            yield part.until
        yield from _moments(bar.nested)


def _folded(gaps: Sequence[float], idle: Sequence[bool]) -> set[int]:
    """Choose the gaps that would leave no room to see the rest: the longest, with those about as long, and so on."""
    long = (place for place, free in enumerate(idle) if free and gaps[place] >= _LEAST_FOLDED)
    left = sorted(long, key=lambda place: gaps[place], reverse=True)
    rest, folded = sum(gaps), set[int]()
    while left and len(folded) < _MOST_FOLDS:
        alike = [place for place in left if gaps[place] > gaps[left[0]] / 2]
        taken = sum(gaps[place] for place in alike)
        if taken <= _SHARE * rest:
            break
        folded.update(alike[: _MOST_FOLDS - len(folded)])
        left, rest = left[len(alike) :], rest - taken
    return folded if len(folded) < len(gaps) else set()


def _idle(moments: Sequence[datetime], drawn: Iterable[Bar]) -> list[bool]:
    """Return for each gap between two moments whether nothing is called in it: only waits and pauses go on."""
    begun = [0] * len(moments)
    for part in _parts(drawn):
        if part.kind in (WORK, FAILED):
            begun[bisect_left(moments, part.began)] += 1
            begun[bisect_left(moments, part.until)] -= 1
    return [number == 0 for number in accumulate(begun)][:-1]


def _parts(drawn: Iterable[Bar]) -> Iterator[Part]:
    for bar in drawn:
        yield from bar.parts
        yield from _parts(bar.nested)


def _joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Join neighbours that are drawn to the same measure."""
    joined: list[Stretch] = []
    for stretch in stretches:
        last = joined[-1] if joined else None
        if last is not None and not last.folded and not stretch.folded:
            joined[-1] = Stretch(last.began, stretch.until, last.x, last.width + stretch.width, False)
        else:
            joined.append(stretch)
    return joined
