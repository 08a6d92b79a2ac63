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
    """The current moment, aware, in UTC."""
    if _held is not None:
        return _held
    # Asked twice for every step; `timezone.now` would look up USE_TZ, which must be on, each time.
    return datetime.now(UTC) + _offset if _offset else datetime.now(UTC)


def shift(delta: timedelta) -> None:
    """Move the clock of this process; for tests only."""
    global _offset, _held
    _offset += delta
    if _held is not None:
        _held += delta


@contextmanager
def held(*, going_back: bool = False) -> Iterator[None]:
    """Let the clock of this process stand still but for `shift`, and go on from there afterwards; for tests only.

    `going_back`: afterwards it is what it would be without any `shift`, as what it follows was moved itself.
    """
    global _offset, _held
    before = _offset
    _held = now()
    try:
        yield
    finally:
        _offset, _held = before if going_back else _held - datetime.now(UTC), None


def reset() -> None:
    """Put the engine's clock back to where the machine's is, however far `advance` has moved it."""
    global _offset
    _offset = timedelta(0)
