"""When a change that could not be written is tried again, run by run. Used by the writer and the committer."""

from __future__ import annotations

import time
from uuid import UUID

from ..core.backoff import doubled


class Delays:
    """Delays that grow with each try that has failed. Touched only by the thread that leads the committer."""

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self._tries: dict[UUID, int] = {}
        self._due: dict[UUID, float] = {}
        #: Tries that have failed since the last success, of all runs.
        self.failures = 0

    def __bool__(self) -> bool:
        return bool(self._due)

    def put_off(self, run_id: UUID) -> int:
        """Put the next try off, for one has failed: longer each time. Return how many have."""
        self.failures += 1
        tries = self._tries[run_id] = self._tries.get(run_id, 0) + 1
        self._put_off(run_id, tries)
        return tries

    def spare(self, run_id: UUID) -> None:
        """Put off a run that was not tried since others have failed: longer each time that happens."""
        self._put_off(run_id, self.failures)

    def forget(self, run_id: UUID) -> None:
        """Forget a run whose change was written, or refused for good."""
        self.failures = 0
        if self._due:
            self._tries.pop(run_id, None)
            self._due.pop(run_id, None)

    def is_due(self, run_id: UUID, now: float) -> bool:
        """Return whether it may be tried now."""
        return not self._due or self._due.get(run_id, now) <= now

    def _put_off(self, run_id: UUID, tries: int) -> None:
        self._due[run_id] = time.monotonic() + doubled(self._first, self._most, tries - 1)
