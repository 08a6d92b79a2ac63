"""SQLite: how its connections are opened, and its statements where they differ from `portable`.

Chosen by `databases`. One transaction at a time writes in all of the database: BEGIN IMMEDIATE takes its lock at once,
so that no row need be locked, and none stands in a statement's way.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

from ...core.changes import Change
from ...states import RUNNING
from .patience import patience
from .portable import Portable
from .tables import RECORD_COLUMNS, RUN, STEP

#: Held by the thread that writes, for each alias. It may hold it twice: a transaction within a transaction.
turns: dict[str, threading.RLock] = defaultdict(threading.RLock)

_SINGLE = f"""
INSERT INTO {STEP} ({RECORD_COLUMNS})
SELECT id, epoch, {", ".join("?" * 10)} FROM {RUN} WHERE id = ? AND owner_id = ? AND epoch = ? AND state = 'running'
"""


class SQLite(Portable):
    """A session of SQLite. Its statements go to the driver's own cursor, which takes `?` for a parameter."""

    lock_free_rows = lock_rows = ""  # BEGIN IMMEDIATE has locked the whole database.
    begins = "BEGIN IMMEDIATE"
    has_one_writer = True

    @classmethod
    def options(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Return options with which Django's transactions take the lock at once, too, and wait no longer than we do."""
        return {**given, "transaction_mode": "IMMEDIATE", "timeout": min(given.get("timeout", 5.0), patience())}

    def turn(self) -> AbstractContextManager[object]:
        """Return this process's lock for writing.

        A connection that finds SQLite's own lock taken sleeps, longer each time, and tries again: two busy threads of
        one worker would starve each other for tens of milliseconds. Here each is woken when the other is done.
        """
        return turns[self.connection.alias] if self.is_own else super().turn()

    def begin(self) -> None:
        """Begin a transaction by the driver's own cursor: Django's would cost more than the statement."""
        self.connection.ensure_connection()
        with self.connection.wrap_database_errors:
            self.connection.connection.cursor().execute(self.begins)

    def fetch(self, statement: str, parameters: Sequence[Any]) -> list[Any]:
        """Return the rows of a statement."""
        with self.connection.wrap_database_errors:
            cursor = self.connection.connection.cursor()
            cursor.execute(statement.replace("%s", "?"), parameters)
            rows: list[Any] = cursor.fetchall()
            return rows

    def execute_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement once for each of these rows of parameters."""
        with self.connection.wrap_database_errors:
            self.connection.connection.cursor().executemany(statement.replace("%s", "?"), rows)

    def write_single(self, owner: UUID, change: Change) -> str | None:
        """Write one new record by one statement that commits itself; return the run's state.

        SQLite takes its lock for writing before such a statement reads, so the run's row stands still.
        """
        connection = self.connection
        (record,) = change.inserts
        parameters = (*self._values(record), self.uuid(change.run_id), self.uuid(owner), change.epoch)
        connection.ensure_connection()
        with self.turn(), connection.wrap_database_errors:
            cursor = connection.connection.cursor()
            cursor.execute(_SINGLE, parameters)
            written = cursor.rowcount
        return RUNNING if written else None
