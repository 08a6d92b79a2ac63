"""Waiting for facts. No test sleeps and then hopes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE = 0.02


def wait_until(fact: Callable[[], T], timeout: float = 20.0, *, message: str = "", pause: float = _PAUSE) -> T:
    """Call `fact` until it returns something true, and return that; fail after about `timeout` seconds.

    Counts its pauses instead of reading a clock, so it ends under freezegun too. `pause`: between two calls, in
    seconds; longer where a call costs the database what is being measured.
    """
    answer = fact()
    for _ in range(int(timeout / pause)):
        if answer:
            return answer
        threading.Event().wait(pause)
        answer = fact()
    if answer:
        return answer
    raise AssertionError(f"{message or 'not true'} after {timeout:g} s; last answer: {answer!r}")
