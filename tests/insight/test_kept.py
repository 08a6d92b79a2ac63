"""What a process shows again for some seconds: who reads it, and who waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from freezegun import freeze_time

from canx_flow.insight import kept
from canx_flow.insight.kept import Kept

pytestmark = pytest.mark.once

#: Seconds that a test waits for a thread, at most.
PATIENCE = 20


@pytest.fixture
def clock() -> Iterator[Any]:
    """A clock that stands until it is moved."""
    with freeze_time(datetime(2026, 3, 1, 12, tzinfo=UTC)) as stopped:
        yield stopped


def test_it_is_read_anew_once_it_is_too_old(clock: Any) -> None:
    """Each key by itself."""
    numbers, shown = count(), Kept[str, int](most=10)
    assert [shown.get("a", numbers.__next__, 2) for _ in range(3)] == [0, 0, 0]
    assert shown.get("b", numbers.__next__, 2) == 1
    clock.tick(2)
    assert shown.get("a", numbers.__next__, 2) == 2
    shown.put("a", 7, 2)
    assert shown.get("a", numbers.__next__, 2) == 7


def test_what_takes_long_to_read_is_shown_for_longer(clock: Any) -> None:
    """For twenty times as long."""
    numbers, shown = count(), Kept[str, int](most=10)

    def read() -> int:
        clock.tick(3)
        return next(numbers)

    assert shown.get("a", read, 2) == 0
    clock.tick(59)
    assert shown.get("a", read, 2) == 0
    clock.tick(1)
    assert shown.get("a", read, 2) == 1


def test_of_many_keys_the_first_one_makes_room(clock: Any) -> None:
    """So that names which anybody may make up take no more memory than that."""
    numbers, shown = count(), Kept[str, int](most=2)
    assert [shown.get(key, numbers.__next__, 2) for key in "abcb"] == [0, 1, 2, 1]
    assert shown.get("a", numbers.__next__, 2) == 3


class _Reading:
    """A read that goes on until it is let, and counts how often it was begun."""

    def __init__(self) -> None:
        self.begun, self.goes_on = threading.Event(), threading.Event()
        self.times = 0

    def __call__(self) -> int:
        self.times += 1
        self.begun.set()
        assert self.goes_on.wait(PATIENCE)
        return self.times


def test_a_crowd_has_it_read_once() -> None:
    """Where nothing is there, all wait for the thread that came first."""
    read, shown = _Reading(), Kept[str, int](most=10)
    with ThreadPoolExecutor(8) as crowd:
        asked = [crowd.submit(shown.get, "a", read, 60) for _ in range(8)]
        assert read.begun.wait(PATIENCE)
        read.goes_on.set()
        assert [each.result(PATIENCE) for each in asked] == [1] * 8


def test_while_one_thread_reads_the_others_are_shown_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless that is so old that it would mislead: then they wait, too."""
    read, shown = _Reading(), Kept[str, int](most=10)
    shown.put("a", 0, 0)
    with ThreadPoolExecutor(2) as crowd:
        reading = crowd.submit(shown.get, "a", read, 60)
        assert read.begun.wait(PATIENCE)
        assert shown.get("a", read, 60) == 0
        monkeypatch.setattr(kept, "STALE", 0)
        waiting = crowd.submit(shown.get, "a", read, 60)
        assert not waiting.done()
        read.goes_on.set()
        assert [reading.result(PATIENCE), waiting.result(PATIENCE)] == [1, 1]


def test_who_fails_to_read_it_leaves_that_to_the_next() -> None:
    """And is told why."""
    numbers, shown = count(), Kept[str, int](most=10)
    with pytest.raises(ZeroDivisionError):
        shown.get("a", lambda: 1 // 0, 60)
    assert shown.get("a", numbers.__next__, 60) == 0
    kept.forget()
    assert shown.get("a", numbers.__next__, 60) == 1
