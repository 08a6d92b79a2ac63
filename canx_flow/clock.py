"""The engine's one clock: every timer is compared with `now()`, never with the database's time.

freezegun and time-machine freezes reach it, because it is `timezone.now()`; `canx_flow.testing.advance`
moves it where neither is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.utils import timezone

_offset = timedelta(0)
_held: datetime | None = None


def now() -> datetime:
    """The current moment, aware, in UTC."""
    return timezone.now() + _offset if _held is None else _held


def shift(delta: timedelta) -> None:
    """Move the clock of this process; for tests only."""
    global _offset, _held
    _offset += delta
    if _held is not None:
        _held += delta


@contextmanager
def held() -> Iterator[None]:
    """Let the clock of this process stand still but for `shift`, and go on from there afterwards; for tests only."""
    global _offset, _held
    _held = now()
    try:
        yield
    finally:
        _offset, _held = _held - timezone.now(), None


def reset() -> None:
    """Take back every `shift`."""
    global _offset
    _offset = timedelta(0)
