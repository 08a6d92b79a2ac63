"""What every port's store does on the connection of the calling thread; how changes are stored is each port's own.

The base of `worker.port` and `testing.port`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections

from ..client import starting
from ..core.changes import Change, Outcome, Start
from ..core.claimed import ClaimedRun
from ..core.definition import Planned
from ..core.journal import Journal
from ..store import atomic, children, claims, events, records, remembered, timers, waits
from .call import Call, Ended, Found, Gate
from .stored_delegations import StoredDelegations


class ConnectionStore:
    """Reads, and atomic steps, of the runs of one owner."""

    def __init__(self, alias: str, owner: UUID) -> None:
        self._alias = alias
        self._owner = owner
        self.delegations = StoredDelegations(alias)

    def find_event(self, run: ClaimedRun, journal: Journal, event: str, key: str | None) -> Found | None:
        """Return the oldest unread event."""
        after = journal.last_read.get((event, key))
        consumed: Collection[int] = journal.events
        if run.generation and after is not None:
            known = remembered.find(self._alias, run.id, event, key)
            consumed = {*consumed, *known.ids} if known is not None else consumed
        found = events.unread(self._alias, run.id, event, key, consumed, after=after)
        return None if found is None else Found(found.id, found.payload, found.directed, found.at)

    def ended_at(self, run: ClaimedRun, steps: Sequence[str]) -> dict[str, datetime]:
        """Return what their rows say."""
        return records.ended_at(self._alias, run.id, steps)

    def find_ends(self, run: ClaimedRun, events: Sequence[str]) -> dict[str, Ended]:
        """Return the ends that were told and not read."""
        found = children.ends_of(self._alias, run.id, events)
        return {event: Ended(key, at, *children.read_payload(payload)) for event, (key, at, payload) in found.items()}

    def awaited(self, run: ClaimedRun, steps: Sequence[str]) -> dict[str, tuple[str, str | None]]:
        """Return what the timers of these waits say."""
        return waits.awaited(self._alias, run.id, steps)

    def new_child(
        self, run: ClaimedRun, planned: Planned[Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Start:
        """Make the row as `client` makes those of other runs."""
        return starting.child(run.id, planned.definition, arguments, keywords, planned.options)

    def call_atomic(self, call: Call, invoke: Callable[[], Any], gate: Gate) -> tuple[Outcome, Change, Any]:
        """Call it in a transaction of this thread's connection; within a caller's, in a savepoint."""
        assert call.commit is not None
        return atomic.call(connections[self._alias], self._owner, call.commit, invoke, gate.shut)

    def expire(self, run: ClaimedRun) -> None:
        """Cancel it as it stands, and load it again."""
        timers.expire_claimed(self._alias, self._owner, run.id, run.epoch)
        claims.reload(connections[self._alias], run)

    def has_undo(self, run: ClaimedRun) -> bool:
        """Return whether the run has, by now, something to be undone."""
        return claims.has_undo(connections[self._alias], run)

    def reload(self, run: ClaimedRun) -> None:
        """Load the journal and the state again."""
        claims.reload(connections[self._alias], run)
