"""The retry policy: what is tried again, when, and which policies are refused."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canx_flow.exceptions import GiveUp, RetryAfter
from canx_flow.retry import Retry

pytestmark = pytest.mark.once


def test_the_default_outlasts_an_outage_of_half_an_hour() -> None:
    """Even with the shortest waits that jitter allows, the default policy tries for more than 30 minutes."""
    policy = Retry()
    waits = [policy.delay(ValueError(), attempts) for attempts in range(1, 16)]
    assert sum(waits) > 30 * 60
    assert policy.wants(ValueError(), 15)
    assert not policy.wants(ValueError(), 16)


def test_c020_waits_grow_by_the_factor() -> None:
    """2 s, factor 3, no jitter: 2 s, then 6 s, then 18 s."""
    policy = Retry(initial=2, factor=3, jitter=0)
    assert [policy.delay(ValueError(), attempts) for attempts in (1, 2, 3)] == [2, 6, 18]


@given(jitter=st.floats(0, 1), attempts=st.integers(1, 100), seed=st.integers())
def test_c020_jitter_only_shortens(jitter: float, attempts: int, seed: int) -> None:
    """With jitter j each wait is within [(1 - j) * base, base]."""
    base = Retry(jitter=0).delay(ValueError(), attempts)
    wait = Retry(jitter=jitter).delay(ValueError(), attempts, Random(seed))
    assert base * (1 - jitter) <= wait * (1 + 1e-12)
    assert wait <= base * (1 + 1e-12)


def test_the_same_random_gives_the_same_wait() -> None:
    """A seeded random makes waits repeatable."""
    assert Retry(jitter=1).delay(ValueError(), 3, Random(7)) == Retry(jitter=1).delay(ValueError(), 3, Random(7))


@pytest.mark.parametrize("attempts", [1_025, 10**9, 10**30])
def test_no_number_of_attempts_overflows(attempts: int) -> None:
    """After any number of failures the wait is max_delay."""
    policy = Retry(max_attempts=None, jitter=0)
    assert policy.wants(ValueError(), attempts)
    assert policy.delay(ValueError(), attempts) == 300
    assert Retry(initial=10**8, factor=10**6, jitter=0).delay(ValueError(), attempts) == 300
    assert Retry(initial=0, jitter=0).delay(ValueError(), attempts) == 0


def test_max_delay_caps_the_first_wait_too() -> None:
    """No wait is longer than max_delay, whatever initial says."""
    assert Retry(initial=10, max_delay=3, jitter=0).delay(ValueError(), 1) == 3
    assert Retry(max_delay=0).delay(ValueError(), 1) == 0


def test_c018_max_attempts_counts_calls() -> None:
    """max_attempts=4 is four calls: a fourth failure is not tried again."""
    policy = Retry(max_attempts=4)
    assert [policy.wants(ValueError(), attempts) for attempts in (1, 2, 3, 4)] == [True, True, True, False]


def test_c021_only_what_is_listed_is_retried() -> None:
    """retry_on names what is tried again, with subclasses; give_up_on takes some of it out."""
    policy = Retry(retry_on=(OSError,), give_up_on=(PermissionError,))
    assert policy.wants(ConnectionResetError(), 1)
    assert not policy.wants(ValueError(), 1)
    assert not policy.wants(PermissionError(), 1)


def test_system_exit_is_not_retried_unless_listed() -> None:
    """SystemExit in a step is a failed attempt, which the default policy does not repeat."""
    assert not Retry().wants(SystemExit(), 1)
    assert Retry(retry_on=(BaseException,)).wants(SystemExit(), 1)


def test_give_up_ends_it_whatever_the_policy_says() -> None:
    """GiveUp is never retried, not even where it is listed."""
    assert not Retry(max_attempts=None, retry_on=(GiveUp,)).wants(GiveUp(), 1)


def test_c022_retry_after_sets_the_wait_itself() -> None:
    """RetryAfter's seconds count exactly: no table, no jitter, no max_delay."""
    policy = Retry(jitter=1, max_delay=5)
    assert policy.delay(RetryAfter(30), 1) == 30
    assert policy.delay(RetryAfter(timedelta(hours=1)), 9) == 3600


def test_retry_after_is_retried_until_attempts_run_out() -> None:
    """RetryAfter needs no place in retry_on, but max_attempts holds for it."""
    policy = Retry(max_attempts=2, retry_on=(KeyError,), give_up_on=(RetryAfter,))
    assert policy.wants(RetryAfter(1), 1)
    assert not policy.wants(RetryAfter(1), 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_attempts", 0),
        ("max_attempts", -1),
        ("initial", -1),
        ("initial", math.nan),
        ("initial", math.inf),
        ("factor", 0.5),
        ("factor", math.nan),
        ("factor", math.inf),
        ("max_delay", -0.1),
        ("max_delay", math.inf),
        ("jitter", -0.1),
        ("jitter", 1.1),
        ("jitter", math.nan),
    ],
)
def test_a_number_out_of_range_is_refused(name: str, value: Any) -> None:
    """ValueError, when the policy is made, naming the argument."""
    with pytest.raises(ValueError, match=name):
        Retry(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_attempts", 2.0),
        ("max_attempts", True),
        ("max_attempts", "3"),
        ("initial", "1"),
        ("initial", None),
        ("initial", timedelta(seconds=1)),
        ("factor", True),
        ("max_delay", None),
        ("jitter", "0.1"),
        ("retry_on", ValueError),
        ("retry_on", [ValueError]),
        ("retry_on", ("ValueError",)),
        ("give_up_on", (ValueError(),)),
        ("give_up_on", (int,)),
    ],
)
def test_a_wrong_type_is_refused(name: str, value: Any) -> None:
    """TypeError, when the policy is made, naming the argument."""
    with pytest.raises(TypeError, match=name):
        Retry(**{name: value})


def test_a_policy_does_not_change() -> None:
    """A policy is a value: frozen, equal to its like, usable as a key."""
    policy = Retry(max_attempts=3)
    with pytest.raises(FrozenInstanceError):
        policy.max_attempts = 4  # type: ignore[misc]
    assert {policy: 1}[Retry(max_attempts=3)] == 1
