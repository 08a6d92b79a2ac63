"""Park runs whose workflow no live worker knows, and unpark those that this worker's code fits.

Done when a poll finds ready or parked runs, but every few seconds only: some at a time, for there may be many. Where
all that are parked stay so, as those that are left to people, they are looked at less often.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...core import registry
from ...observe import here
from ...replay import reports
from ...store import leases, parking
from ...store.unparking import Unparking
from ..agenda import Every

_SECONDS = 2.0
_IDLE_SECONDS = 10.0  # after a round through the parked runs in which none was to be unparked


class Park:
    """Parks and unparks for one worker."""

    def __init__(
        self, alias: str, queues: Sequence[str] = (), tell: Callable[[Callable[[], object]], object] = here
    ) -> None:
        self._alias = alias
        self._queues = queues
        self._tell = tell
        self._every = Every(_SECONDS)
        self._unparks = Every(_IDLE_SECONDS)
        self._unparking = Unparking(alias, registry.identities())

    @property
    def is_starting(self) -> bool:
        """Whether there are parked runs at which this worker has not looked yet."""
        return self._unparking.is_first

    def run_once(self, now: float, *, unclaimed: bool, room: int) -> int:
        """Park and unpark; return how many runs became ready.

        `unclaimed`: runs are ready, and this worker's last claim has not found them, so no worker may know them.
        `room`: how many runs this worker can take. Misfits beyond that would be claimed by the worker that has parked
        them.
        """
        if not self._every.is_due(now):
            return 0
        self._every.done(now)
        if unclaimed:
            parked = parking.park_unknown(self._alias, leases.live_workers(), self._queues)
            reports.parked_unknown(self._alias, parked, self._tell)
        if not self._unparks.is_due(now):
            return 0
        ready = self._unparking.some(max(1, room))
        if self._unparking.found_nothing:
            self._unparks.done(now)
        if self.is_starting:
            self._every.at_once()
        return ready
