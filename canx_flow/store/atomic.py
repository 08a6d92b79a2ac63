"""An atomic step: its function's writes and its record in one transaction of the thread's own connection.

Called by the ports. Fence and record are the last two statements, so that nobody waits for the run's row while
the function runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..changes import Change, Outcome
from . import writes
from .errors import is_busy, is_deadlock

_REPEATS = 3  # times that a deadlock, serialization failure or locked file calls it again, uncounted


class Late(Exception):  # noqa: N818 - never seen: its thread was left behind
    """The attempt timed out before it could commit."""


class _Refused(Exception):  # noqa: N818 - only rolls the transaction back
    def __init__(self, outcome: Outcome, change: Change) -> None:
        super().__init__()
        self.outcome = outcome
        self.change = change


def call(
    connection: BaseDatabaseWrapper,
    owner: UUID,
    commit: Callable[[Any], tuple[Change, Any]],
    invoke: Callable[[], Any],
    shut: Callable[[], bool],
) -> tuple[Outcome, Change, Any]:
    """`invoke()`, then the change that `commit` makes of its value; what became of it, the change, and the answer.

    `shut` is asked once, before the commit: False means that the attempt has timed out, and all is rolled back.
    """
    first = True

    def passed() -> bool:
        nonlocal first
        allowed = not first or shut()
        first = False
        return allowed

    for _ in range(_REPEATS):
        try:
            return _once(connection, owner, commit, invoke, passed)
        except _Refused as refused:
            return refused.outcome, refused.change, None
        except Exception as error:
            # Busy: SQLite's file was locked by another writer, and the function has not even been called.
            if connection.in_atomic_block or not (is_deadlock(error) or is_busy(error)):
                raise
    return _once(connection, owner, commit, invoke, passed)


def _once(
    connection: BaseDatabaseWrapper,
    owner: UUID,
    commit: Callable[[Any], tuple[Change, Any]],
    invoke: Callable[[], Any],
    passed: Callable[[], bool],
) -> tuple[Outcome, Change, Any]:
    with _immediate(connection), transaction.atomic(using=connection.alias):
        change, answer = commit(invoke())
        if not passed():
            raise Late
        outcome = writes.write_waiting(connection, owner, change)
        if not outcome.stored:
            raise _Refused(outcome, change)
    return outcome, change, answer


@contextmanager
def _immediate(connection: Any) -> Iterator[None]:
    """SQLite's write lock taken at the beginning: a transaction that reads first could not get it later."""
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        yield
        return
    connection.ensure_connection()
    before, connection.transaction_mode = connection.transaction_mode, "IMMEDIATE"
    try:
        yield
    finally:
        connection.transaction_mode = before
