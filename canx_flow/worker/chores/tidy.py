"""Delete workers that ended a day ago, and broadcasts that are too old to be read. Done every ten minutes."""

from __future__ import annotations

from datetime import timedelta

from ... import conf
from ...core import clock
from ...store import events, leases
from ..agenda import Every

_SECONDS = 600.0
_KEEP_WORKERS = timedelta(days=1)


class Tidy:
    """Deletes what is of no use any more."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._every = Every(_SECONDS)

    def run_once(self, now: float) -> None:
        """Delete it, if ten minutes have passed."""
        if not self._every.is_due(now):
            return
        self._every.done(now)
        moment = clock.now()
        leases.forget_ended(moment - _KEEP_WORKERS)
        events.forget(self._alias, moment - timedelta(days=conf.get().event_days))
