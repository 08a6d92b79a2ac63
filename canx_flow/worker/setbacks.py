"""Turns that fail: what is announced of them, how long the worker waits, and when it gives up.

Asked by the worker's main thread, whatever the error is: an outage, mostly.
"""

from __future__ import annotations

from django.db.utils import DatabaseError, Error

from .. import conf
from ..core.backoff import Backoff
from ..observe import announce, facts
from ..store.db import errors
from .agenda import Clock
from .outages import OutageLog

_FIRST_PAUSE, _MOST_PAUSE = 0.1, 5.0  # seconds
_QUIET_REPEATS = 5  # turns that a deadlock or a serialization failure repeats before that is announced


class Setbacks:
    """Counts the failures of one worker in a row."""

    def __init__(self, outages: OutageLog, steady: Clock) -> None:
        self._outages = outages
        self._steady = steady
        self._backoff = Backoff(_FIRST_PAUSE, _MOST_PAUSE)
        #: Turns that have failed in a row, and whether the database may have been away in one of them.
        self._failures = 0
        self._was_away = False
        #: The last error, in words. The turns after it may have passed without the chore that has met it.
        self._said = ""
        #: Since when they have failed though the database answers.
        self._odd_since: float | None = None

    def failed(self, error: Exception) -> float:
        """Announce the error, at most once a minute; return how many seconds to wait before the next try."""
        self._failures += 1
        self._was_away = self._was_away or not errors.is_sound(error)
        if isinstance(error, Error):
            self._odd_since = None
        elif self._odd_since is None:
            self._odd_since = self._steady()
        self._announce(error)
        return self._backoff.failed()

    def passed(self) -> bool:
        """Take note that a turn has succeeded; return whether it is the first one since the database was away."""
        was_away, self._was_away = self._was_away, False
        self._failures = 0
        self._odd_since = None
        self._backoff.reset()
        return was_away

    def hurry(self) -> None:
        """Wait for the shortest pause again: another connection of this worker has an answer. Called on any thread."""
        self._backoff.reset()

    def is_hopeless(self) -> bool:
        """Return whether turns have failed for a whole lease though the database answers: another process may do
        better.
        """
        return self._odd_since is not None and self._steady() - self._odd_since > conf.get().lease_seconds

    def _announce(self, error: Exception) -> None:
        said, self._said = self._said, str(error)
        if errors.is_conflict(error) and self._failures <= _QUIET_REPEATS:
            announce(facts.TurnRepeated(error))
        elif errors.is_outage(error):
            self._outages.warn(facts.TurnMetOutage(error))
        elif self._failures > 1 or said == self._said or not isinstance(error, DatabaseError):
            self._outages.warn(facts.TurnFailed(error))  # Not at once: a new session may be all that it takes.
