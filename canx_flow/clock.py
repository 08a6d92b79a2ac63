"""The engine's one clock: every timer is compared with `now()`, never with the database's time.

freezegun and time-machine freezes reach it, because it is `timezone.now()`; `canx_flow.testing.advance`
moves it where neither is used.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone

_offset = timedelta(0)


def now() -> datetime:
    """The current moment, aware, in UTC."""
    return timezone.now() + _offset


def shift(delta: timedelta) -> None:
    """Move the clock of this process; for tests only."""
    global _offset
    _offset += delta


def reset() -> None:
    """Take back every `shift`."""
    global _offset
    _offset = timedelta(0)
