"""Several callers at the same rows at once: what is repeated, and what goes one by one.

Called by the verbs. A caller's transaction is never broken by a rival for one key or one dedup id.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from django.db import Error, IntegrityError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from .db.databases import session_of
from .db.errors import is_conflict

T = TypeVar("T")

#: Times that a deadlock or a serialization failure repeats a transaction of our own.
_REPEATS = 4
_LONGEST_PAUSE = 0.02


def repeated(alias: str, attempt: Callable[[], T]) -> T:
    """Call `attempt` in a transaction, and return what it returns: our own, repeated after a deadlock, or the caller's.

    The caller's is the caller's to repeat: `attempt` is a savepoint of it.
    """
    connection = connections[alias]
    if _is_open(connection):
        with transaction.atomic(using=alias):
            return attempt()
    repeats = 0
    while True:
        try:
            with session_of(connection).read_committed() if repeats else transaction.atomic(using=alias):
                return attempt()
        except Error as error:
            if repeats == _REPEATS or not is_conflict(error):
                raise
        repeats += 1
        time.sleep(random.uniform(0, _LONGEST_PAUSE))  # So that callers which met do not meet again.


def lock_first(alias: str) -> None:
    """Have the open transaction, which is to read before it writes, not fail for what others write in between.

    That is so on SQLite, in a transaction that has not begun IMMEDIATE.
    """
    session_of(connections[alias]).lock_first()


def stored(alias: str, row: Model) -> bool:
    """Store a new row; `False` if a rival has stored one with its unique value."""
    try:
        with transaction.atomic(using=alias):
            row.save(using=alias, force_insert=True)
    except IntegrityError:
        return False
    return True


def one_by_one(connection: BaseDatabaseWrapper, contest: str) -> AbstractContextManager[object]:
    """Return what goes around an INSERT that may meet a rival for a unique value, where rivals must go one by one."""
    return session_of(connection).one_by_one(contest)


def _is_open(connection: BaseDatabaseWrapper) -> bool:
    return connection.in_atomic_block or not connection.get_autocommit()
