"""What user code does to the transactions of its thread: looked at before every context call and around every step.

Called by the drivers. Django keeps a thread's connections behind a lookup for each alias; for context calls they are
looked up once, and again after one has connected: a connection that never did holds no transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.db import Error, connections
from django.db.transaction import TransactionManagementError

from ..exceptions import InsideTransaction
from ..store.db import lending
from ..store.db.foreign import drop


def closed(transactions: Transactions, step: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of `function`, which must leave the transactions as they stand."""
    try:
        value = function(*arguments)
    except BaseException:
        transactions.restore()
        raise
    transactions.refuse_changed(step)
    return value


def take_back(step: str) -> None:
    """Do what is done after any step, and refuse what `closed` refuses, in the thread of an async step's sync code.

    `step`: empty for that of a body.
    """
    alias = lending.left_open()
    lending.this_thread().end_step()
    if alias is not None:
        raise _left_open(f"step {step!r}" if step else "the body", alias)


def _left_open(what: str, alias: str) -> InsideTransaction:
    return InsideTransaction(
        f"{what} has left a transaction open on {alias!r}, or autocommit off, or has ended by hand the transaction of "
        f"an `atomic` block; what it left uncommitted is rolled back. Write `with transaction.atomic()`, or give the "
        f"step atomic=True."
    )


class Transactions:
    """How this thread's transactions stand: none is open, but in an atomic step and in a TestCase."""

    def __init__(self) -> None:
        self._thread = lending.this_thread()
        self._look()
        self._before = {connection.alias: _standing(connection) for connection in self._all}
        #: Where a transaction was open already.
        self._held = {alias for alias, (depth, _, by_hand) in self._before.items() if depth or by_hand}

    def in_use(self) -> bool:
        """Tell whether a connection is open, or was in a transaction: if not, there is nothing to compare."""
        if self._held or self._times != self._thread.opened:
            return True
        if self._all_closed:  # None was opened since, and without that no transaction begins.
            return False
        for connection in self._all:  # noqa: SIM110 - a generator takes longer than all of this
            if connection.connection is not None or connection.in_atomic_block:
                return True
        return False

    def changed(self) -> str | None:
        """Return the alias of a connection on which a transaction was opened or ended since, or autocommit switched."""
        if not self.in_use():
            return None
        if self._times != self._thread.opened:
            self._look()
        for connection in self._all:
            if connection.connection is None and not connection.in_atomic_block and connection.alias not in self._held:
                continue
            if _standing(connection) != self._before_of(connection):
                return str(connection.alias)
        return None

    def refuse_changed(self, step: str) -> None:
        """Roll back what a step has left open, and raise InsideTransaction; nothing if it has left nothing."""
        alias = self.changed()
        if alias is None:
            return
        self.restore()
        raise _left_open(f"step {step!r}", alias)

    def restore(self) -> None:
        """Roll back what was opened since."""
        if self.changed() is None:
            return
        for connection in self._all:
            before = self._before_of(connection)
            if _standing(connection) == before:
                continue
            with suppress(Error, TransactionManagementError):
                _restore(connection, *before)
            if _standing(connection) != before and before == _untouched(connection):
                drop(connection)

    def _before_of(self, connection: Any) -> tuple[int, bool, bool]:
        return self._before.get(connection.alias) or _untouched(connection)

    def _look(self) -> None:
        self._times = self._thread.opened
        self._all = connections.all(initialized_only=True)
        self._all_closed = all(c.connection is None and not c.in_atomic_block for c in self._all)


def _standing(connection: Any) -> tuple[int, bool, bool]:
    """Return its depth of `atomic` blocks, autocommit, and whether its transaction was begun or ended by hand."""
    if connection.in_atomic_block:
        return len(connection.atomic_blocks), False, lending.was_ended(connection)
    if connection.connection is None:
        return _untouched(connection)
    return 0, connection.autocommit, lending.in_transaction(connection)


def _untouched(connection: Any) -> tuple[int, bool, bool]:
    return 0, connection.settings_dict["AUTOCOMMIT"], False


def _restore(connection: Any, depth: int, autocommit: bool, by_hand: bool) -> None:
    left = InsideTransaction("a transaction was left open")
    while len(connection.atomic_blocks) > depth:
        connection.atomic_blocks[-1].__exit__(InsideTransaction, left, None)
    if depth == 0 and not by_hand:
        connection.rollback()
        if connection.autocommit != autocommit:
            connection.set_autocommit(autocommit)
