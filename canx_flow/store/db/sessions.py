"""The sessions of the engine's own connections: what they are opened with, and what is set on them.

Called by `engine`. What a role, a database or a project's OPTIONS set by default is for the project's statements: an
isolation level or a tight timeout of theirs must not decide what becomes of the engine's. It is set when a connection
opens, outside any transaction, so that no rollback takes it back; and never on a session that others may share.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from functools import cache
from math import ceil
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import Error, load_backend

from ... import conf
from .deadlines import Watch, patience

#: A server that vanished without a word is noticed within a minute, not after two hours.
_KEEPALIVE = {"idle": 20, "interval": 10, "count": 3, "user_timeout": 45_000}
_POSTGRESQL_PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": _KEEPALIVE["idle"],
    "keepalives_interval": _KEEPALIVE["interval"],
    "keepalives_count": _KEEPALIVE["count"],
    "tcp_user_timeout": _KEEPALIVE["user_timeout"],
}
_UNKNOWN_VARIABLE = 1193  # to MySQL, or to what only speaks like it
_ROUNDS = 3  # of looks whether a session is shared: a pooler may go round its servers
_LEAST_IDLE = 10.0  # seconds that an open transaction may stand still, at least
_WAIT_TIMEOUT = 28_800  # MySQL's own default: seconds after which an idle connection is closed


class SharedSession(Exception):  # noqa: N818 - its name is what is the matter
    """The database is reached through a pooler that gives each transaction another session, and we were not told."""


class Own:
    """What an engine connection is besides a connection of its backend's."""

    #: Whether anything may be set, or prepared, that outlives a transaction.
    keeps_its_session = True
    watch: Watch

    def init_connection_state(self) -> None:
        """Called by Django for each connection that it has opened."""
        connection: Any = self
        try:
            self.watch.attach(connection.connection)
            super().init_connection_state()  # type: ignore[misc]
            _SETTINGS.get(connection.vendor, _nothing)(connection)
        except BaseException:
            connection.drop()  # Else Django would take it for a sound one.
            raise

    def drop(self) -> None:
        """Close what is behind it, whatever state it is in; its next statement opens a new one."""
        connection: Any = self
        raw, connection.connection = connection.connection, None
        if raw is not None:
            with suppress(Exception):
                raw.close()
        self.watch.detach()


def new(alias: str) -> BaseDatabaseWrapper:
    """A connection to the database `alias` of nobody's thread and outside any pool; it opens at its first statement."""
    settings = connections.settings[alias]
    own = {"OPTIONS": _options(alias), "AUTOCOMMIT": True, "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": False}
    connection: Any = _class(settings["ENGINE"])({**settings, **own}, alias)
    connection.inc_thread_sharing()
    connection.watch = connection.wrap_database_errors = Watch(connection)
    connection.keeps_its_session = not settings.get("DISABLE_SERVER_SIDE_CURSORS")
    result: BaseDatabaseWrapper = connection
    return result


@cache
def _class(backend: str) -> type[BaseDatabaseWrapper]:
    """The backend's own class of connections, and ours with it."""
    return type("EngineConnection", (Own, load_backend(backend).DatabaseWrapper), {})


def _options(alias: str) -> dict[str, Any]:
    # Not a deep copy: options may hold an SSL context, which cannot be copied.
    given = connections.settings[alias]["OPTIONS"]
    vendor = load_backend(connections.settings[alias]["ENGINE"]).DatabaseWrapper.vendor
    if vendor == "sqlite":
        return {**given, "transaction_mode": "IMMEDIATE", "timeout": min(given.get("timeout", 5.0), patience())}
    if vendor == "mysql":
        # The driver's own deadlines, should its socket be out of reach. MySQL's library takes three times as long.
        waits = dict.fromkeys(("read_timeout", "write_timeout"), ceil(patience()) + 1)
        return {"connect_timeout": 10, **given, **waits, "isolation_level": "read committed"}
    if vendor == "postgresql":
        from django.db.backends.postgresql.psycopg_any import IsolationLevel

        options = {**_POSTGRESQL_PATIENCE, **given, "isolation_level": IsolationLevel.READ_COMMITTED}
        options.pop("pool", None)
        return options
    return dict(given)


def _nothing(_connection: Any) -> None:
    """To be set on a session of another database."""


# -- PostgreSQL ------------------------------------------------------------------------------------


