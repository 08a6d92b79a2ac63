"""Which database a connection speaks to: the one place that asks, once for each connection.

To serve another database, write a class for it beside `postgresql`, `mysql` and `sqlite`, and name it here. It begins
as `Portable` and says what differs: its statements, how an engine connection is opened, what a project's session is
taken back by. Beside it there is `errors`, the table of what its errors mean; `core.columns`, the few columns whose
types differ; and `checks.databases`, which refuses a database that it does not know.
"""

from __future__ import annotations

import threading

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend

from .mysql import MySQL
from .own import Own
from .portable import Portable
from .postgresql.session import PostgreSQL
from .sqlite import SQLite

#: By the name that Django's backends give themselves.
_DATABASES: dict[str, type[Portable]] = {"postgresql": PostgreSQL, "mysql": MySQL, "sqlite": SQLite}


class _Thread(threading.local):
    """The sessions of this thread's project connections, by alias."""

    def __init__(self) -> None:
        self.sessions: dict[str, Portable] = {}


_thread = _Thread()


def session_of(connection: BaseDatabaseWrapper) -> Portable:
    """Return the session of a connection: an engine connection has its own, a project's has one in each thread."""
    if isinstance(connection, Own):
        return connection.session  # type: ignore[return-value]
    known = _thread.sessions.get(connection.alias)
    if known is None or known.connection is not connection:
        known = _thread.sessions[connection.alias] = _database(connection.vendor)(connection)
    return known


def session_for(alias: str) -> Portable:
    """Return the session of this thread's connection to the database `alias`."""
    return session_of(connections[alias])


def database_of(backend: str) -> type[Portable]:
    """Return the class for the sessions of connections that this backend makes: an ENGINE of DATABASES."""
    return _database(load_backend(backend).DatabaseWrapper.vendor)


def _database(vendor: str) -> type[Portable]:
    return _DATABASES.get(vendor, Portable)
