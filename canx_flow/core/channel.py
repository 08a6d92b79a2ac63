"""From where a control call comes: the admin, a terminal, or the project's own code.

The admin and `flow` say so around their calls; the run's history tells it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

ADMIN, TERMINAL, CODE = "admin", "terminal", "code"

_current: ContextVar[str] = ContextVar("canx_flow_channel", default=CODE)


def current() -> str:
    """Return from where the calls of this thread or task come."""
    return _current.get()


@contextmanager
def via(channel: str) -> Iterator[None]:
    """Have the calls inside come from there."""
    token = _current.set(channel)
    try:
        yield
    finally:
        _current.reset(token)
