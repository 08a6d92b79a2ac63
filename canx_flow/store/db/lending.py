"""The project's connections in the threads of a worker: lent to user code, and taken back as they were.

Called by the worker's threads through `upkeep` (a piece of work begins, has ended), and by the drivers around each
step. A thread that does not keep its connections, such as a test's, lends nothing: there nothing here does anything.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from .effects import CLOSE, NOTHING, effects
from .foreign import drop, has_come, has_pool, is_in_transaction, news_of, reset_of
from .own import is_own

#: Only behind a body: it may read from a cursor while its steps are called.
_CLOSE_CURSORS = "CLOSE ALL; "
_BEGINS = re.compile(r"\s*(?:BEGIN|START\s+TRANSACTION)\b", re.IGNORECASE)
_ENDS = re.compile(r"\s*(?:COMMIT|ROLLBACK(?!\s+TO)|END|ABORT)\b", re.IGNORECASE)
#: On MySQL every change of a table does, too.
_COMMITS = re.compile(r"\s*(?:CREATE|ALTER|DROP|TRUNCATE|RENAME)\b", re.IGNORECASE)

_effects = {vendor: effects(vendor) for vendor in ("postgresql", "mysql", "sqlite")}


class _Thread(threading.local):
    """This thread's connections that are lent, by alias; and how often one was opened in it."""

    def __init__(self) -> None:
        self.lent: dict[str, _Lent] = {}
        self.opened = 0


_thread = _Thread()


# -- a piece of work: an activation, or a step in a thread of its own ------------------------------


def begin() -> None:
    """Have this thread's connections sound, and their sessions as when they were opened."""
    for connection in _project_connections():
        known = _thread.lent.get(connection.alias)
        if known is None or known.connection is not connection:
            _thread.lent[connection.alias] = known = _Lent(connection)
        known.begin()


def end() -> None:
    """Undo at once what is known to have been changed: locks, listening. The rest has time until `begin`."""
    for lent in _thread.lent.values():
        lent.end()


def close() -> None:
    """There is no more work for now."""
    for lent in _thread.lent.values():
        lent.close()
    connections.close_all()


# -- a step ----------------------------------------------------------------------------------------


def begin_step() -> None:
    """Have connections that work; what the body has told a session reaches no step."""
    for lent in _thread.lent.values():
        lent.ended = False
        if lent.connection.connection is not None:
            lent.begin_step()


def end_step() -> None:
    """What a step has told a session ends with it."""
    for lent in _thread.lent.values():
        if lent.connection.connection is not None:
            lent.end_step()


def left_open() -> str | None:
    """The alias of a connection that was left inside a transaction, or without autocommit."""
    for alias, lent in _thread.lent.items():
        if lent.connection.connection is not None and is_spoilt(lent.connection):
            return alias
    return None


# -- one connection --------------------------------------------------------------------------------


