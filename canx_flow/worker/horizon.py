"""What a worker does not look at again and again while that is slow: what it knows to be nothing, or taken.

Kept by the turn. A look at everything takes no more than a twentieth of the worker's time, and in between looks begin
at a bookmark. That is right later than it might be only for what has come to stand before the bookmark unnoticed: a run
that was woken by a process which could not tell, one that was started by a long transaction.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime

from ..store.bookmark import Bookmark
from ..store.db.databases import session_for
from ..store.poll import Found
from .agenda import Clock

#: A look that takes so many seconds is slow. The shorter of the last two counts: one may have waited for the machine.
_SLOW = 0.02
#: From its beginning to the next look at everything it is so many times as long as it took.
_SHARE = 20


class Horizon:
    """The bookmark of one worker."""

    def __init__(self, alias: str, steady: Clock) -> None:
        self._alias = alias
        self._steady = steady
        self._seconds = deque([0.0, 0.0], maxlen=2)
        self._whole_at = 0.0
        #: `None`: looks are quick.
        self.bookmark: Bookmark | None = None

    def remembers(self) -> bool:
        """Return whether looks are slow, so that what the next one finds is worth remembering."""
        return self._seconds[-1] > _SLOW and session_for(self._alias).keeps_dead_entries

    def skips(self) -> Bookmark | None:
        """Return from where the next poll looks; `None`: it looks at everything."""
        due_at = self._whole_at + _SHARE * self._seconds[-1]
        return self.bookmark if self._steady() < due_at else None

    def due_at(self) -> datetime | None:
        """Return the moment before which no timer is due; `None`: it is not known."""
        return None if self.bookmark is None else self.bookmark.due_at

    def polled(self, found: Found, began: float) -> None:
        """Take note of what a look at everything has found, and how long it took."""
        self._whole_at = began
        self._seconds.append(self._steady() - began)
        if found.event is None or min(self._seconds) <= _SLOW:
            self.bookmark = None
        else:
            self.bookmark = Bookmark.behind(nothing_ready=not found.ready, next_due=found.next_due, event=found.event)
