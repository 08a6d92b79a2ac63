"""What the benchmark computes from its meters."""

from __future__ import annotations

import os
from xml.etree import ElementTree as ET

import pytest

from . import plot
from .arguments import options, parser
from .book import Book
from .measure import Spread, cpu_seconds, cpu_seconds_of_threads, peak_bytes, percentile, resident_bytes
from .targets import EachTarget, Target

pytestmark = pytest.mark.once

_SVG = "{http://www.w3.org/2000/svg}"


def _book() -> Book:
    book = Book()
    for rate in (900.0, 1000.0, 1100.0):
        book.add("w1", "postgresql", "32 in flight", {"steps_per_s": rate})
        book.add("w1", "postgresql", "16 in flight", {"steps_per_s": 1.0})
        book.add("w1", "postgresql", "its default", {"steps_per_s": 100.0}, "Absurd")
    return book


def _target(**bounds: float) -> Target:
    return Target("w1", "postgresql", "32 ", "steps/s", lambda row: row["steps_per_s"], **bounds)


def test_a_spread_is_the_median_between_the_least_and_the_most() -> None:
    """Of an even number of values, the median is halfway between the two in the middle."""
    assert Spread.of([4.0, 1.0, 3.0, 2.0]) == Spread(2.5, 1.0, 4.0, 4)


def test_a_percentile_is_one_of_the_values() -> None:
    """The nearest rank is taken, and of few values the highest percentile is the greatest."""
    assert [percentile([5.0, 1.0, 3.0], percent) for percent in (0, 50, 99)] == [1.0, 3.0, 5.0]


def test_a_target_looks_at_the_median_of_its_own_case() -> None:
    """Other cases and other engines have no part in it."""
    reached = _target(least=1000).reached(_book())
    assert reached is not None
    assert reached.median == 1000
    assert _target(least=1000).is_met(reached.median)
    assert not _target(most=999).is_met(reached.median)


def test_a_target_beside_a_peer_is_a_ratio() -> None:
    """Each repetition of ours by the peer's of the same turn."""
    target = Target("w1", "postgresql", "32 ", "x Absurd", lambda row: row["steps_per_s"], least=8, peer="Absurd")
    reached = target.reached(_book())
    assert reached == Spread(10.0, 9.0, 11.0, 3)


def test_a_target_beside_a_peer_takes_its_case_of_that_name() -> None:
    """Where it has one: each limit of W19 beside the same limit."""
    book = Book()
    for case, ours, theirs in (("rate", 100.0, 50.0), ("concurrency", 100.0, 10.0)):
        book.add("w19", "postgresql", case, {"steps_per_s": ours})
        book.add("w19", "postgresql", case, {"steps_per_s": theirs}, "DBOS")
    target = Target("w19", "postgresql", "concurrency", "", lambda row: row["steps_per_s"], least=10, peer="DBOS")
    assert target.reached(book) == Spread(10.0, 10.0, 10.0, 1)


def test_a_target_for_each_case_is_decided_by_the_worst() -> None:
    """The median of its repetitions; a case without the figure has no part in it."""
    book = Book()
    for case, grown in {"poll": [1.1, 9.0, 1.2], "claim": [1.6], "start": [], "list": [1.0]}.items():
        for figure in grown or [None]:
            book.add("w15", "postgresql", case, {"ms_10000": 1.0} | ({} if figure is None else {"x_ms": figure}))
    target = EachTarget("w15", "postgresql", "", "at most", lambda row: row["x_ms"], most=1.5, needs="x_ms")
    reached = target.reached(book)
    assert reached == Spread(1.6, 1.0, 1.6, 3)
    assert not target.is_met(reached.median)
    assert target.told(book) == "at most: claim"
    assert EachTarget("w15", "sqlite", "", "", lambda row: row["x_ms"], most=1.5).reached(book) is None


def test_a_target_that_was_not_measured_is_not_judged() -> None:
    """Nothing was written down for it, so there is nothing to tell."""
    assert _target(least=1).reached(Book()) is None


def test_a_book_can_be_read_again() -> None:
    """What was written as JSON gives the same book."""
    again = Book()
    again.read(_book().as_json())
    assert again.rows == _book().rows


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="meters read /proc")  # noqa: PTH110
def test_the_meters_read_this_process() -> None:
    """CPU by ticks and by threads agree, and memory has been at its peak at least."""
    pid = os.getpid()
    assert cpu_seconds_of_threads(pid) <= cpu_seconds(pid) + 0.5
    assert cpu_seconds(pid) > 0
    assert peak_bytes(pid) >= resident_bytes(pid) * 0.9 > 1e6


@pytest.mark.parametrize("given", ["--database {} {}", "--database {} --database {}"])
def test_every_database_that_is_asked_for_is_measured(given: str) -> None:
    """Given twice, an option adds to what it was given before: nothing is left out in silence."""
    arguments = given.format("postgresql", "sqlite-full").split()
    assert parser({}).parse_args(arguments).database == ["postgresql", "sqlite-full"]


def test_numbers_of_runs_in_flight_add_up_too() -> None:
    """`--in-flight 1 8 --in-flight 32` asks for all three."""
    given = parser({}).parse_args(["--in-flight", "1", "8", "--in-flight", "32"])
    assert options(given).in_flight == (1, 8, 32)


def test_growth_is_drawn_as_a_line_for_each_operation() -> None:
    """Each has its name; those without statistics are dashed; the words say how many are level."""
    lines = {"turn: poll": {10_000: 10.0, 1_000_000: 12.0}, "flow list: all, not analysed": {10_000: 9, 1_000_000: 900}}
    picture = ET.fromstring(plot.drawn(lines))
    drawn = {line.findtext(f"{_SVG}title"): line.get("stroke-dasharray") for line in picture.iter(f"{_SVG}polyline")}
    assert drawn == {"turn: poll": None, "flow list: all, not analysed": "3 3"}
    assert "1 of 2 lines" in (picture.findtext(f"{_SVG}desc") or "")
