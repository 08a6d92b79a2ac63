"""Delete workers that ended a day ago, and broadcasts that are too old to be read. Done every ten minutes, in batches.

Between two batches other work has its turn; thousands of broadcasts a second are deleted all the same. Broadcasts are
the first live worker's to delete: all events are walked for that.
"""

from __future__ import annotations

from datetime import timedelta

from ... import conf
from ...core import clock
from ...store import forgetting, leases, limits
from ..agenda import NEVER, Agenda, Every

_SECONDS = 600.0
_PAUSE = 0.1  # seconds between two batches
_A_DAY = 86_400.0  # seconds until all events are walked anew
_KEEP_WORKERS = timedelta(days=1)


class Tidy:
    """Deletes what is of no use any more; says in the agenda when the next batch is due."""

    def __init__(self, alias: str, agenda: Agenda) -> None:
        self._alias = alias
        self._agenda = agenda
        self._every = Every(_SECONDS)
        #: Behind which event the next batch begins. Seldom anew: what it has passed by are mostly events sent to single
        #: runs, which may be ten millions, and few broadcasts that were not delivered yet, or younger than their ids.
        self._after = 0
        self._anew = Every(_A_DAY)

    def run_once(self, now: float) -> None:
        """Begin with it, if ten minutes have passed."""
        if self._every.is_due(now):
            self._every.done(now)
            leases.forget_ended(clock.now() - _KEEP_WORKERS)
            if conf.get().limits:
                limits.forget(self._alias)
            if self._anew.is_due(now):
                self._anew.done(now)
                self._after = 0
            self.go_on(now)

    def go_on(self, now: float) -> None:
        """Delete a batch of broadcasts, if this is the first of the live workers."""
        # Should that fail, as where somebody's transaction has locked one of them, the next round tries again.
        self._agenda.tidies_at = NEVER
        if self._agenda.place[0] > 0:
            return
        before = clock.now() - timedelta(days=conf.get().event_days)
        last = forgetting.forget(self._alias, before, self._after).last
        self._after = last or self._after
        if last is not None:
            self._agenda.tidies_at = now + _PAUSE
