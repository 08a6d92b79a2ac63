"""Pauses that double with each failure."""

from __future__ import annotations

from canx_flow.core.backoff import Backoff, doubled


def test_each_failure_doubles_the_pause_up_to_a_limit() -> None:
    """The first pause is the shortest, and none is longer than the limit."""
    backoff = Backoff(0.5, 3.0)
    assert [backoff.failed() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert backoff.is_longest
    assert backoff.failures == 5


def test_a_success_begins_with_the_first_pause_again() -> None:
    """After `reset`, no failure is remembered."""
    backoff = Backoff(0.5, 3.0)
    backoff.failed()
    backoff.reset()
    assert (backoff.pause, backoff.failures, backoff.is_longest) == (0.5, 0, False)


def test_a_count_of_any_size_overflows_nothing() -> None:
    """A worker may fail for days."""
    assert doubled(0.1, 5.0, 100_000) == 5.0