class _Lent:
    """A connection of this thread. Django calls it as a wrapper around each statement."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection: Any = connection
        self.changed = NOTHING
        #: MySQL alone does not tell: whether a transaction was begun by hand.
        self.begun = False
        #: Whether an atomic step's transaction was ended by hand.
        self.ended = False
        self._effect = _effects.get(connection.vendor) or effects(connection.vendor)
        #: Another backend than Django's may remember what it has told its session, or for whom: it is made anew.
        self._is_plain = type(connection).__module__.startswith("django.")
        self._attributes = {} if self._is_plain else dict(vars(connection))
        self._session: Any = None
        self._opening: Any = None
        #: What the session of `_set_up` was told when it was opened.
        self._setup: list[tuple[Any, Any]] = []
        self._set_up: Any = None
        self._reset = ""
        self._news: Any = None
        self._rested = False
        if connection.connection is not None:  # Opened before it was looked at.
            drop(connection)
        self._wrappers = len(connection.execute_wrappers) + 1
        # In front of the project's: those come and go at the end.
        connection.execute_wrappers.insert(0, self)

    def __call__(self, execute: Any, statement: Any, parameters: Any, many: Any, context: Any) -> Any:
        if self._is_being_opened():
            self._remember(statement, parameters)
        elif effect := self._effect(statement):
            self.changed = max(self.changed, effect)
            self._notice_transaction(statement)
        return execute(statement, parameters, many, context)

    def opened(self) -> None:
        """A new session, set up by Django and by the project's receivers: what it has been told now is kept."""
        connection = self.connection
        self._session = connection.connection
        self._opening = connection.run_on_commit  # Replaced when the last receiver has been called.
        self.changed, self.begun = NOTHING, False
        self._reset = reset_of(connection) if self._is_plain else ""
        self._news = news_of(self._session)

    def begin(self) -> None:
        """Before a piece of work."""
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
                self._look()
        if self.connection.settings_dict["CONN_MAX_AGE"] == 0:
            self.connection.close_at = None  # Kept while there is work; a connection for each run would cost more.

    def end(self) -> None:
        """After a piece of work."""
        if self.connection.connection is None:
            return
        if self._is_spoilt():
            self._drop()
        elif self.changed:
            self._take_back(_CLOSE_CURSORS)
            self._rested = True

    def begin_step(self) -> None:
        if self.changed:
            self._take_back()
        else:
            self._look()

    def end_step(self) -> None:
        if self._is_spoilt():
            self._drop()
        elif self.changed:
            self._take_back()

    def close(self) -> None:
        """A pool lends the session to other threads: it gets it as new."""
        if self.connection.connection is not None and has_pool(self.connection):
            if self._is_spoilt() or not self._reset:
                self._drop()
            elif not self._rested:
                self._take_back(_CLOSE_CURSORS)

    def _is_spoilt(self) -> bool:
        return self.connection.connection is not self._session or is_spoilt(self.connection)

    def _remember(self, statement: Any, parameters: Any) -> None:
        session = self.connection.connection
        if session is not self._set_up:  # The one before may have been closed by whoever had it.
            self._set_up, self._setup = session, []
        self._setup.append((statement, parameters))

    def _is_being_opened(self) -> bool:
        if self.connection.connection is not self._session:
            return True
        if self._opening is not None and self.connection.run_on_commit is not self._opening:
            self._opening = None
        return self._opening is not None

    def _notice_transaction(self, statement: Any) -> None:
        if not isinstance(statement, str):
            return
        if self.connection.in_atomic_block:
            self.ended = self.ended or bool(_ENDS.match(statement))
        elif self.connection.vendor == "mysql":
            self.begun = bool(_BEGINS.match(statement)) or (
                self.begun and not (_ENDS.match(statement) or _COMMITS.match(statement))
            )

    def _take_back(self, before: str = "") -> None:
        """Undo what the session was told, or end it where that is not possible."""
        if not self._reset or self.changed >= CLOSE:
            self._drop()
            return
        try:
            with self._session.cursor() as cursor:
                cursor.execute(before + self._reset)
                for statement, parameters in self._setup if self._set_up is self._session else ():
                    cursor.execute(statement, parameters)
        except Exception:  # noqa: BLE001 - whatever it is, a new session has not got it
            self._drop()
        else:
            self.changed = NOTHING
            self.connection.errors_occurred = False

    def _look(self) -> None:
        """Drop a connection that has died, without asking the server unless there is a reason."""
        connection = self.connection
        connection.health_check_done = False  # Should the project want it asked each time, Django does.
        if (connection.errors_occurred or has_come(self._news)) and not connection.is_usable():
            self._drop()
        connection.errors_occurred = False

    def _is_old(self) -> bool:
        """Whether it is older than the project wants its connections, by CONN_MAX_AGE."""
        max_age, close_at = self.connection.settings_dict["CONN_MAX_AGE"], self.connection.close_at
        return bool(max_age) and close_at is not None and time.monotonic() >= close_at

    def _has_other_attributes(self) -> bool:
        """Whether a backend that is not Django's remembers something that it did not when it was made."""
        if self._is_plain:
            return False
        now = vars(self.connection)
        return any(now.get(name) is not value for name, value in self._attributes.items() if name not in _DJANGOS) or (
            not now.keys() <= self._attributes.keys() | _DJANGOS
        )

    def _drop(self) -> None:
        drop(self.connection)
        self.changed, self.begun = NOTHING, False
        self._set_up, self._setup = None, []
        alias = self.connection.alias
        if not self._is_plain and connections[alias] is self.connection:
            del connections[alias]
            _thread.lent[alias] = _Lent(connections[alias])


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


def _project_connections() -> Iterable[BaseDatabaseWrapper]:
    for alias in connections:
        with suppress(ImproperlyConfigured):  # Whoever uses that one is told so.
            connection = connections[alias]
            if not is_own(connection):
                yield connection


def is_spoilt(connection: Any) -> bool:
    """Whether an open connection was left inside a transaction, or without autocommit."""
    if connection.in_atomic_block or connection.autocommit != connection.settings_dict["AUTOCOMMIT"]:
        return True
    return in_transaction(connection)


def in_transaction(connection: Any) -> bool:
    """Whether the session itself is in a transaction, however that was begun. Asks nothing of the server."""
    if connection.connection is None:
        return False
    lent = _thread.lent.get(connection.alias)
    begun = lent is not None and lent.connection is connection and lent.begun
    return begun or is_in_transaction(connection)


def was_ended(connection: Any) -> bool:
    """Whether the transaction of an `atomic` block was committed or rolled back by hand, inside of it."""
    if connection.vendor == "sqlite" and connection.connection is not None:
        return not getattr(connection.connection, "in_transaction", True)
    lent = _thread.lent.get(connection.alias)
    return lent is not None and lent.connection is connection and lent.ended


def _session_opened(connection: BaseDatabaseWrapper, **_kwargs: Any) -> None:
    _thread.opened += 1
    lent = _thread.lent.get(connection.alias)
    if lent is not None and lent.connection is connection:
        lent.opened()


def times_opened() -> int:
    """How often a connection was opened in this thread."""
    return _thread.opened


connection_created.connect(_session_opened, dispatch_uid="canx_flow.store.db.lending")
