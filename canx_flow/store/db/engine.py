"""The engine's own connections and transactions.

Own connections, because the caller's may have options, transactions and lifetimes that the engine must not
inherit. The worker opens them; everything in `store` that needs a transaction uses `transaction`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache

from django.db import connections
from django.db import transaction as django_transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import Error, load_backend

from .databases import database_of, session_of
from .errors import is_busy
from .own import Own, is_own, reset

__all__ = ["current", "is_own", "open_connection", "reset", "together", "transaction", "turn", "use_engine_connection"]

_NO_TURN = nullcontext()


def open_connection(alias: str) -> BaseDatabaseWrapper:
    """Return a new connection to the database `alias`, of no thread and outside any pool.

    It opens at its first statement. The code that opens it drops it with `reset`; one thread at a time may use it.
    """
    settings = connections.settings[alias]
    # Not a deep copy: options may hold an SSL context, which cannot be copied.
    own = {
        "OPTIONS": database_of(settings["ENGINE"]).options(settings["OPTIONS"]),
        "AUTOCOMMIT": True, "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": False,
    }  # fmt: skip
    return _class(settings["ENGINE"])({**settings, **own}, alias)


@cache
def _class(backend: str) -> type[BaseDatabaseWrapper]:
    """Return the backend's own class of connections, joined with ours."""
    return type("EngineConnection", (Own, load_backend(backend).DatabaseWrapper), {"speaks": database_of(backend)})


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
    """Open a transaction on `connection`; where one is open already, a part of it: by a savepoint, if it is a caller's.

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
        # No turn: an engine connection comes here with its transaction open, and the thread that has the turn may wait
        # for that.
        with django_transaction.atomic(using=connection.alias):
            yield
    else:
        with _savepoint(connection):
            yield


def together(connection: BaseDatabaseWrapper) -> AbstractContextManager[object]:
    """Return one transaction around several where the database has one lock for writing: it is waited for once.

    Elsewhere nothing: they lock less, and for a shorter time, one by one.
    """
    return transaction(connection) if session_of(connection).has_one_writer else _NO_TURN


def turn(connection: BaseDatabaseWrapper) -> AbstractContextManager[object]:
    """Return what to hold around a write of the engine's own, so that this process's threads write one by one."""
    return session_of(connection).turn()


@contextmanager
def _outermost(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Begin and end a transaction, by statements of our own."""
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
    session = session_of(connection)
    was_open = connection.connection is not None
    try:
        session.begin()
    except Error as exc:
        if is_busy(exc):
            raise
        reset(connection)
        if not was_open:
            raise
        # The server dropped an idle connection. Nothing was sent on it: a new one may simply begin again.
        session.begin()
    connection.autocommit = False
    connection.in_atomic_block = True
    connection.needs_rollback = False


def _roll_back(connection: BaseDatabaseWrapper) -> None:
    connection.in_atomic_block = False
    try:
        connection.rollback()
        connection.autocommit = True
    except Error:
        reset(connection)


@contextmanager
def _joined(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Be part of the engine's own transaction: what fails here undoes all of it, even if the error is swallowed."""
    try:
        yield
    except BaseException:
        connection.needs_rollback = True
        raise


@contextmanager
def _savepoint(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Be part of a transaction that is open on a connection which is not this thread's for its alias."""
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
