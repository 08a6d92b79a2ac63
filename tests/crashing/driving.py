"""A real worker in a process that was forked for it, which moves the engine's clock instead of waiting for it.

It ends when every run has ended, or when nothing happens any more.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import timedelta

from canx_flow.core import clock
from canx_flow.models import Event, Timer, WorkflowRun
from canx_flow.states import SUSPENDED, UNFINISHED
from canx_flow.store import timers
from canx_flow.worker.life import Life
from canx_flow.worker.loop import WorkerLoop
from canx_flow.worker.options import Options
from canx_flow.worker.wakeup import Listener

_POLL_SECONDS = 0.01
_IDLE_TURNS = 3  # without anything to do, until the clock is moved: what is left behind by the dead is found by polls
_STUCK_SECONDS = 15.0  # without anything to do, and without a timer, until it is given up


class Driven(WorkerLoop):
    """A worker whose idle turns move the clock to the next timer."""

    def __init__(self) -> None:
        super().__init__(Options(concurrency=4, poll_seconds=_POLL_SECONDS, shutdown_timeout=20.0))
        self.is_stuck = False
        self._idle = 0
        self._stuck_at: float | None = None

    def begin(self, listener: Listener) -> Life | None:
        """Begin a life whose turns are ours."""
        life = super().begin(listener)
        if life is not None:
            turn, slots = life.parts.turn, life.parts.slots
            take = turn.take

            def taken(told: Collection[str]) -> float | None:
                pause = take(told)
                if not pause or slots.in_flight or told:
                    self._idle = 0
                    return pause
                return min(pause, self._rest())

            turn.take = taken  # type: ignore[method-assign]
        return life

    def _rest(self) -> float:
        """Nothing is to do: return for how long."""
        self._idle += 1
        if self._idle < _IDLE_TURNS:
            return _POLL_SECONDS
        self._idle = 0
        if not WorkflowRun.objects.filter(state__in=UNFINISHED).exists():
            self.stop()
            return _POLL_SECONDS
        due = None if _is_message_pending() else timers.next_due(self.alias)
        if due is not None and due > clock.now():
            clock.shift(due - clock.now() + timedelta(milliseconds=1))
            self._stuck_at = None
            return 0.0
        if self._stuck_at is None:
            self._stuck_at = time.monotonic() + _STUCK_SECONDS
        elif time.monotonic() > self._stuck_at:
            self.is_stuck = True
            self.stop()
        return _POLL_SECONDS


def _is_message_pending() -> bool:
    """Return whether an event has come that a suspended run waits for: what a dead worker was delivering takes time."""
    unread = Event.objects.filter(delivered=False, consumed_at=None).values_list("run_id", "name", "key")
    waits = Timer.objects.filter(run__state__in=SUSPENDED, held=False, event__isnull=False)
    waiting = list(waits.values_list("run_id", "event", "key"))
    return any(
        run_id == receiver or (receiver is None and key == wanted)
        for receiver, name, key in unread
        for run_id, event, wanted in waiting
        if event == name
    )
