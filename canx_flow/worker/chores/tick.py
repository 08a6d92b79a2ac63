"""Have the schedules that are due start their runs.

Done when the agenda says that one is due, and when a run has ended here for which ticks wait: of other ends a look each
second learns. What a tick does is in `store.ticks`. A schedule ticks only while a live
worker declares it: which ones each worker declares never changes, so it is read once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from django.db.models import Q

from ...client.controls import tell_of_cancel
from ...core.changes import Change, Outcome
from ...observe import announce, facts, here
from ...store import schedules, ticks


class Tick:
    """Has schedules tick."""

    def __init__(self, alias: str, tell: Callable[[Callable[[], object]], object] = here) -> None:
        self._alias = alias
        self._tell = tell
        self._names: dict[UUID, frozenset[str]] = {}
        #: Runs of ticks that have ended here since the last turn.
        self._ended: deque[UUID] = deque()
        #: Schedules whose ticks have waited for one of those.
        self._awaited: Sequence[int] = ()
        #: What was announced of schedules that this process cannot read.
        self._said: set[tuple[str, str]] = set()

    def note(self, change: Change, outcome: Outcome) -> bool:
        """Remember the end of a tick's run; return whether it is one. On the committer's thread."""
        if not change.ends_tick(outcome):
            return False
        self._ended.append(change.run_id)
        return True

    def is_awaited(self) -> bool:
        """Return whether ticks have waited for a run that has ended here since this was last asked."""
        ended = [self._ended.popleft() for _ in range(len(self._ended))]
        self._awaited = schedules.waiting_for(self._alias, ended) if ended else ()
        return bool(self._awaited)

    def run_once(self) -> ticks.Ticked:
        """Have a batch of them do what is due."""
        awaited, self._awaited = self._awaited, ()
        ticked = ticks.tick(self._alias, self._declared(), beside=Q(id__in=awaited))
        for name, error in ticked.unread.items():
            self._say(name, error)
        if ticked.ended or ticked.stopping:
            self._tell(lambda: tell_of_cancel(self._alias, ticked.ended, ticked.stopping))
        return ticked

    def next_due(self) -> datetime | None:
        """Return when the next one is due."""
        return schedules.next_due(self._alias)

    def _say(self, name: str, error: Exception) -> None:
        """Announce once what is wrong with a schedule."""
        if (name, str(error)) not in self._said:
            self._said.add((name, str(error)))
            announce(facts.ScheduleNotRead(name, error))

    def _declared(self) -> set[str]:
        live = schedules.live_ids(self._alias)
        if unseen := live - self._names.keys():
            self._names |= schedules.names_of(self._alias, unseen)
        self._names = {worker: names for worker, names in self._names.items() if worker in live}
        return set().union(*self._names.values())
