"""A real worker in a process that was forked for it, which moves the engine's clock instead of waiting for it.

It ends when every run has ended, or when nothing happens any more.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path

from canx_flow.core import clock
from canx_flow.models import Event, Timer, WorkflowRun
from canx_flow.states import SUSPENDED, UNFINISHED
from canx_flow.store import timers
from canx_flow.worker.life import Life
from canx_flow.worker.loop import WorkerLoop
from canx_flow.worker.options import Options
from canx_flow.worker.wakeup import Listener

_POLL_SECONDS = 0.01
_REST_SECONDS = 0.002
#: Without anything to do, until the clock is moved. Each begins with a poll: that finds what the dead have left behind.
_IDLE_TURNS = 3
# Without anything to do, and without a timer, until it is given up. A broadcast that a dead worker has taken is taken
# anew after twice `idle_patience`, at the next sweep: 25 seconds with this lease.
_STUCK_SECONDS = 40.0


class Driven(WorkerLoop):
    """A worker whose idle turns move the clock to the next timer.

    By how much it was moved stands in `moved`, for the worker that goes on after this one's death: a machine's clock
    does not go back with the death of a process, and what the dead one has taken would not be left behind for hours.
    """

    def __init__(self, moved: Path) -> None:
        super().__init__(Options(concurrency=4, poll_seconds=_POLL_SECONDS, shutdown_timeout=20.0))
        self.is_stuck = False
        self._idle = 0
        self._stuck_at: float | None = None
        self._moved = moved
        self._seconds = float(moved.read_text()) if moved.exists() else 0.0
        clock.shift(timedelta(seconds=self._seconds))

    def begin(self, listener: Listener) -> Life | None:
        """Begin a life whose turns are ours."""
        life = super().begin(listener)
        if life is not None:
            turn, slots = life.parts.turn, life.parts.slots
            take = turn.take

            def taken(told: Collection[str]) -> float | None:
                if self._idle:
                    turn._agenda.poll.at_once()
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
        if self._idle <= _IDLE_TURNS:
            return _REST_SECONDS
        self._idle = 0
        if not WorkflowRun.objects.filter(state__in=UNFINISHED).exists():
            self.stop()
            return _REST_SECONDS
        due = None if _is_message_pending() else timers.next_due(self.alias)
        if due is not None and due > clock.now():
            self._move(due - clock.now() + timedelta(milliseconds=1))
            self._stuck_at = None
            return 0.0
        if self._stuck_at is None:
            self._stuck_at = time.monotonic() + _STUCK_SECONDS
        elif time.monotonic() > self._stuck_at:
            self.is_stuck = True
            self.stop()
        return _REST_SECONDS

    def _move(self, by: timedelta) -> None:
        self._seconds += by.total_seconds()
        # In its place at once: this process may die at any moment.
        written = self._moved.with_suffix(".new")
        written.write_text(str(self._seconds))
        written.rename(self._moved)
        clock.shift(by)


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
