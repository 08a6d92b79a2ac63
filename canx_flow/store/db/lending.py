"""The project's connections in the threads of a worker: lent to user code, and taken back as they were.

Called by the worker's threads through `upkeep` (a piece of work begins, has ended), and by the drivers around each
step. A thread that does not keep its connections, such as a test's, lends nothing: there nothing here does anything.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from .databases import session_of
from .lent import Lent
from .own import is_own


class Thread:
    """What a thread has lent."""

    __slots__ = ("lent", "opened")

    def __init__(self) -> None:
        #: By alias.
        self.lent: dict[str, Lent] = {}
        #: How often a connection was opened here.
        self.opened = 0

    def lend(self, connection: Any) -> Lent:
        """Lend this connection from now on, for its alias."""
        lent = self.lent[connection.alias] = Lent(connection, self.lend)
        return lent

    def lent_as(self, connection: Any) -> Lent | None:
        """Return what this connection is lent as, `None` if it is not."""
        lent = self.lent.get(connection.alias)
        return lent if lent is not None and lent.connection is connection else None

    def begin_step(self) -> None:
        """Have connections that work; what the body has told a session reaches no step."""
        for lent in self.lent.values():
            lent.ended = False
            if lent.connection.connection is not None:
                lent.begin_step()

    def end_step(self) -> None:
        """Take back what a step has told a session."""
        for lent in self.lent.values():
            if lent.connection.connection is not None:
                lent.end_step()


class _Local(threading.local):
    def __init__(self) -> None:
        self.thread = Thread()


_local = _Local()


def this_thread() -> Thread:
    """Return what the calling thread has lent."""
    return _local.thread


# -- a piece of work: an activation, or a step in a thread of its own ------------------------------


def begin() -> None:
    """Have this thread's connections sound, and their sessions as when they were opened."""
    thread = _local.thread
    for connection in _project_connections():
        (thread.lent_as(connection) or thread.lend(connection)).begin()


def end() -> None:
    """Undo at once what is known to have been changed: locks, listening. The rest has time until `begin`."""
    for lent in _local.thread.lent.values():
        lent.end()


def close() -> None:
    """Close this thread's connections: there is no more work for now."""
    for lent in _local.thread.lent.values():
        lent.close()
    connections.close_all()


def give_back() -> None:
    """Close this thread's connections that are in no transaction, while it waits: the engine may find no others."""
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block or is_own(connection):
            continue
        lent = _local.thread.lent_as(connection)
        if lent is not None:
            lent.close()
        connection.close()


def _project_connections() -> Iterable[BaseDatabaseWrapper]:
    for alias in connections:
        with suppress(ImproperlyConfigured):  # User code that uses that one is told so.
            connection = connections[alias]
            if not is_own(connection):
                yield connection


# -- how a connection stands -----------------------------------------------------------------------


def left_open() -> str | None:
    """Return the alias of a connection that was left inside a transaction, or without autocommit."""
    for alias, lent in _local.thread.lent.items():
        if lent.connection.connection is not None and lent.is_left_open():
            return alias
    return None


def in_transaction(connection: Any) -> bool:
    """Return whether the session itself is in a transaction, however that was begun, without asking the server."""
    lent = _local.thread.lent_as(connection)
    if lent is not None:
        return lent.is_in_transaction()
    return connection.connection is not None and session_of(connection).is_in_transaction()


def was_ended(connection: Any) -> bool:
    """Return whether the transaction of an `atomic` block was committed or rolled back by hand, inside of it."""
    told = session_of(connection).was_ended_by_hand()
    if told is not None:
        return told
    lent = _local.thread.lent_as(connection)
    return lent is not None and lent.ended


def _session_opened(connection: BaseDatabaseWrapper, **_kwargs: Any) -> None:
    thread = _local.thread
    thread.opened += 1
    lent = thread.lent_as(connection)
    if lent is not None:
        lent.opened()


connection_created.connect(_session_opened, dispatch_uid="canx_flow.store.db.lending")
