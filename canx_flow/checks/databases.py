"""Checks of the database that the engine works in, and of its connection pool.

All but two read settings only. Those two carry `Tags.database`, so a plain `check` never connects.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime, tzinfo
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004 - Django's name
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from .. import conf
from ..core import clock
from ..store.db import pool

#: What `runflowworker` takes for --concurrency.
DEFAULT_CONCURRENCY = 16
_KNOWN = ("sqlite", "postgresql", "mysql")
_DUMMY = "django.db.backends.dummy"
_WAL = re.compile(r"\bjournal_mode\s*=\s*['\"]?wal\b", re.IGNORECASE)


@register("canx_flow")
def check_kind(**_kwargs: Any) -> list[CheckMessage]:
    """Refuse other databases: the hand-written statements know four, and one driver of PostgreSQL's."""
    connection = engine_connection()
    if connection is None:
        return []
    if connection.vendor not in _KNOWN:
        message = (
            f"canx_flow works on SQLite, PostgreSQL, MariaDB and MySQL; the ENGINE of database {connection.alias!r} is "
            f"{connection.settings_dict['ENGINE']!r}."
        )
        hint = 'Give the runs another database: CANX_FLOW = {"DATABASE": …}.'
        return [Error(message, hint=hint, id="canx_flow.E009")]
    if connection.vendor == "postgresql" and not _has_psycopg3():
        message = f"canx_flow needs psycopg 3; database {connection.alias!r} is reached through psycopg2."
        return [Error(message, hint='pip install "psycopg[binary]": Django prefers it.', id="canx_flow.E010")]
    return []


def _has_psycopg3() -> bool:
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    return bool(is_psycopg3)


@register("canx_flow")
def check_autocommit(**_kwargs: Any) -> list[CheckMessage]:
    """Refuse AUTOCOMMIT off: nothing that a step or a control call writes would be committed by itself."""
    connection = engine_connection()
    if connection is None or connection.settings_dict["AUTOCOMMIT"]:
        return []
    message = (
        f"AUTOCOMMIT is off for database {connection.alias!r}: an atomic step could not commit, and what any other "
        f"step writes there would be rolled back."
    )
    hint = (
        f"Leave AUTOCOMMIT out of DATABASES[{connection.alias!r}]; where several writes belong together, use atomic()."
    )
    return [Error(message, hint=hint, id="canx_flow.E015")]


