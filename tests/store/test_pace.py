"""Maintenance goes on in small pieces, and rests in between."""

from __future__ import annotations

import pytest

from canx_flow.store import pace
from canx_flow.store.pace import Pace

pytestmark = pytest.mark.once


def test_batches_grow_to_what_takes_the_time_they_should() -> None:
    """At 10,000 rows a second a batch of 500 takes 50 ms: it comes to that, and stays."""
    chosen = Pace(most=5000)
    for _ in range(10):
        chosen.after(chosen.size / 10_000)
    assert chosen.size == pytest.approx(10_000 * pace.AIM, rel=0.01)


def test_batches_shrink_when_the_database_is_slow() -> None:
    """By half at most each time, so that one slow moment does not make it crawl; and never to nothing."""
    chosen = Pace(most=1000, size=1000)
    chosen.after(10)
    assert chosen.size == 500
    for _ in range(20):
        chosen.after(10)
    assert chosen.size > 0


def test_no_batch_is_larger_than_allowed() -> None:
    """The first one neither, nor one that took no time."""
    chosen = Pace(most=7)
    assert chosen.size == 7
    chosen.after(0)
    assert chosen.size == 7


def test_after_each_batch_there_is_a_rest() -> None:
    """In proportion to the time that it took."""
    chosen = Pace(most=100)
    assert chosen.after(0.2) == pytest.approx(0.2 * pace.REST)
