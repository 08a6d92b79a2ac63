"""The engine's one clock: every timer is compared with `now()`, never with the database's time.

freezegun and time-machine freezes reach it; `canx_flow.testing.advance` moves it where neither is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

_offset = timedelta(0)
_held: datetime | None = None


def now() -> datetime:
    """Return the current moment, aware, in UTC."""
    if _held is not None:
        return _held
    # Called twice for every step; `timezone.now` would read USE_TZ, which must be on, each time.
    return datetime.now(UTC) + _offset if _offset else datetime.now(UTC)


def shift(delta: timedelta) -> None:
    """Move the clock of this process; for tests only."""
    global _offset, _held
    _offset += delta
    if _held is not None:
        _held += delta


@contextmanager
def held(*, going_back: bool = False) -> Iterator[None]:
    """Stop the clock of this process except for `shift`, and let it go on from there afterwards; for tests only.

    `going_back`: afterwards the clock reads as if no `shift` had happened, because the frozen time below it was moved.
    """
    global _offset, _held
    before = _offset
    _held = now()
    try:
        yield
    finally:
        _offset, _held = before if going_back else _held - datetime.now(UTC), None


def reset() -> None:
    """Set the engine's clock back to the machine's, however far `advance` has moved it."""
    global _offset
    _offset = timedelta(0)
