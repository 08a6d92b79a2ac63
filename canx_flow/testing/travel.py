"""The clock while `advance` moves it: that of freezegun or time-machine where one of them has stopped it, else ours."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta

from ..core import clock

Move = Callable[[timedelta], object]
#: Readings of a clock, of which two differ if it ticks.
_READINGS = 100


class Moving:
    """Moves the clock forward, and holds the engine's own still while it may tick."""

    def __init__(self, theirs: Move | None) -> None:
        self._theirs = theirs
        self._holds = theirs is None or _ticks()
        held = clock.held(going_back=theirs is not None)
        self._held: AbstractContextManager[None] = held if self._holds else nullcontext()

    def __enter__(self) -> None:
        self._held.__enter__()

    def __exit__(self, *raised: object) -> None:
        self._held.__exit__(None, None, None)

    def to(self, moment: datetime) -> None:
        """Move the clock to this moment; not at all, if it is that late already."""
        delta = moment - clock.now()
        if delta <= timedelta(0):
            return
        if self._theirs is not None:
            self._theirs(delta)
        if self._holds:
            clock.shift(delta)


def moving() -> Moving:
    return Moving(_of_freezegun() or _of_time_machine())


def _of_freezegun() -> Move | None:
    freezegun = sys.modules.get("freezegun.api")
    if freezegun is None or not freezegun.freeze_factories:
        return None
    frozen = freezegun.freeze_factories[-1]
    # Not by its `tick`, which takes back what has passed since it was frozen where it ticks by itself.
    return lambda delta: frozen.move_to(datetime.now(UTC) + delta)


def _of_time_machine() -> Move | None:
    machine = sys.modules.get("time_machine")
    if machine is None:
        return None
    # Before its version 3 the stack had another name.
    stack = getattr(machine, "traveller_stack", None) or getattr(machine, "coordinates_stack", None)
    if stack:
        shift: Move = stack[-1].shift
        return shift
    if machine.escape_hatch.is_travelling():
        raise RuntimeError("advance() does not know how to move the clock of this version of time-machine")
    return None


def _ticks() -> bool:
    """Tell whether the clock goes on by itself: freezegun's and time-machine's may."""
    first = datetime.now(UTC)
    return any(datetime.now(UTC) != first for _ in range(_READINGS))
