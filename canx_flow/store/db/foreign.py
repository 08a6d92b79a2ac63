"""What may be done to a project's connection from outside, whatever its driver: end it, look at it, make it as new.

Called by `lending`. Nothing is known here of threads and of what was sent.
"""

from __future__ import annotations

import select
from contextlib import suppress
from typing import Any

#: What undoes what a session may have been told, but for what Django and the project told it when it was opened.
#: `DISCARD ALL` would do the same and more: it forgets the plans, and runs in no batch of statements.
_RESET = (
    "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; SELECT pg_catalog.pg_advisory_unlock_all(); "
    "DISCARD TEMP; DISCARD SEQUENCES"
)
_TOLD = """
    SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session'
    UNION ALL SELECT 'role', pg_catalog.current_setting('role')
"""
_IDLE_OR_UNKNOWN = (0, 4)  # libpq's words for a session outside any transaction, and for one that is lost


def drop(connection: Any) -> None:
    """End what is behind a project's connection, whatever state it is in; a pool gets its place back."""
    raw = connection.connection
    connection.in_atomic_block = False
    connection.atomic_blocks = []
    connection.savepoint_ids = []
    connection.run_on_commit = []
    connection.needs_rollback = False
    connection.closed_in_transaction = False
    connection.errors_occurred = False
    if raw is None:
        return
    if has_pool(connection):
        with suppress(Exception):
            raw.close()  # Which the pool will see, and open another.
    try:
        connection.close()
    except Exception:  # noqa: BLE001 - it is given up
        connection.connection = None
    if connection.connection is not None:  # SQLite in memory, which Django never closes.
        with suppress(Exception):
            connection.rollback()
            connection.set_autocommit(connection.settings_dict["AUTOCOMMIT"])


def is_in_transaction(connection: Any) -> bool:
    """Whether the session is in a transaction, as far as its driver tells: MySQL's tells of autocommit only."""
    raw = connection.connection
    try:
        if connection.vendor == "mysql":
            return not _has_autocommit(raw)
        if connection.vendor == "sqlite":
            return bool(raw.in_transaction)
        return raw.info.transaction_status not in _IDLE_OR_UNKNOWN
    except AttributeError:  # Another driver.
        return False


def _has_autocommit(raw: Any) -> bool:
    try:
        return bool(raw.get_autocommit())
    except Exception:  # noqa: BLE001 - another driver, or a connection that is lost
        return True


def has_pool(connection: Any) -> bool:
    return bool(getattr(connection, "pool", None))


def reset_of(connection: Any) -> str:
    """What takes a new session back to what it is now; empty where there is no such thing."""
    if connection.vendor != "postgresql" or not connection.get_autocommit():
        return ""
    known: str | None = getattr(connection.connection, "canx_flow_reset", None)
    if known is not None:  # From a pool, which gets it back reset.
        return known
    try:
        from psycopg import sql
    except ImportError:
        return ""
    with connection.connection.cursor() as cursor:
        cursor.execute(_TOLD)
        told = [(name, value) for name, value in cursor.fetchall() if (name, value) != ("role", "none")]
    again = [f"; SELECT pg_catalog.set_config({sql.quote(name)}, {sql.quote(value)}, false)" for name, value in told]
    reset = _RESET + "".join(again)
    with suppress(AttributeError):
        connection.connection.canx_flow_reset = reset
    return reset


def news_of(raw: Any) -> Any:
    """What tells whether a server has said something unasked, as it does when it ends a session."""
    try:
        news = select.poll()
        news.register(raw.fileno(), select.POLLIN)
    except Exception:  # noqa: BLE001 - SQLite, or another driver
        return None
    return news


def has_come(news: Any) -> bool:
    return news is not None and bool(news.poll(0))
