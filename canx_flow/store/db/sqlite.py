"""SQLite: how its connections are opened, and its statements where they differ from `portable`.

Chosen by `databases`. One transaction at a time writes in all of the database: BEGIN IMMEDIATE takes its lock at once,
so that no row need be locked, and none stands in a statement's way.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from uuid import UUID

from ...core.changes import Change
from ...states import RUNNING
from .effects import Effects
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
    has_one_writer = True
    # What says nothing of a run it would ask of each of them: so this is in the value that is looked up.
    open_code = f"workflow = (SELECT %s WHERE {Portable.not_paused}) AND version = %s"
    microseconds = "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)"
    time = "(julianday('now') - 2440587.5) * 86400.0"
    # Django sends BEGIN for each `atomic`. Whether a transaction is left open is asked of the driver.
    effects = Effects(r";|/\*|\*/", harmless=re.compile(r"BEGIN(?: (?:DEFERRED|IMMEDIATE|EXCLUSIVE))?", re.IGNORECASE))

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
            self.connection.connection.cursor().execute("BEGIN IMMEDIATE")

    @contextmanager
    def locking_at_its_begin(self) -> Iterator[None]:
        """Have `atomic` begin IMMEDIATE: a transaction that reads first could not get the lock later."""
        connection = self.connection
        if connection.in_atomic_block:
            yield
            return
        connection.ensure_connection()
        before, connection.transaction_mode = connection.transaction_mode, "IMMEDIATE"
        try:
            yield
        finally:
            connection.transaction_mode = before

    def lock_first(self) -> None:
        """Write, though to no row. A transaction that has read does not get the lock once another has written."""
        with self.connection.cursor() as cursor:
            cursor.execute(f"UPDATE {RUN} SET epoch = epoch WHERE id = ''")

    @contextmanager
    def hardly_waiting(self, milliseconds: int) -> Iterator[None]:
        """Wait no longer than this for SQLite's one lock."""
        before = self._busy_timeout()
        self._busy_timeout(min(before, milliseconds))
        try:
            yield
        finally:
            self._busy_timeout(before)

    def _busy_timeout(self, milliseconds: int | None = None) -> int:
        assign = "" if milliseconds is None else f" = {milliseconds}"
        with self.connection.cursor() as cursor:
            found: int = cursor.execute(f"PRAGMA busy_timeout{assign}").fetchone()[0]
        return found

    def is_in_transaction(self) -> bool:
        """Return what the driver says."""
        return bool(getattr(self.connection.connection, "in_transaction", False))

    def was_ended_by_hand(self) -> bool | None:
        """Return what the driver says, if it is connected."""
        raw = self.connection.connection
        return None if raw is None else not getattr(raw, "in_transaction", True)

    def by_index(self, index: str) -> str:
        """Name the index: statistics are old, if there are any."""
        return f" INDEXED BY {index}"

    def fetch(self, statement: str, parameters: Sequence[Any]) -> list[Any]:
        """Return the rows of a statement."""
        with self.connection.wrap_database_errors:
            cursor = self.connection.connection.cursor()
            cursor.execute(statement.replace("%s", "?"), parameters)
            rows: list[Any] = cursor.fetchall()
            return rows

    def execute_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run a statement once for each of these rows of parameters; return how many rows of its table that met."""
        with self.connection.wrap_database_errors:
            cursor = self.connection.connection.cursor()
            cursor.executemany(statement.replace("%s", "?"), rows)
            return int(cursor.rowcount)

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
