"""How an engine connection to PostgreSQL is opened: its options, its settings, and whether a pooler is in between.

Called by `session`. Nothing is ever set on a session that others may share.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from ..errors import SharedSession
from ..patience import KEEPALIVE, idle_patience, server_patience

_PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": KEEPALIVE["idle"],
    "keepalives_interval": KEEPALIVE["interval"],
    "keepalives_count": KEEPALIVE["count"],
    "tcp_user_timeout": KEEPALIVE["user_timeout"],
}
_ROUNDS = 3  # questions whether a session is shared: a pooler may go round its servers

#: Addresses at which each connection has a session of its own, though a pooler tells its own numbers there.
_own_sessions: set[tuple[object, ...]] = set()


def options(given: dict[str, Any]) -> dict[str, Any]:
    """Return a project's options, patient and READ COMMITTED, and without its pool."""
    from django.db.backends.postgresql.psycopg_any import IsolationLevel

    own = {**_PATIENCE, **given, "isolation_level": IsolationLevel.READ_COMMITTED}
    own.pop("pool", None)
    return own


def set_up(connection: Any) -> None:
    """Set the engine's own settings, unless the session is shared: then raise SharedSession."""
    pid = _backend(connection)
    if pid != _told_backend(connection.connection) and _is_shared_at_address(connection, pid):
        raise SharedSession(
            f"Database {connection.alias!r} is reached through a pooler that gives each transaction another session "
            f"(such as PgBouncer with pool_mode = transaction). Tell Django and canx_flow so: set "
            f'DATABASES[{connection.alias!r}]["DISABLE_SERVER_SIDE_CURSORS"] = True.'
        )
    settings = _settings(connection.pg_version)
    calls = ", ".join(["set_config(%s, %s, false)"] * len(settings))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {calls}", [text for pair in settings.items() for text in pair])


def _settings(version: int) -> dict[str, str]:
    settings = {
        "default_transaction_isolation": "read committed",
        "statement_timeout": f"{server_patience() * 1000:.0f}",
        "lock_timeout": "0",
        "idle_in_transaction_session_timeout": f"{idle_patience() * 1000:.0f}",
        # Every statement of the engine's reaches its rows by primary key or by an index made for it. A planner that
        # sees a small or unanalysed table would rather read it whole.
        "enable_seqscan": "off",
        # A small table that is read whole all the same seems so dear then that the statement would be compiled, which
        # takes a thousand times as long as to run it.
        "jit": "off",
    }
    if version >= 140_000:
        settings["idle_session_timeout"] = "0"
    if version >= 170_000:
        settings["transaction_timeout"] = "0"
    return settings


def _backend(connection: BaseDatabaseWrapper) -> int:
    """Return the process that serves this connection, or this statement of it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def _told_backend(raw: Any) -> int | None:
    """Return the process that it was told of when it connected. A pooler tells its own number."""
    with suppress(Exception):
        return int(raw.info.backend_pid)
    return None


def _is_shared_at_address(connection: BaseDatabaseWrapper, pid: int) -> bool:
    """Return the same as `_is_shared`, asked of each address once.

    A second connection is to be had at a worker's start, perhaps not later on, when all of its connections look for
    their places in a full pool at once.
    """
    address = tuple(connection.settings_dict[name] for name in ("HOST", "PORT", "NAME", "USER"))
    if address in _own_sessions:
        return False
    shared = _is_shared(connection, pid)
    if not shared:
        _own_sessions.add(address)
    return shared


def _is_shared(connection: BaseDatabaseWrapper, pid: int) -> bool:
    """Return whether two transactions of this connection have different sessions, or another connection has this one's.

    A pooler gives out the session that was used last, or the one that was not used for longest: both are seen.
    """
    # Nothing is set on the other one.
    settings = {**connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS": True}
    other: Any = type(connection)(settings, connection.alias)
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
