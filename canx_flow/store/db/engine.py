"""The engine's own connections and transactions.

Own connections, because the caller's may have options, transactions and lifetimes that the engine must not
inherit. The worker opens them; everything in `store` that needs a transaction uses `transaction`.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

from django.db import connections
from django.db import transaction as django_transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import Error

from . import sessions
from .errors import is_busy

_BEGIN = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": "BEGIN ISOLATION LEVEL READ COMMITTED",
}

#: Of each alias. A thread may hold it more than once: a transaction within a transaction.
_turns: dict[str, threading.RLock] = defaultdict(threading.RLock)
_NO_TURN = nullcontext()


def open_connection(alias: str) -> BaseDatabaseWrapper:
    """A new connection to the database `alias`, of nobody's thread and outside any pool.

    It opens at its first statement. Whoever takes it drops it with `reset`; one thread at a time may use it.
    """
    return sessions.new(alias)


def is_own(connection: BaseDatabaseWrapper) -> bool:
    """Whether this is one of `open_connection`'s: only the session of such a one may be changed."""
    return isinstance(connection, sessions.Own)


def reset(connection: BaseDatabaseWrapper) -> None:
    """Drop what is behind an engine connection, whatever state it is in; its next statement opens a new one."""
    connection.in_atomic_block = False
    connection.atomic_blocks = []
    connection.savepoint_ids = []
    connection.run_on_commit = []
    connection.needs_rollback = False
    connection.closed_in_transaction = False
    if isinstance(connection, sessions.Own):
        connection.drop()
        return
    raw, connection.connection = connection.connection, None
    if raw is not None:
        with suppress(Exception):
            raw.close()


@contextmanager
def use_engine_connection(alias: str) -> Iterator[BaseDatabaseWrapper]:
    """Let ORM code of this thread use an engine connection for `alias`; drops it at the end."""
    previous = connections[alias]
    connection = open_connection(alias)
    connections[alias] = connection
    try:
        yield connection
    finally:
        connections[alias] = previous
        reset(connection)


@contextmanager
def current(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Let ORM code of this thread use `connection` for its alias."""
    before = connections[connection.alias]
    if before is connection:
        yield
        return
    connections[connection.alias] = connection
    try:
        yield
    finally:
        connections[connection.alias] = before


@contextmanager
def transaction(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """A transaction on `connection`; where one is open already, part of that: by a savepoint, if it is the project's.

    A connection lost on the way is dropped, so that the next transaction starts on a new one.
    """
    is_current = connections[connection.alias] is connection
    # Code of the project, such as a signal's receiver, may have opened it with Django's `atomic`, which is noted there.
    if connection.in_atomic_block and is_own(connection) and not connection.atomic_blocks:
        with _joined(connection):
            yield
    elif not connection.in_atomic_block and (is_own(connection) or not is_current):
        with turn(connection), _outermost(connection):
            yield
    elif is_current:
        # No turn: an engine connection comes here with its transaction open, and who has the turn may wait for that.
        with django_transaction.atomic(using=connection.alias):
            yield
    else:
        with _savepoint(connection):
            yield


def together(connection: BaseDatabaseWrapper) -> AbstractContextManager[object]:
    """One transaction around several where the database has one lock for writing: it is waited for once, not for each.

    Elsewhere nothing: they lock less, and for a shorter time, one by one.
    """
    return transaction(connection) if connection.vendor == "sqlite" else _NO_TURN


def turn(connection: BaseDatabaseWrapper) -> AbstractContextManager[object]:
    """What is to be held around a write of the engine's own, so that this process's threads write one after another.

    SQLite has one lock, and who finds it taken sleeps, longer each time, and looks again: two busy threads of one
    worker would starve each other for tens of milliseconds. Here each is woken when the other is done.
    """
    return _turns[connection.alias] if connection.vendor == "sqlite" and is_own(connection) else _NO_TURN


@contextmanager
def _outermost(connection: BaseDatabaseWrapper) -> Iterator[None]:
    # Not by switching autocommit, as `atomic` does: that costs MySQL two more round trips per transaction.
    _begin(connection)
    try:
        yield
        connection.validate_no_broken_transaction()
        connection.in_atomic_block = False
        connection.commit()
    except BaseException:
        _roll_back(connection)
        raise
    connection.autocommit = True
    connection.run_commit_hooks_on_set_autocommit_on = False
    connection.run_and_clear_commit_hooks()


def _begin(connection: BaseDatabaseWrapper) -> None:
    begin = _BEGIN.get(connection.vendor, "START TRANSACTION")
    was_open = connection.connection is not None
    try:
        _execute(connection, begin)
    except Error as exc:
        if is_busy(exc):
            raise
        reset(connection)
        if not was_open:
            raise
        # The server dropped an idle connection. Nothing was sent on it: a new one may simply begin again.
        _execute(connection, begin)
    connection.autocommit = False
    connection.in_atomic_block = True
    connection.needs_rollback = False


def _execute(connection: BaseDatabaseWrapper, statement: str) -> None:
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        with connection.wrap_database_errors:
            connection.connection.cursor().execute(statement)
        return
    with connection.cursor() as cursor:
        cursor.execute(statement)


def _roll_back(connection: BaseDatabaseWrapper) -> None:
    connection.in_atomic_block = False
    try:
        connection.rollback()
        connection.autocommit = True
    except Error:
        reset(connection)


@contextmanager
def _joined(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Part of the engine's own transaction: what fails here undoes all of it, even if somebody swallows the error."""
    try:
        yield
    except BaseException:
        connection.needs_rollback = True
        raise


@contextmanager
def _savepoint(connection: BaseDatabaseWrapper) -> Iterator[None]:
    point = connection.savepoint()
    if point is None:
        raise django_transaction.TransactionManagementError("This database has no savepoints.")
    try:
        yield
    except BaseException:
        with suppress(Error):
            connection.savepoint_rollback(point)
            connection.savepoint_commit(point)
        raise
    connection.savepoint_commit(point)
