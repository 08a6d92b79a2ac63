"""What --burst and --max-runs bid a worker, and how fast it works."""

from __future__ import annotations

import pytest

from canx_flow.worker.capacity import Bounds, Rate, Slowness

pytestmark = pytest.mark.once


def test_a_worker_without_bounds_never_ends_by_itself() -> None:
    """However many runs it claims."""
    bounds = Bounds(burst=False, max_runs=None)
    bounds.claimed(1_000)
    assert (bounds.left(), bounds.is_spent(), bounds.ends_when_idle()) == (None, False, False)


def test_max_runs_are_counted_in_all_lives_of_a_worker() -> None:
    """The last claim leaves nothing to claim, and never less than nothing."""
    bounds = Bounds(burst=False, max_runs=3)
    bounds.claimed(2)
    assert (bounds.left(), bounds.ends_when_idle()) == (1, False)
    bounds.claimed(2)
    assert (bounds.left(), bounds.is_spent(), bounds.ends_when_idle()) == (0, True, True)


def test_a_burst_ends_when_nothing_is_left_to_do() -> None:
    """Though it may claim as many runs as there are."""
    bounds = Bounds(burst=True, max_runs=None)
    assert (bounds.left(), bounds.ends_when_idle()) == (None, True)


def test_the_rate_is_that_of_the_last_tenth_of_a_second() -> None:
    """A burst of short runs is over by then; one moment alone has no rate."""
    moments = iter([0.0, 0.05, 0.1, 0.2, 0.4])
    rate = Rate(lambda: next(moments))
    assert [round(rate.of(finished)) for finished in (0, 50, 100, 110, 110)] == [0, 1000, 1000, 100, 0]


def test_claims_that_are_slow_take_more_at_once() -> None:
    """As much as is done in four times that, in half a second at most; one slow claim alone is none."""
    moments = iter([0.0, 0.05, 1.0, 1.04, 2.0, 3.0, 4.0, 5.0, 6.0, 6.001])
    slowness = Slowness(lambda: next(moments))
    ahead = []
    for _ in range(5):
        with slowness.measured():
            pass
        ahead.append(round(slowness.ahead_seconds(), 3))
    assert ahead == [0.0, 0.16, 0.16, 0.5, 0.0]
