"""Wake runs that were handed back because of an outage, as soon as the database is back.

Done after the first turn that succeeds again: their timers may be a minute away.
"""

from __future__ import annotations

from uuid import UUID

from ...core.changes import Change
from ...states import Kind
from ...store import timers

_MOST = 1000  # runs that are remembered; more wait for their own time


class Hasten:
    """Remembers the runs of this worker that wait for the end of an outage. The committer tells of them."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._run_ids: set[UUID] = set()
        #: One of the worker's connections has had an answer after an outage.
        self._is_back = False

    def note(self, change: Change) -> None:
        """Remember the run of this change, if it waits for an outage's end. Called on the committer's thread."""
        if any(wait.kind == Kind.OUTAGE for wait in change.waits.opens) and len(self._run_ids) < _MOST:
            self._run_ids.add(change.run_id)

    def database_is_back(self) -> None:
        """Have it done after the next turn. Called on any thread."""
        self._is_back = True

    def run_once(self, _now: float) -> int:
        """Have these timers due now; return how many there were."""
        if not self._is_back:
            return 0
        run_ids = list(self._run_ids)  # The committer adds to it.
        hastened = timers.hasten(self._alias, run_ids) if run_ids else 0
        self._is_back = False
        self._run_ids.difference_update(run_ids)
        return hastened
