"""Durations and moments in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from canx_flow.core.durations import ago, span, when

pytestmark = pytest.mark.once

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 ms"), (-1, "0 ms"), (0.0124, "12 ms"), (0.9996, "1.0 s"), (9.4, "9.4 s"), (9.96, "10 s"), (59.4, "59 s"),
        (59.6, "1 min"), (125, "2 min 5 s"), (3599.6, "1 h"), (8040, "2 h 14 min"), (86399, "1 d"), (90000, "1 d 1 h"),
        (30 * 86400, "30 d"), (4000 * 86400, "4,000 d"),
    ],
)  # fmt: skip
def test_durations_in_words(seconds: float, words: str) -> None:
    """The two largest units that say something, rounded without ever saying 60 s."""
    assert span(seconds) == words
    assert span(timedelta(seconds=seconds)) == words


def test_moments_in_words() -> None:
    """Before, after, and now; in lists in one unit."""
    assert when(START + timedelta(seconds=8040), START) == "in 2 h 14 min"
    assert when(START - HOUR, START) == "1 h ago"
    assert when(START, START + timedelta(milliseconds=900)) == "now"
    assert ago(START, START + timedelta(seconds=8040)) == "2 h ago"
    assert ago(START, START) == "0 s ago"
