"""Doing again what others were in the way of: used by maintenance, which has no worker's loop around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from django.db import OperationalError, connections

from .db.errors import is_sound

T = TypeVar("T")

_REPEATS = 3


def patiently(alias: str, work: Callable[[], T]) -> T:
    """Call `work`, and again after a deadlock, or where SQLite's one lock was not to be had for all the time allowed.

    What it does must bear being begun anew. Inside the caller's transaction it is called once: all of that is lost.
    """
    for _ in range(0 if connections[alias].in_atomic_block else _REPEATS):
        try:
            return work()
        except OperationalError as error:
            if not is_sound(error):
                raise
    return work()
