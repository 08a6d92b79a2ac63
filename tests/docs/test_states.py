"""The picture of the states and the page about them show the arrows that the code has, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

import pytest

from canx_flow import signals, states
from canx_flow.core import arrows
from canx_flow.core.arrows import Timers

from ..test_control import CALLS, TABLE
from .pages import DOCS, page
from .test_reference import rows, section

pytestmark = pytest.mark.once

PICTURE = DOCS / "explanation" / "states.svg"
#: How the page says what becomes of a run's timers.
WORDS = {
    Timers.KEPT: "",
    Timers.HELD: "held",
    Timers.RELEASED: "released",
    Timers.DELETED: "deleted",
    Timers.DELETED_BUT_EVENT: "deleted, but for `cancel_on`",
    Timers.KEPT_FOR_RETRY: "held for `retry`",
}

Point = tuple[float, float]


def _targets(arrow: arrows.Arrow) -> dict[str, tuple[str, ...]]:
    return {before: after if isinstance(after, tuple) else (after,) for before, after in arrow.to.items()}


def _pairs(arrow: arrows.Arrow) -> set[tuple[str, str]]:
    return {(before, after) for before, some in _targets(arrow).items() for after in some}


EVERY = {pair for arrow in arrows.ALL.values() for pair in _pairs(arrow)}


# -- the page --------------------------------------------------------------------------------------


def _as_rows() -> list[tuple[str, ...]]:
    """The table of arrows as the page has it: arrows that look alike to users are one row."""
    found: dict[tuple[str, tuple[str, ...], str, str], list[str]] = {}
    for arrow in arrows.ALL.values():
        told = " or ".join(f"`{name}`" for name in arrow.signals)
        for before, after in _targets(arrow).items():
            froms = found.setdefault((arrow.verb, after, WORDS[arrow.timers], told), [])
            if before not in froms:
                froms.append(before)
    return [
        (verb, ", ".join(f"`{s}`" for s in froms), " or ".join(f"`{s}`" for s in after), timers, told)
        for (verb, after, timers, told), froms in found.items()
    ]


def test_the_page_lists_every_arrow() -> None:
    """From where to where, what the timers do, and which signal is sent: as the table in the code says."""
    assert [tuple(row) for row in rows(section(page("reference/states").text, "## The arrows"))] == _as_rows()


def test_every_signal_of_a_run_is_sent_with_an_arrow() -> None:
    """The table of arrows names each of them, and nothing that is no signal."""
    named = {name for arrow in arrows.ALL.values() for name in arrow.signals}
    assert named == {name for name in vars(signals) if name.startswith("run_")}


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume", "retry"])
def test_a_call_leads_where_its_arrows_lead(verb: str) -> None:
    """In each row of the table of states and calls the state changes as an arrow says, or stays where there is none."""
    leads: dict[str, set[str]] = {state: set() for state in states.ALL}
    for row, answers in TABLE.items():
        after = answers[CALLS.index(verb)][1]
        leads[row.partition(",")[0]] |= {after} if after else set()
    has = [arrow for arrow in arrows.ALL.values() if arrow.verb == verb]
    for state, after in leads.items():
        allowed = {end for arrow in has for start, end in _pairs(arrow) if start == state}
        assert after <= allowed
        assert bool(after) == bool(allowed)


# -- the picture -----------------------------------------------------------------------------------


def _drawn() -> Iterator[tuple[ET.Element, set[tuple[str, str]]]]:
    """What stands for arrows in the picture, with the arrows it stands for: lines, and remarks beside them."""
    for element in ET.parse(PICTURE).iter():
        if pairs := element.get("data-arrows"):
            yield element, {(start, end) for start, _, end in (pair.partition("→") for pair in pairs.split())}


def test_the_picture_shows_every_arrow_and_no_other() -> None:
    """What it draws or says is the table in the code, but for arrows from a state to itself."""
    shown = set().union(*(pairs for _, pairs in _drawn()))
    assert shown == {(start, end) for start, end in EVERY if start != end}


def test_the_lines_of_the_picture_lead_from_state_to_state() -> None:
    """Each line begins and ends at the boxes of the states that it says it connects."""
    boxes = list(_boxes())
    for element, pairs in _drawn():
        if element.tag.endswith("path"):
            first, last = _ends(element.get("d", ""))
            ends = [_nearest(boxes, point) for point in (first, last)]
            assert {frozenset(pair) for pair in pairs} == {
                frozenset((start, end)) for start in ends[0] for end in ends[1]
            }, element.get("d")


def _boxes() -> Iterator[tuple[Point, Point, set[str]]]:
    """Each box of the picture: its corners, and the states whose names stand in it."""
    tree = ET.parse(PICTURE)
    names = [e for e in tree.iter() if e.tag.endswith("text") and e.text in states.ALL]
    for box in tree.iter():
        if box.tag.endswith("rect"):
            x, y, width, height = (float(box.get(name, "0")) for name in ("x", "y", "width", "height"))
            inside = {
                str(e.text) for e in names
                if x < float(e.get("x", "0")) < x + width and y < float(e.get("y", "0")) < y + height
            }  # fmt: skip
            if len(inside) < len(states.ALL):  # The frame around all of them is no box.
                yield (x, y), (x + width, y + height), inside


def _ends(line: str) -> tuple[Point, Point]:
    """The first and the last point of a path of absolute lines and curves."""
    x = y = 0.0
    points: list[Point] = []
    for command, numbers in re.findall(r"([MLHVQ])([^MLHVQ]*)", line):
        values = [float(number) for number in numbers.split()]
        x = x if command == "V" else values[-1 if command == "H" else -2]
        y = y if command == "H" else values[-1]
        points.append((x, y))
    return points[0], points[-1]


def _nearest(boxes: list[tuple[Point, Point, set[str]]], point: Point) -> set[str]:
    """The states of the box whose edge is nearest to a point; at most eight units away."""

    def distance(box: tuple[Point, Point, set[str]]) -> float:
        (left, top), (right, bottom), _ = box
        beside = max(left - point[0], 0, point[0] - right)
        above = max(top - point[1], 0, point[1] - bottom)
        return beside + above

    nearest = min(boxes, key=distance)
    assert distance(nearest) <= 8
    return nearest[2]
