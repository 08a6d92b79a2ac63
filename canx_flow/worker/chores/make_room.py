"""Find the run that must run alone, and have this worker become empty for it when it is its turn.

Done by each poll; `solitude` decides whose turn it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db import connections

from ...core import registry
from ...store import claims, leases
from ..slots import Slots
from ..solitude import Solitude


class MakeRoom:
    """Keeps what a worker's `Solitude` knows up to date."""

    def __init__(self, owner: UUID, alias: str, queues: Sequence[str], solitude: Solitude, slots: Slots) -> None:
        self._owner = owner
        self._alias = alias
        self._queues = queues
        self._solitude = solitude
        self._slots = slots

    def run_once(self, now: float, *, wanted: bool) -> None:
        """Ask for that run, if there is one (`wanted`), and which workers may take it."""
        found = None
        if wanted:
            found = claims.suspect(connections[self._alias], self._owner, registry.identities(), self._queues)
        # Asked anew: those that the watch has seen may be some seconds old, and all workers must see the same.
        live = leases.live_workers() if found is not None else ()
        begins = self._solitude.consider(found, live, now)
        if begins and self._slots.in_flight:
            self._solitude.announce(self._slots.in_flight)
