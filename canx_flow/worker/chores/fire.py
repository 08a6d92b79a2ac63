"""Fire the timers that are due: their runs are ready then, or have failed by their deadline.

Done when the agenda says that one is due; what firing sets is in `store.timers`. Of deadlines receivers are told after
the commit, also if it is not known at first whether there was one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from ...observe import here
from ...replay import reports
from ...store import timers
from ...store.db import engine
from ...store.db.databases import session_of


class Fire:
    """Fires timers, and remembers which deadlines have passed of which no receiver has been told yet."""

    def __init__(self, alias: str, tell: Callable[[Callable[[], object]], object] = here) -> None:
        self._alias = alias
        self._tell = tell
        #: Runs that have failed by their deadline, certainly, and possibly: the answer to the commit was lost.
        self._late: list[timers.Expiry] = []
        self._in_doubt: set[timers.Expiry] = set()
        #: Runs that were cancelled because their parents were stopped.
        self._cancelled: list[UUID] = []

    @contextmanager
    def transaction(self, connection: BaseDatabaseWrapper) -> Iterator[None]:
        """Fire, and claim what that makes ready, in one transaction where the database has one lock for writing."""
        before, cancelled = len(self._late), len(self._cancelled)
        try:
            with engine.together(connection):
                yield
        except Exception:
            if session_of(connection).has_one_writer:  # Elsewhere what was fired is committed by itself.
                self._in_doubt |= set(self._late[before:])
                del self._late[before:], self._cancelled[cancelled:]
            raise

    def run_once(self, _now: float, *, one_batch: bool = False, since: datetime | None = None) -> timers.Fired:
        """Fire every timer that is due (`since`: at that moment or later), batch by batch, or one batch of them.

        Those that fall due meanwhile have time until the next turn: else runs that are ready would wait for as long as
        others become due. Call `announce_late` once this is committed.
        """
        every = timers.Fired()
        more = True
        while more:
            fired = self._fire(since)
            every.woken += fired.woken
            self._late += [(run_id, fired.at) for run_id in fired.timed_out]
            self._cancelled += fired.cancelled
            every.ended = every.ended or bool(fired.timed_out or fired.cancelled)
            every.seen += fired.seen
            every.acted += fired.acted
            every.next_due = fired.next_due
            every.left = fired.may_be_more
            more = every.left and not one_batch
        return every

    def announce_late(self) -> None:
        """Tell of runs that have failed by their deadline; if the database is away, the next call does."""
        if self._in_doubt:
            certain, self._in_doubt = timers.expired(self._alias, self._in_doubt)
            self._late += certain
        cancelled, self._cancelled = self._cancelled, []
        reports.cancelled(self._alias, cancelled, self._tell)
        late, self._late = self._late, []
        try:
            reports.timed_out(self._alias, [run_id for run_id, _moment in late], self._tell)
        except Error:  # The database is asked about all of them before any receiver is told of the first.
            self._late = late + self._late
            raise

    def _fire(self, since: datetime | None) -> timers.Fired:
        expiring: set[timers.Expiry] = set()
        try:
            return timers.fire(self._alias, expiring, since)
        except Exception:
            self._in_doubt |= expiring
            raise
