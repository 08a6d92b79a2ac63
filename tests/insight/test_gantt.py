"""The timeline as bars: where each begins and ends, what is nested in what, and gaps that are folded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from canx_flow.insight import gantt
from canx_flow.insight.display import ShownError
from canx_flow.insight.gantt import Bar, Part
from canx_flow.insight.reading import OpenWait
from canx_flow.insight.rows import Row

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """So many seconds after the start."""
    return START + timedelta(seconds=seconds)


def row(name: str, began: float, ended: float | None, kind: str = "step", state: str = "completed", **more: Any) -> Row:
    """A row that began and ended so many seconds after the start."""
    return Row(name, kind, state, more.pop("attempts", 1), at(began), None if ended is None else at(ended), **more)


def failed(began: float | None, ended: float, attempt: int | None = None) -> ShownError:
    """A failed attempt."""
    called = None if began is None else at(began)
    return ShownError("ValueError", "no", "", at(ended), attempt=attempt, began=called)


def drawn(bar: Bar) -> list[tuple[str, float, float]]:
    """What is drawn from when until when."""
    return [(p.kind, (p.began - START).total_seconds(), (p.until - START).total_seconds()) for p in bar.parts]


def test_attempts_are_stretches_with_pauses_between() -> None:
    """Each failed one from its call to its failure; of the one that succeeded only the end is stored."""
    errors = (failed(0, 2, 1), failed(5, 6, 2))
    (bar,) = gantt.bars([row("charge", 0, 20, errors=errors, attempts=3)], at(30))
    assert drawn(bar) == [
        ("failed", 0, 2), ("pause", 2, 5), ("failed", 5, 6), ("pause", 6, 20), ("work", 20, 20),
    ]  # fmt: skip
    assert [part.attempt for part in bar.parts if part.kind != "pause"] == [1, 2, 3]


def test_errors_of_older_releases_have_no_beginning() -> None:
    """Then each is a moment, but for the first, which began with the step."""
    errors = (failed(None, 2), failed(None, 6))
    (bar,) = gantt.bars([row("charge", 0, None, state="retrying", errors=errors, attempts=2)], at(10))
    assert drawn(bar) == [("failed", 0, 2), ("pause", 2, 6), ("failed", 6, 6), ("pause", 6, 10)]


def test_what_is_not_over_has_an_open_end_and_what_is_due_is_drawn_to_that_moment() -> None:
    """A running step ends now; a sleep goes on to its moment."""
    wait = OpenWait("nap", "sleep", None, None, at(100), False)
    running, nap = gantt.bars(
        [row("work", 0, None, state="running"), row("nap", 1, None, kind="sleep", state="sleeping", wait=wait)], at(10)
    )
    assert running.parts == [Part("work", at(0), at(10), open=True)]
    assert nap.parts == [Part("wait", at(1), at(10), open=True), Part("due", at(10), at(100))]


def test_branches_and_items_are_nested() -> None:
    """By their names, in the order of their beginnings; a branch spans what it holds."""
    rows = [
        row("right/ship", 3, 4), row("left/reserve", 1, 2), row("left/charge", 2, 9), row("pack", 5, 8, kind="map"),
        row("pack[0]", 5, 6), row("pack[1]", 6, 8), row("charge[undo]", 9, 10, kind="undo"),
    ]  # fmt: skip
    left, right, pack, undo = gantt.bars(rows, at(10))
    assert (left.label, [bar.label for bar in left.nested], drawn(left)) == (
        "left", ["reserve", "charge"], [("span", 1, 9)],
    )  # fmt: skip
    assert (right.label, pack.label, undo.label) == ("right", "pack", "charge[undo]")
    assert [bar.label for bar in pack.nested] == ["[0]", "[1]"]
    assert pack.row is not None


def test_answers_have_no_bar() -> None:
    """A recorded moment and a decision are no work."""
    assert gantt.bars([row("#now", 0, 0, kind="now"), row("#gather", 0, 1, kind="gather")], at(2)) == []


def test_without_gaps_the_scale_is_even() -> None:
    """From the first beginning to the last end."""
    scale = gantt.scale(gantt.bars([row("a", 0, 1), row("b", 1, 2), row("c", 2, 4)], at(9)))
    assert scale is not None
    assert [scale.place(at(second)) for second in (0, 1, 2, 4)] == [0, 25, 50, 100]
    assert not scale.folds


def test_long_gaps_are_folded_and_the_rest_has_room() -> None:
    """Two sleeps of days leave a step of seconds visible."""
    day = 86_400
    rows = [
        row("a", 0, 2), row("nap", 2, 3 * day, kind="sleep"), row("b", 3 * day, 3 * day + 2),
        row("nap#2", 3 * day + 2, 6 * day, kind="sleep"), row("c", 6 * day, 6 * day + 2),
    ]  # fmt: skip
    bars = gantt.bars(rows, at(7 * day))
    scale = gantt.scale(bars)
    assert scale is not None
    assert [round(fold.width) for fold in scale.folds] == [gantt.FOLD, gantt.FOLD]
    (part,) = bars[0].parts
    assert scale.place(part.until) - scale.place(part.began) > 25
    assert scale.place(at(6 * day + 2)) == pytest.approx(100)


def test_a_run_of_milliseconds_is_drawn_to_one_measure() -> None:
    """However long it paused beside its steps: folding begins with a second."""
    for pause, folds in ((0.2, 0), (0.9, 0), (2.0, 1)):
        scale = gantt.scale(gantt.bars([row("a", 0, 0.01), row("b", pause, pause + 0.01)], at(9)))
        assert scale is not None
        assert len(scale.folds) == folds, pause


def test_a_timeline_of_one_moment_has_a_scale() -> None:
    """With a frozen clock everything happens at once."""
    scale = gantt.scale(gantt.bars([row("a", 0, 0)], at(0)))
    assert scale is not None
    assert scale.place(at(0)) == 0
    assert gantt.scale([]) is None


def test_a_thousand_moments_take_no_time() -> None:
    """The gaps are sorted once, not compared with one another."""
    rows = [row(f"s{number}", number * 1.5, number * 1.5 + 1) for number in range(20_000)]
    assert gantt.scale(gantt.bars(rows, at(40_000))) is not None


def test_what_is_work_is_never_folded() -> None:
    """However long it took beside the rest; and after a long sleep is folded, ordinary pauses are not."""
    rows = [row("quick", 0, 1), row("long", 1, 1_000), row("quick#2", 1_000, 1_001)]
    scale = gantt.scale(gantt.bars(rows, at(1_001)))
    assert scale is not None
    assert not scale.folds
    errors = (failed(0, 2, 1), failed(7, 8, 2))
    rows = [row("charge", 0, 18, errors=errors, attempts=3), row("nap", 18, 300_000, kind="sleep")]
    scale = gantt.scale(gantt.bars([*rows, row("end", 300_000, 300_030)], at(300_030)))
    assert scale is not None
    assert len(scale.folds) == 1
