"""Several callers at the same rows at once: what is repeated, and what goes one by one.

Called by the verbs. A caller's transaction is never broken by a rival for one key or one dedup id.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from .db.errors import is_conflict

T = TypeVar("T")

#: Times that a deadlock or a serialization failure repeats a transaction of our own.
_REPEATS = 4
_LONGEST_PAUSE = 0.02
#: Seconds to let a rival go first. It is a rival of somebody's long transaction then, and a lock may have to tell.
_PATIENCE = 10


def repeated(alias: str, attempt: Callable[[], T]) -> T:
    """What `attempt` returns, in a transaction: one of our own, repeated where it met a deadlock, or the caller's.

    The caller's is the caller's to repeat: it is there by a savepoint.
    """
    connection = connections[alias]
    if _is_open(connection):
        with transaction.atomic(using=alias):
            return attempt()
    repeats = 0
    while True:
        try:
            with _read_committed(connection) if repeats else transaction.atomic(using=alias):
                return attempt()
        except Error as error:
            if repeats == _REPEATS or not is_conflict(error):
                raise
        repeats += 1
        time.sleep(random.uniform(0, _LONGEST_PAUSE))  # So that those who met part.


@contextmanager
def _read_committed(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """A transaction that sees what others have committed meanwhile, whatever the project's sessions do."""
    level = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
    if connection.vendor == "mysql":  # Of the next transaction.
        with connection.cursor() as cursor:
            cursor.execute(level)
    with transaction.atomic(using=connection.alias):
        if connection.vendor == "postgresql":  # Of this one.
            with connection.cursor() as cursor:
                cursor.execute(level)
        yield


@contextmanager
def one_by_one(connection: BaseDatabaseWrapper, contest: str) -> Iterator[None]:
    """Around an INSERT that may meet a rival for a unique value; `contest` is what they are rivals for.

    On MySQL, two that wait for a third's row both get a shared lock on its place when that is rolled back (or was
    deleted, and not purged yet), and then each waits for the other's: a deadlock, which costs a caller its whole
    transaction. So only one session at a time waits there. Elsewhere, rivals wait in a row by themselves.
    """
    if connection.vendor != "mysql":
        yield
        return
    scope = [str(connection.settings_dict["NAME"]), contest]
    name = f"canx_flow:{hashlib.sha256(repr(scope).encode()).hexdigest()[:40]}"
    # Where there are no such locks, as in some clusters, it is done without.
    with suppress(Error), connection.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK(%s, %s)", [name, _PATIENCE])
        cursor.fetchone()
    try:
        yield
    finally:
        # Not by Django's cursor, which refuses after an error: the session would keep it.
        with suppress(Exception), connection.connection.cursor() as cursor:
            cursor.execute("SELECT RELEASE_LOCK(%s)", [name])
            cursor.fetchone()


def _is_open(connection: BaseDatabaseWrapper) -> bool:
    return connection.in_atomic_block or not connection.get_autocommit()