def _set_postgresql(connection: Any) -> None:
    if not connection.keeps_its_session:
        return  # As the project says: behind a transaction pooler it would be set on what others use.
    pid = _backend(connection)
    if pid != _told_backend(connection.connection) and _find_out(connection, pid):
        raise SharedSession(
            f"Database {connection.alias!r} is reached through a pooler that gives each transaction another session "
            f"(such as PgBouncer with pool_mode = transaction). Tell Django and canx_flow so: set "
            f'DATABASES[{connection.alias!r}]["DISABLE_SERVER_SIDE_CURSORS"] = True.'
        )
    settings = _postgresql_settings(connection.pg_version)
    calls = ", ".join(["set_config(%s, %s, false)"] * len(settings))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {calls}", [text for pair in settings.items() for text in pair])


def _postgresql_settings(version: int) -> dict[str, str]:
    settings = {
        "default_transaction_isolation": "read committed",
        # A little less than our own deadline: so a lock that is waited for too long costs no connection, and what we
        # have given up is given up by the server as well.
        "statement_timeout": f"{_server_patience() * 1000:.0f}",
        "lock_timeout": "0",
        "idle_in_transaction_session_timeout": f"{_idle() * 1000:.0f}",
        # Every statement of ours reaches its rows by primary key or by an index made for it. A planner that sees a
        # small or unanalysed table would rather read it whole.
        "enable_seqscan": "off",
    }
    if version >= 140_000:
        settings["idle_session_timeout"] = "0"
    if version >= 170_000:
        settings["transaction_timeout"] = "0"
    return settings


def _backend(connection: BaseDatabaseWrapper) -> int:
    """The process that serves this connection, or this statement of it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def _told_backend(raw: Any) -> int | None:
    """The process that it was told of when it connected. A pooler tells its own number."""
    with suppress(Exception):
        return int(raw.info.backend_pid)
    return None


#: Addresses at which each connection has a session of its own, though a pooler tells its own numbers there.
_own_sessions: set[tuple[object, ...]] = set()


def _find_out(connection: BaseDatabaseWrapper, pid: int) -> bool:
    """The same as `_is_shared`, of each address once: a second connection is to be had at a worker's start, perhaps not
    later on, when all of its connections look for their places in a full pool at once.
    """
    address = tuple(connection.settings_dict[name] for name in ("HOST", "PORT", "NAME", "USER"))
    if address in _own_sessions:
        return False
    shared = _is_shared(connection, pid)
    if not shared:
        _own_sessions.add(address)
    return shared


def _is_shared(connection: BaseDatabaseWrapper, pid: int) -> bool:
    """Whether two transactions of this connection have different sessions, or another connection has this one's.

    A pooler gives out the session that was used last, or the one that was not used for longest: both are seen.
    """
    other: Any = new(connection.alias)
    other.keeps_its_session = False  # Nothing is set on it.
    try:
        for _ in range(_ROUNDS):
            if _backend(connection) != pid:
                return True
            with other.cursor() as cursor:
                cursor.execute("BEGIN")
            try:
                if _backend(other) == pid or _backend(connection) != pid:
                    return True
            finally:
                with other.cursor() as cursor:
                    cursor.execute("ROLLBACK")
        return False
    finally:
        other.drop()


# -- MySQL, MariaDB --------------------------------------------------------------------------------


def _set_mysql(connection: Any) -> None:
    _keep_alive(connection.connection)
    seconds = max(1, int(_server_patience()))
    settings: dict[str, float] = {
        "innodb_lock_wait_timeout": seconds, "lock_wait_timeout": seconds, "wait_timeout": _WAIT_TIMEOUT,
    }  # fmt: skip
    if connection.mysql_is_mariadb:
        settings |= {"max_statement_time": seconds, "idle_transaction_timeout": ceil(_idle())}
    else:
        settings["max_execution_time"] = seconds * 1000
    assignments = ", ".join(f"SESSION {name} = {value}" for name, value in settings.items())
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SET {assignments}")
    except Error as error:
        if error.args[:1] != (_UNKNOWN_VARIABLE,):
            raise


def _keep_alive(raw: Any) -> None:
    """Its library has no options for that: what PostgreSQL's takes as such is set on the socket."""
    options = {"TCP_KEEPIDLE": "idle", "TCP_KEEPINTVL": "interval", "TCP_KEEPCNT": "count"}
    # No such socket, or no such system: the client's own deadline is there.
    with suppress(Exception), socket.socket(fileno=os.dup(raw.fileno())) as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, name in options.items():
            wire.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), _KEEPALIVE[name])
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _KEEPALIVE["user_timeout"])


_SETTINGS = {"postgresql": _set_postgresql, "mysql": _set_mysql}


def _server_patience() -> float:
    """Seconds after which the server gives up a statement of ours."""
    return patience() - 1.0


def _idle() -> float:
    """Seconds that a transaction of ours may stand still, as when this process does: others wait for its locks."""
    return max(conf.get().lease_seconds, _LEAST_IDLE)