@register("canx_flow")
def check_time_zone(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of a database that stores moments without their zone, in a TIME_ZONE of its own that has clock changes."""
    connection = engine_connection()
    if connection is None or connection.features.supports_timezones or not _has_summer_time(connection.timezone):
        return []
    message = (
        f"Database {connection.alias!r} stores local times of {connection.timezone_name}: a local time that occurs "
        f"twice cannot order timers."
    )
    hint = f"Leave TIME_ZONE out of DATABASES[{connection.alias!r}]: the times are then stored in UTC."
    return [Error(message, hint=hint, id="canx_flow.E014")]


def _has_summer_time(zone: tzinfo | None) -> bool:
    year = clock.now().year
    return zone is not None and len({datetime(year, month, 1, tzinfo=zone).utcoffset() for month in range(1, 13)}) > 1


@register(Tags.database)
def check_skip_locked(databases: Collection[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
    """Refuse a database without SKIP LOCKED: workers would wait for one another's rows."""
    connection = _asked(databases)
    if connection is None or connection.vendor != "mysql" or connection.features.has_select_for_update_skip_locked:
        return []
    version = ".".join(map(str, connection.get_database_version()))
    message = f"The server of database {connection.alias!r} (version {version}) is too old: it has no SKIP LOCKED."
    return [Error(message, hint="canx_flow needs MariaDB 10.6 or MySQL 8.0.1 at least.", id="canx_flow.E011")]


# -- SQLite ----------------------------------------------------------------------------------------


@register("canx_flow")
def check_sqlite_transactions(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of DEFERRED transactions: one that reads first and writes later fails instead of waiting."""
    connection = engine_connection()
    if connection is None or not _is_sqlite_file(connection):
        return []
    mode = _options(connection.alias).get("transaction_mode")
    if str(mode).upper() in {"IMMEDIATE", "EXCLUSIVE"}:
        return []
    message = (
        f"Transactions on the SQLite database {connection.alias!r} begin without the write lock. One that reads before "
        f'it writes fails with "database is locked" when a worker has written meanwhile.'
    )
    return [Warning(message, hint=_sqlite_hint(connection.alias), id="canx_flow.W001")]


@register(Tags.database)
def check_sqlite_journal(databases: Collection[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
    """Warn of SQLite without WAL: readers keep writers waiting, and writers readers."""
    connection = _asked(databases)
    if connection is None or not _is_sqlite_file(connection) or _journal_mode(connection) == "wal":
        return []
    message = (
        f"The SQLite database {connection.alias!r} is not in WAL mode: whoever reads makes the workers wait with what "
        f"they write, and they make readers wait."
    )
    return [Warning(message, hint=_sqlite_hint(connection.alias), id="canx_flow.W002")]


def _is_sqlite_file(connection: Any) -> bool:
    """Tell whether several processes can use it: a database in memory they cannot."""
    return connection.vendor == "sqlite" and not connection.is_in_memory_db()


def _journal_mode(connection: BaseDatabaseWrapper) -> str:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        return str(cursor.fetchone()[0]).lower()


def _sqlite_hint(alias: str) -> str:
    """Return the line for the settings, with the options that are there already."""
    given = _options(alias)
    commands = str(given.get("init_command") or "").strip().rstrip(";")
    if not _WAL.search(commands):
        commands = f"{commands}; PRAGMA journal_mode=WAL" if commands else "PRAGMA journal_mode=WAL"
    options = {**given, "transaction_mode": "IMMEDIATE", "init_command": commands}
    return f"Add this line after DATABASES in your settings: DATABASES[{alias!r}]['OPTIONS'] = {options!r}"


# -- the connection pool ---------------------------------------------------------------------------


@register("canx_flow")
def check_pool(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of a pool too small for the default concurrency; a worker checks its own at its start."""
    connection = engine_connection()
    if connection is None or connection.vendor != "postgresql" or not _options(connection.alias).get("pool"):
        return []
    if connection.settings_dict["CONN_MAX_AGE"] != 0:
        message = f"Database {connection.alias!r} has a connection pool and CONN_MAX_AGE: Django refuses to connect."
        return [Error(message, hint="Leave CONN_MAX_AGE at 0: the pool keeps connections.", id="canx_flow.E013")]
    message = pool.shortage(connection.alias, DEFAULT_CONCURRENCY)
    if not message:
        return []
    hint = (
        f"Set OPTIONS['pool'] = {{'max_size': {pool.needed(DEFAULT_CONCURRENCY)}}}, up to "
        f"{pool.enough(DEFAULT_CONCURRENCY)} where plain steps have timeouts or belong to async workflows; or start "
        f"the workers with a lower --concurrency."
    )
    return [Warning(message, hint=hint, id="canx_flow.W005")]


# -- what is looked at -----------------------------------------------------------------------------


def engine_connection() -> BaseDatabaseWrapper | None:
    """Return the engine's connection, not opened; `None` if there is none to check."""
    try:
        alias = conf.get().database
    except ImproperlyConfigured:
        return None  # Reported with another id.
    return connections[alias] if is_used(alias) else None


def _asked(databases: Collection[str] | None) -> BaseDatabaseWrapper | None:
    """Return the engine's connection if it is one of the databases that may be connected to."""
    connection = engine_connection()
    return connection if connection is not None and connection.alias in (databases or ()) else None


def is_used(alias: str) -> bool:
    """Tell whether the alias has a database behind it."""
    return bool(connections.settings[alias]["ENGINE"] != _DUMMY)


def _options(alias: str) -> dict[str, Any]:
    options: dict[str, Any] = connections.settings[alias]["OPTIONS"]
    return options
