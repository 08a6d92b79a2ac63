"""Tell branches of this worker's own runs that what blocks them has ended, while others of the same run go on.

Done after timers were fired, when this worker is told of an event, and at each poll. A run all of whose branches are
blocked is suspended, and woken as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from ...replay.beside import Beside
from ...store import wait_ends


class TellBranches:
    """Asks the database once for all runs that have blocked branches."""

    def __init__(self, alias: str, watched: Mapping[UUID, Beside]) -> None:
        self._alias = alias
        self._watched = watched
        self._expected = False

    def expect(self) -> None:
        """Have it done at the end of this turn."""
        self._expected = True

    def expect_own(self) -> bool:
        """Have it done if any run has blocked branches; return whether that is so. Called on any thread."""
        if self._watched:
            self._expected = True
        return bool(self._watched)

    def run_once(self, _now: float) -> None:
        """Look which of their waits have ended, if any may have."""
        if not self._expected:
            return
        self._expected = False  # Before it asks: for what is stored meanwhile the next turn asks anew.
        try:
            self._tell()
        except BaseException:
            self._expected = True  # A turn in which the database has failed is done again.
            raise

    def _tell(self) -> None:
        watched = dict(self._watched)  # Slots add to it.
        waits = {run_id: waits for run_id, beside in watched.items() if (waits := beside.waits())}
        if waits:
            for run_id, ends in wait_ends.ended(self._alias, waits).items():
                watched[run_id].tell(ends)
