"""Says that the database does not answer a write of this worker, and how many changes wait behind it.

Called by the watch over the committer's connection, on a thread of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..observe import announce, facts
from .agenda import Every
from .outages import SECONDS_BETWEEN_WARNINGS


class Unanswered:
    """Announces, once a minute, that a write has no answer yet."""

    def __init__(self, unstored: Callable[[], int]) -> None:
        self._unstored = unstored
        self._every = Every(SECONDS_BETWEEN_WARNINGS)

    def __call__(self, seconds: float) -> None:
        now = time.monotonic()
        if self._every.is_due(now):
            self._every.done(now)
            announce(facts.WriteUnanswered(seconds, self._unstored()))
