"""Chores that have failed rest for a while: the turns between have their claims.

Used by the turn and by chores. A row that somebody's transaction has locked for hours, or a statement that takes longer
than it may, fails a chore again and again, and each time the turn ends before it claims.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import ParamSpec

from ..store.db import errors
from .agenda import Clock

P = ParamSpec("P")

#: Seconds for which a chore rests. A statement has half of that, so that most of the time is for claims.
REST = 30.0


@contextmanager
def put_off(until: Callable[[float], object], steady: Clock) -> Iterator[None]:
    """If the block fails by what may last while the database answers, call `until` with the moment to try again."""
    try:
        yield
    except Exception as error:
        if errors.may_last(error):
            until(steady() + REST)
        raise


class Resting:
    """Which chores of one worker rest, and until when."""

    def __init__(self, steady: Clock) -> None:
        self._steady = steady
        self._until: dict[str, float] = {}

    def attempt(self, chore: Callable[P, int | None], *args: P.args, **kwargs: P.kwargs) -> int | None:
        """Do this chore and return what it returns; `None` while it rests."""
        name = chore.__qualname__
        if self._steady() < self._until.get(name, 0.0):
            return None
        with put_off(partial(self._until.__setitem__, name), self._steady):
            return chore(*args, **kwargs)
