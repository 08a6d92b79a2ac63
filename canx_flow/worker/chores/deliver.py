"""Wake runs for whose events their senders could not wake them, and fan broadcasts out.

Done when a poll finds an undelivered event, when this worker is told of one, and soon after rows were locked.
"""

from __future__ import annotations

from ... import conf
from ...store import events
from ..agenda import Agenda, Every

_REPEATS = 6  # within a lease: how often a broadcast is fanned out


class Deliver:
    """Delivers events; says in the agenda whether some are left for runs that other transactions have locked."""

    def __init__(self, alias: str, agenda: Agenda) -> None:
        self._alias = alias
        self._agenda = agenda
        self._lease = conf.get().lease_seconds
        self._repeat = Every(self._lease / _REPEATS)
        #: When this worker first saw each broadcast that is still being delivered.
        self._broadcasts: dict[int, float] = {}

    def run_once(self, now: float) -> int:
        """Deliver what is undelivered; return how many runs that woke."""
        again = self._repeat.is_due(now)
        if again:
            self._repeat.done(now)
        woken, self._agenda.events_are_locked = events.deliver_directed(self._alias)
        return woken + events.deliver_broadcasts(self._alias, self._broadcasts, now, self._lease, again=again)
