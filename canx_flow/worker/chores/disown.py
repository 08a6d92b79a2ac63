"""Give back runs that this worker owns without knowing of it: a claim, say, whose answer was lost.

Done once per lease, and after each turn that has failed.
"""

from __future__ import annotations

from uuid import UUID

from ... import conf
from ...observe import announce, facts
from ...store import leases
from ..agenda import Every
from ..slots import Slots


class Disown:
    """Compares what the database says that this worker owns with what its slots have."""

    def __init__(self, owner: UUID, slots: Slots) -> None:
        self._owner = owner
        self._slots = slots
        self._every = Every(conf.get().lease_seconds)

    def at_once(self) -> None:
        """Have it done by the next poll."""
        self._every.at_once()

    def run_once(self, now: float) -> int:
        """Make such runs ready; return how many there were.

        A run that is claimed is in a slot before this is done again, for the same thread does both; and a slot forgets
        a run only once its end is stored.
        """
        if not self._every.is_due(now):
            return 0
        found = leases.disown(self._owner, self._slots.claimed())
        self._every.done(now)
        if found:
            announce(facts.UnknownRunsReleased(tuple(found)))
        return len(found)
