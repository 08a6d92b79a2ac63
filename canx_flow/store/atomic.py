"""An atomic step: its function's writes and its record in one transaction of the thread's own connection.

Called by the ports. Fence and record are the last two statements, so that no other transaction waits for the run's row
while the function runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db import Error, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError

from ..core import current
from ..core.backoff import Backoff
from ..core.changes import Change, NotTaken, Outcome
from ..exceptions import InsideTransaction
from ..observe import announce, facts
from . import unclear, writes
from .db.databases import session_of
from .db.errors import Verdict, is_aborted, is_busy, is_deadlock, verdict

_FIRST_PAUSE, _MOST_PAUSE = 0.1, 3.0  # seconds between two questions for what became of a commit
_REPEATS = 3  # times that a deadlock, serialization failure or locked file calls it again, uncounted


class Late(Exception):  # noqa: N818 - never seen: its thread was left behind
    """The attempt timed out before it could commit."""


class _End:
    """How far the transaction has come: which record is its last statement, and whether that was taken."""

    change: Change | None = None
    answer: Any = None
    written = False


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
    """Call `invoke`, then write the change that `commit` makes of its value; return what became of it, the change, and
    the answer.

    `shut` is asked once, before the commit: False means that the attempt has timed out, and all is rolled back.
    NotTaken is raised for what is no failure of the step.
    """
    passed = _asked_once(shut)
    repeats = 0 if connection.in_atomic_block else _REPEATS
    while True:
        end = _End()
        try:
            return _once(connection, owner, commit, invoke, passed, end)
        except _Refused as refused:
            return refused.outcome, refused.change, None
        except Exception as error:
            stored = _committed(connection, owner, end)
            if stored is not None:
                return stored
            repeats -= 1
            # Busy: SQLite's file was locked by another writer, and the function has not even been called.
            if repeats >= 0 and (is_deadlock(error) or is_busy(error)):
                continue
            if end.change is not None and _is_not_the_steps(error, end):
                raise NotTaken from error
            raise


def _asked_once(shut: Callable[[], bool]) -> Callable[[], bool]:
    """Return `shut`, asked at the first commit alone: an attempt that has passed once may be repeated."""
    asked = False

    def passed() -> bool:
        nonlocal asked
        allowed = asked or shut()
        asked = True
        return allowed

    return passed


def _once(
    connection: BaseDatabaseWrapper,
    owner: UUID,
    commit: Callable[[Any], tuple[Change, Any]],
    invoke: Callable[[], Any],
    passed: Callable[[], bool],
    end: _End,
) -> tuple[Outcome, Change, Any]:
    is_outermost = not connection.in_atomic_block
    if is_outermost and not connection.get_autocommit():
        raise InsideTransaction(
            f"autocommit is off on {connection.alias!r}: an atomic step begins its transaction, and commits it, itself."
        )
    with session_of(connection).locking_at_its_begin(), transaction.atomic(using=connection.alias):
        change, answer = commit(invoke())
        if not passed():
            raise Late
        end.change, end.answer = change, answer
        outcome = writes.write_waiting(connection, owner, change)
        if not outcome.stored:
            raise _Refused(outcome, change)
        if is_outermost:  # In a TestCase they are the test's.
            _guard_hooks(connection)
        end.written = True
    return outcome, change, answer


def _guard_hooks(connection: Any) -> None:
    """Let no `on_commit` function undo by its error what is stored by then, nor keep the others from being called."""
    connection.run_on_commit = [(points, _guarded(hook), False) for points, hook, _ in connection.run_on_commit]


def _guarded(hook: Callable[[], object]) -> Callable[[], None]:
    this = current.step.get()

    def guarded() -> None:
        try:
            hook()
        except BaseException as error:  # noqa: BLE001 - the step is stored, whatever it raises
            run_id, step = (None, None) if this is None else (this.run_id, this.name)
            announce(facts.CommitHookFailed(run_id, step, error))

    return guarded


def _committed(connection: BaseDatabaseWrapper, owner: UUID, end: _End) -> tuple[Outcome, Change, Any] | None:
    """Ask, until that is known, what became of a COMMIT that was not answered with yes; `None`: nothing is stored."""
    change = end.change
    if change is None or not end.written or connection.in_atomic_block:
        return None
    backoff = Backoff(_FIRST_PAUSE, _MOST_PAUSE)
    while True:
        try:
            with transaction.atomic(using=connection.alias):
                outcome = unclear.after_commit(connection, owner, change)
            return None if outcome is None else (outcome, change, end.answer)
        except Error:
            connection.close()
        time.sleep(backoff.failed())


def _is_not_the_steps(error: Exception, end: _End) -> bool:
    """Return whether the step has not failed: its record was not taken, or the connection was lost at the COMMIT.

    Constraints that the COMMIT alone looks at are the function's own, and so is a transaction that it has broken.
    """
    if isinstance(error, TransactionManagementError) or is_aborted(error):
        return False
    told = verdict(error)
    return told is Verdict.AWAY or (not end.written and told is Verdict.OTHER and isinstance(error, Error))
