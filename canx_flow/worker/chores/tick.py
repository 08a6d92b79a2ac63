"""Have the schedules that are due start their runs.

Done when the agenda says that one is due; what a tick does is in `store.ticks`. A schedule ticks only while a live
worker declares it: which ones each worker declares never changes, so it is read once.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from ...client.controls import tell_of_cancel
from ...observe import here
from ...store import schedules, ticks


class Tick:
    """Has schedules tick."""

    def __init__(self, alias: str, tell: Callable[[Callable[[], object]], object] = here) -> None:
        self._alias = alias
        self._tell = tell
        self._names: dict[UUID, frozenset[str]] = {}

    def run_once(self) -> ticks.Ticked:
        """Have a batch of them do what is due."""
        ticked = ticks.tick(self._alias, self._declared())
        if ticked.ended or ticked.stopping:
            self._tell(lambda: tell_of_cancel(self._alias, ticked.ended, ticked.stopping))
        return ticked

    def next_due(self) -> datetime | None:
        """Return when the next one is due."""
        return schedules.next_due(self._alias)

    def _declared(self) -> set[str]:
        live = schedules.live_ids(self._alias)
        if unseen := live - self._names.keys():
            self._names |= schedules.names_of(self._alias, unseen)
        self._names = {worker: names for worker, names in self._names.items() if worker in live}
        return set().union(*self._names.values())
