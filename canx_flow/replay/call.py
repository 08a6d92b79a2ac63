"""What a driver asks of the world, and its answers: a step's function called, an event found.

Made by operations, drivers and ports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any

from ..core.changes import Change
from ..core.current import CurrentStep


@dataclass(slots=True)
class Call:
    """A call of a step's function. The answer is what it returns, or `Raised`.

    With `commit`, in one transaction with its record: `commit(value)` returns the change to write last, and the value
    that the step returns.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    step: CurrentStep
    timeout: float | None = None
    commit: Callable[[Any], tuple[Change, Any]] | None = None


@dataclass(slots=True)
class Raised:
    """What a step's function has raised, or its timeout for it."""

    error: BaseException


@dataclass(slots=True)
class Found:
    """An unread event; `directed`: sent to this run alone; `at`: when."""

    id: int
    payload: str
    directed: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a child that its parent has not read: the event that tells of it, when that was sent, and the state.

    The text is that of the child's result, error or reason.
    """

    event_id: int
    at: datetime
    state: str
    text: str


class Gate:
    """Decides between a step's result and its timeout: the first to shut it wins."""

    def __init__(self) -> None:
        self._lock = Lock()

    def shut(self) -> bool:
        """Return True to the first caller. An atomic step asks before it commits, and is waited for from then on."""
        return self._lock.acquire(blocking=False)
