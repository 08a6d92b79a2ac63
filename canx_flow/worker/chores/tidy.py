"""Delete workers that ended a day ago, and broadcasts that are too old to be read. Done every ten minutes, in batches.

Between two batches other work has its turn; thousands of broadcasts a second are deleted all the same.
"""

from __future__ import annotations

from datetime import timedelta

from ... import conf
from ...core import clock
from ...store import broadcasts, leases
from ..agenda import NEVER, Agenda, Every

_SECONDS = 600.0
_PAUSE = 0.1  # seconds between two batches
_KEEP_WORKERS = timedelta(days=1)


class Tidy:
    """Deletes what is of no use any more; says in the agenda when the next batch is due."""

    def __init__(self, alias: str, agenda: Agenda) -> None:
        self._alias = alias
        self._agenda = agenda
        self._every = Every(_SECONDS)
        #: Behind which event the next batch begins. Never anew while this worker lives: it has passed by events sent to
        #: single runs, which may be ten millions, and the odd broadcast that was not delivered yet.
        self._after = 0

    def run_once(self, now: float) -> None:
        """Begin with it, if ten minutes have passed."""
        if self._every.is_due(now):
            self._every.done(now)
            leases.forget_ended(clock.now() - _KEEP_WORKERS)
            self.go_on(now)

    def go_on(self, now: float) -> None:
        """Delete a batch of broadcasts."""
        before = clock.now() - timedelta(days=conf.get().event_days)
        last = broadcasts.forget(self._alias, before, self._after).last
        self._after = last or self._after
        self._agenda.tidies_at = NEVER if last is None else now + _PAUSE
