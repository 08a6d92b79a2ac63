"""MySQL and MariaDB: how their connections are opened, and their statements where they differ from `portable`.

Chosen by `databases`. InnoDB locks every row that a statement reads on its way: so the statements say which index to
use, or name each row by its primary key.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from math import ceil
from typing import Any

from django.db.utils import Error

from .effects import Effects
from .patience import KEEPALIVE, idle_patience, patience, server_patience
from .portable import SELECT_WAITS, Portable
from .tables import ATTRIBUTE, DELEGATION, EVENT, HISTORY, KEY, SINGLETON, STEP, TIMER, placeholders

_UNKNOWN_VARIABLE = 1193  # to MySQL, or to what only speaks like it
_WAIT_TIMEOUT = 28_800  # MySQL's own default: seconds after which an idle connection is closed

#: Seconds to let a rival go first. It is a rival of a long transaction then, and a row lock may have to tell.
_RIVALS_PATIENCE = 10

_BEGINS = re.compile(r"\s*(?:BEGIN|START\s+TRANSACTION)\b", re.IGNORECASE)
_ENDS = re.compile(r"\s*(?:COMMIT|ROLLBACK(?!\s+TO)|END|ABORT)\b", re.IGNORECASE)
#: Every change of a table ends a transaction, too.
_COMMITS = re.compile(r"\s*(?:CREATE|ALTER|DROP|TRUNCATE|RENAME)\b", re.IGNORECASE)

#: The index that finds the rows of a run.
_RUN_INDEX = {
    KEY: "PRIMARY", SINGLETON: "PRIMARY", TIMER: "canx_timer_run_kind_step", STEP: "canx_step_run_name",
    EVENT: "canx_event_unread", ATTRIBUTE: "canx_attribute_run", HISTORY: "canx_history_run",
    DELEGATION: "canx_delegation_run_step",
}  # fmt: skip


class MySQL(Portable):
    """A session of MySQL or MariaDB."""

    locks_what_it_meets = True
    by_key = " FORCE INDEX (PRIMARY)"
    recursion_jumps = False  # It goes by what is known before it runs: all rows of a queue.
    effects = Effects(r";|/\*|\*/|\\|@|\#")
    #: It leaves out more than those: what is then missing is inserted once more, without IGNORE.
    insert_unless_taken = "INSERT IGNORE", ""
    microseconds = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"

    @property
    def sees_commits(self) -> bool:  # type: ignore[override]
        """Return whether the transactions of this connection are READ COMMITTED, as Django has them by default."""
        return bool(self.connection.isolation_level == "read committed")

    @classmethod
    def options(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Return options with the driver's own deadlines, should its socket be out of reach.

        MySQL's library takes three times as long.
        """
        waits = dict.fromkeys(("read_timeout", "write_timeout"), ceil(patience()) + 1)
        return {"connect_timeout": 10, **given, **waits, "isolation_level": "read committed"}

    def set_up(self) -> None:
        """Set how long statements and locks may take, whatever the project's sessions have."""
        _keep_alive(self.connection.connection)
        assignments = ", ".join(f"SESSION {name} = {value}" for name, value in self._settings().items())
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(f"SET {assignments}")
        except Error as error:
            if error.args[:1] != (_UNKNOWN_VARIABLE,):
                raise

    def _settings(self) -> dict[str, float]:
        seconds = max(1, int(server_patience()))
        settings: dict[str, float] = {
            "innodb_lock_wait_timeout": seconds, "lock_wait_timeout": seconds, "wait_timeout": _WAIT_TIMEOUT,
        }  # fmt: skip
        if self.connection.mysql_is_mariadb:
            return settings | {"max_statement_time": seconds, "idle_transaction_timeout": ceil(idle_patience())}
        return settings | {"max_execution_time": seconds * 1000}

    @contextmanager
    def read_committed(self) -> Iterator[None]:
        """Open a transaction, after the level of the next one was set."""
        with self.connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        with super().read_committed():
            yield

    @contextmanager
    def one_by_one(self, contest: str) -> Iterator[None]:
        """Hold a lock of the server's for this contest.

        Two that wait for a third's row both get a shared lock on its place when that is rolled back (or was deleted,
        and not purged yet), and then each waits for the other's: a deadlock, which costs a caller its whole
        transaction. So only one session at a time waits there.
        """
        scope = [str(self.connection.settings_dict["NAME"]), contest]
        name = f"canx_flow:{hashlib.sha256(repr(scope).encode()).hexdigest()[:40]}"
        # Where there are no such locks, as in some clusters, it is done without.
        with suppress(Error), self.connection.cursor() as cursor:
            cursor.execute("SELECT GET_LOCK(%s, %s)", [name, _RIVALS_PATIENCE])
            cursor.fetchone()
        try:
            yield
        finally:
            # Not by Django's cursor, which refuses after an error: the session would keep it.
            with suppress(Exception), self.connection.connection.cursor() as cursor:
                cursor.execute("SELECT RELEASE_LOCK(%s)", [name])
                cursor.fetchone()

    def largest_packet(self) -> int | None:
        """Return max_allowed_packet: of more, the server hangs up without a word."""
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT @@max_allowed_packet")
            limit: int = cursor.fetchone()[0]
        return limit

    def is_in_transaction(self) -> bool:
        """Return whether autocommit is off: the driver tells no more."""
        try:
            return not self.connection.connection.get_autocommit()
        except Exception:  # noqa: BLE001 - another driver, or a connection that is lost
            return False

    def is_begun_by_hand(self, statement: str, before: bool) -> bool:
        """Return whether a transaction is open after this statement."""
        return bool(_BEGINS.match(statement)) or (before and not (_ENDS.match(statement) or _COMMITS.match(statement)))

    def by_index(self, index: str) -> str:
        """Name the index: statistics are of another hour."""
        return f" FORCE INDEX ({index})"

    def _select_waits(self, cursor: Any, run_ids: Sequence[Any]) -> None:
        """Lock them: else a caller's snapshot would show them as they were."""
        hint = f"FORCE INDEX ({_RUN_INDEX[TIMER]})"
        cursor.execute(f"{SELECT_WAITS} {hint} WHERE run_id IN ({placeholders(run_ids)}) FOR UPDATE", run_ids)

    def _delete(
        self, cursor: Any, table: str, column: str, values: Sequence[Any], rest: str, parameters: Sequence[Any]
    ) -> None:
        """Delete by the index that finds a run's rows; by primary key, by one statement for each row.

        Else MySQL would read a small table whole, lock every row on the way, wait for those that others have locked,
        and meet another transaction that does the same.
        """
        if column == "id":
            cursor.executemany(f"DELETE FROM {table} WHERE id = %s{rest}", [(value, *parameters) for value in values])
            return
        index = f"FORCE INDEX ({_RUN_INDEX[table]})"
        statement = f"DELETE {table} FROM {table} {index} WHERE {column} IN ({placeholders(values)}){rest}"
        cursor.execute(statement, [*values, *parameters])


def _keep_alive(raw: Any) -> None:
    """Set on the socket what PostgreSQL's library takes as options: MySQL's has none for that."""
    options = {"TCP_KEEPIDLE": "idle", "TCP_KEEPINTVL": "interval", "TCP_KEEPCNT": "count"}
    # No such socket, or no such system: the client's own deadline is there.
    with suppress(Exception), socket.socket(fileno=os.dup(raw.fileno())) as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, name in options.items():
            wire.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), KEEPALIVE[name])
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, KEEPALIVE["user_timeout"])
