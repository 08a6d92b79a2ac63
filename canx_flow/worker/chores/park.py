"""Park runs whose workflow no live worker knows, and unpark those that this worker's code fits.

Done when a poll finds ready or parked runs, but every few seconds only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...core import registry
from ...observe import here
from ...replay import reports
from ...store import leases, parking
from ..agenda import Every

_SECONDS = 2.0


class Park:
    """Parks and unparks for one worker."""

    def __init__(
        self, alias: str, queues: Sequence[str] = (), tell: Callable[[Callable[[], object]], object] = here
    ) -> None:
        self._alias = alias
        self._queues = queues
        self._tell = tell
        self._every = Every(_SECONDS)
        #: The worker has just started: it looks at every parked run once.
        self._starting = True
        self._misfits = parking.Misfits(alias, registry.identities())

    def run_once(self, now: float, *, unclaimed: bool, room: int) -> int:
        """Park and unpark; return how many runs became ready.

        `unclaimed`: runs are ready, and this worker's last claim has not found them, so no worker may know them.
        `room`: how many runs this worker can take. Misfits beyond that would be claimed by the worker that has parked
        them.
        """
        if not self._every.is_due(now):
            return 0
        self._every.done(now)
        starting, self._starting = self._starting, False
        if unclaimed:
            parked = parking.park_unknown(self._alias, leases.live_workers(), self._queues)
            reports.parked_unknown(self._alias, parked, self._tell)
        ready = parking.unpark(self._alias, registry.identities(), starting=starting)
        return ready + (self._misfits.unpark_all() if starting else self._misfits.unpark(max(1, room)))
