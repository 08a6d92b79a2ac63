"""One connection of the project's in a worker's thread: looked at before user code gets it, and taken back after it.

Made by `lending`, one for each alias in each thread.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from django.db import connections

from .databases import session_of
from .effects import CLOSE, NOTHING
from .foreign import drop, has_come, has_pool, news_of
from .opening import Opening

#: Only behind a body: it may read from a cursor while its steps are called.
_CLOSE_CURSORS = "CLOSE ALL; "
_ENDS = re.compile(r"\s*(?:COMMIT|ROLLBACK(?!\s+TO)|END|ABORT)\b", re.IGNORECASE)

#: What Django itself changes of a connection, or finds out when it is first asked.
_DJANGOS = frozenset(
    """
    connection execute_wrappers queries_log force_debug_cursor autocommit in_atomic_block savepoint_state savepoint_ids
    commit_on_exit needs_rollback rollback_exc close_at closed_in_transaction errors_occurred health_check_enabled
    health_check_done run_on_commit run_commit_hooks_on_set_autocommit_on atomic_blocks isolation_level timezone
    timezone_name pg_version mysql_server_data mysql_server_info mysql_version mysql_is_mariadb sql_mode display_name
    data_types data_type_check_constraints _named_cursor_idx _thread_sharing_count
    """.split()  # noqa: SIM905 - as many lines as names
)


class Lent:
    """A connection of this thread. Django calls it as a wrapper around each statement."""

    def __init__(self, connection: Any, lend_again: Callable[[Any], object]) -> None:
        self.connection = connection
        #: Called with what takes its place, should it be made anew.
        self._lend_again = lend_again
        #: The most that a statement has done to the session since it was as when it was opened.
        self.changed = NOTHING
        #: Whether a transaction was begun by hand, where the driver does not tell.
        self.begun = False
        #: Whether an atomic step's transaction was ended by hand.
        self.ended = False
        self.opening = Opening(connection)
        #: What tells whether the server has sent something unasked.
        self.news: Any = None
        self._database = session_of(connection)
        #: Of another backend than Django's, the attributes when it was made: it may note there what it has told its
        #: session, or for whom, and is then made anew.
        self._attributes = None if type(connection).__module__.startswith("django.") else dict(vars(connection))
        #: The statements that take its session back; empty where only a new session is as it was.
        self._reset = ""
        self._rested = False
        if connection.connection is not None:  # Opened before it was watched.
            drop(connection)
        self._wrappers = len(connection.execute_wrappers) + 1
        # In front of the project's: those come and go at the end.
        connection.execute_wrappers.insert(0, self)

    def __call__(self, execute: Any, statement: Any, parameters: Any, many: Any, context: Any) -> Any:
        """Note what a statement does to the session, and run it."""
        if self.opening.is_under_way():
            self.opening.remember(statement, parameters)
        elif effect := self._database.effects(statement):
            self.changed = max(self.changed, effect)
            if isinstance(statement, str):
                self._notice_transaction(statement)
        return execute(statement, parameters, many, context)

    def _notice_transaction(self, statement: str) -> None:
        if self.connection.in_atomic_block:
            self.ended = self.ended or bool(_ENDS.match(statement))
        else:
            self.begun = self._database.is_begun_by_hand(statement, self.begun)

    def opened(self) -> None:
        """Take note of a new session, set up by Django and by the project's receivers: what it was told is kept."""
        self.opening.end()
        self.changed, self.begun, self.ended = NOTHING, False, False
        self._reset = self._database.taken_back_by() if self._attributes is None else ""
        self.news = news_of(self.opening.session)

    # -- a piece of work ---------------------------------------------------------------------------

    def begin(self) -> None:
        """Have it sound, and its session as when it was opened, before a piece of work."""
        del self.connection.execute_wrappers[self._wrappers :]
        rested, self._rested = self._rested, False
        if self._has_other_attributes():
            self._drop()
        elif self.connection.connection is not None:
            if self._is_spoilt() or self._is_old():
                self._drop()
            elif self._reset and not rested:
                # Whether it was used or not: the driver's own cursors are not seen.
                self._take_back(_CLOSE_CURSORS)
            else:
                self._drop_if_dead()
        if self.connection.settings_dict["CONN_MAX_AGE"] == 0:
            self.connection.close_at = None  # Kept while there is work; a connection for each run would cost more.

    def end(self) -> None:
        """Take it back after a piece of work, if something is known to have been changed."""
        if self.connection.connection is None:
            return
        if self._is_spoilt():
            self._drop()
        elif self.changed:
            self._take_back(_CLOSE_CURSORS)
            self._rested = True

    def close(self) -> None:
        """Leave it as new to a pool, which lends the session to other threads."""
        if self.connection.connection is not None and has_pool(self.connection):
            if self._is_spoilt() or not self._reset:
                self._drop()
            elif not self._rested:
                self._take_back(_CLOSE_CURSORS)

    # -- a step ------------------------------------------------------------------------------------

    def begin_step(self) -> None:
        """Have it work, and nothing of the body's in its session."""
        if self.changed:
            self._take_back()
        else:
            self._drop_if_dead()

    def end_step(self) -> None:
        """Take back what the step has done."""
        if self._is_spoilt():
            self._drop()
        elif self.changed:
            self._take_back()

    # -- how it stands -----------------------------------------------------------------------------

    def _is_spoilt(self) -> bool:
        return self.connection.connection is not self.opening.session or self.is_left_open()

    def is_left_open(self) -> bool:
        """Return whether it was left inside a transaction, or without autocommit."""
        connection = self.connection
        if connection.in_atomic_block or connection.autocommit != connection.settings_dict["AUTOCOMMIT"]:
            return True
        return self.is_in_transaction()

    def is_in_transaction(self) -> bool:
        """Return whether the session itself is in a transaction, without asking the server."""
        return self.connection.connection is not None and (self.begun or self._database.is_in_transaction())

    def _is_old(self) -> bool:
        """Return whether it is older than the project wants its connections, by CONN_MAX_AGE."""
        max_age, close_at = self.connection.settings_dict["CONN_MAX_AGE"], self.connection.close_at
        return bool(max_age) and close_at is not None and time.monotonic() >= close_at

    def _has_other_attributes(self) -> bool:
        """Return whether a backend that is not Django's remembers something that it did not when it was made."""
        before = self._attributes
        if before is None:
            return False
        now = vars(self.connection)
        return any(now.get(name) is not value for name, value in before.items() if name not in _DJANGOS) or (
            not now.keys() <= before.keys() | _DJANGOS
        )

    # -- what becomes of it ------------------------------------------------------------------------

    def _take_back(self, before: str = "") -> None:
        """Undo what the session was told, or end it where that is not possible."""
        if not self._reset or self.changed >= CLOSE:
            self._drop()
            return
        try:
            with self.opening.session.cursor() as cursor:
                cursor.execute(before + self._reset)
                for statement, parameters in self.opening.told():
                    cursor.execute(statement, parameters)
        except Exception:  # noqa: BLE001 - whatever it is, a new session has not got it
            self._drop()
        else:
            self.changed = NOTHING
            self.connection.errors_occurred = False

    def _drop_if_dead(self) -> None:
        """Drop a connection that has died, without asking the server unless there is a reason."""
        connection = self.connection
        connection.health_check_done = False  # Should the project want it asked each time, Django does.
        if (connection.errors_occurred or has_come(self.news)) and not connection.is_usable():
            self._drop()
        connection.errors_occurred = False

    def _drop(self) -> None:
        drop(self.connection)
        self.changed, self.begun = NOTHING, False
        self.opening.forget()
        alias = self.connection.alias
        if self._attributes is not None and connections[alias] is self.connection:
            del connections[alias]
            self._lend_again(connections[alias])
