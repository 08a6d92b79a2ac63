"""Wake the runs for whose events their senders could not wake them, and those that wait for a broadcast.

Done when a poll finds an undelivered event, when this worker is told of one, and soon after rows were locked: a little
in each turn, so that runs are claimed in between.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from ...core import clock
from ...observe import here
from ...replay import reports
from ...store import broadcasts, events
from ...store.db.patience import idle_patience
from ..agenda import LOCKED_PAUSE, NEVER, Agenda, Every
from ..resting import put_off
from .broadcast import FanOut

_LEFT_BEHIND = 2  # times as long as a broadcast is delivered by the worker that took it
_PAUSE = 0.02  # seconds behind a page in which nothing was to do: it was all broadcasts, which may be very many


class Deliver:
    """Delivers events; says in the agenda when there is more to do."""

    def __init__(self, alias: str, agenda: Agenda, tell: Callable[[Callable[[], object]], object] = here) -> None:
        self._alias = alias
        self._tell = tell
        self._agenda = agenda
        self._sweep = Every(idle_patience() / 2)
        self._left_behind = timedelta(seconds=_LEFT_BEHIND * idle_patience())
        self._fan_out = FanOut(alias, agenda.now)
        #: From when on events sent to single runs are delivered, and behind which of them.
        self._directed_at = NEVER
        self._after = 0
        #: Whether runs were locked in the pages since the first.
        self._locked = False

    def expect(self, now: float, *, directed: bool) -> None:
        """Take note that there are new broadcasts, and (`directed`) events to single runs, of which it rarely hears."""
        if directed and self._directed_at == NEVER:
            self._directed_at = now
        self._fan_out.expect()
        self._plan()

    @property
    def is_busy(self) -> bool:
        """Whether there is more to do than to wait, for a later look."""
        return self._directed_at < NEVER or self._fan_out.is_busy

    def run_once(self, now: float) -> int:
        """Deliver some of what is undelivered; return how many runs that woke."""
        try:
            woken = self._deliver_directed(now) if now >= self._directed_at else 0
            return woken + self._fan_out.step(now) + self._tell_of_cancels(now)
        finally:
            self._plan()

    def _tell_of_cancels(self, now: float) -> int:
        """Tell receivers of the runs that broadcasts have cancelled, once that is committed.

        Their parents are told by events. Returns whether runs are left to be stopped: some are to be claimed for that.
        """
        cancelled, self._fan_out.cancelled = self._fan_out.cancelled, []
        stopped, self._fan_out.stopped = self._fan_out.stopped, False
        if cancelled:
            reports.cancelled(self._alias, cancelled, self._tell)
        if stopped:
            self._agenda.timer.opened(clock.now())
            self.expect(now, directed=True)
        return int(stopped)

    def sweep(self, now: float) -> None:
        """Have broadcasts taken anew, now and then, that a worker took long ago: it has died since."""
        if self._sweep.is_due(now):
            left = broadcasts.release(self._alias, clock.now() - self._left_behind)
            if left < broadcasts.MOST:
                self._sweep.done(now)
            if left:
                self.expect(now, directed=False)

    def let_go(self) -> None:
        """Leave to other workers what this one has begun. It is leaving."""
        self._fan_out.let_go()

    def _deliver_directed(self, now: float) -> int:
        """Deliver a page of the events sent to single runs; after the last one, begin again if some were locked."""
        with put_off(self._put_off_directed, self._agenda.now):
            page = events.deliver_directed(self._alias, self._after)
        self._locked = page.locked or (self._locked and self._after > 0)
        self._after = page.last or 0
        if self._after:
            self._directed_at = now if page.woken or page.locked else now + _PAUSE
        else:
            self._directed_at = now + LOCKED_PAUSE if self._locked else NEVER
        return page.woken

    def _put_off_directed(self, until: float) -> None:
        self._directed_at = until

    def _plan(self) -> None:
        self._agenda.delivers_at = min(self._directed_at, self._fan_out.due_at())
