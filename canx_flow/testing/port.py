"""The world of activations in a project's own tests: one thread and one connection, the caller's.

Commits are savepoints in a TestCase. Async workflows run in an event loop whose database work comes back to this
thread. Timeouts of plain functions are not enforced: there is no other thread to leave behind. Made by `inline`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync, sync_to_async
from django.db import DatabaseError, connections
from django.db.transaction import TransactionManagementError

from ..core import clock
from ..core.changes import Change, Outcome
from ..core.claimed import ClaimedRun
from ..core.limits import Request
from ..replay.beside import Beside
from ..replay.branch import Branch
from ..replay.call import Gate
from ..replay.connection_store import ConnectionStore
from ..replay.port import NoSyncCode
from ..store import limits, unclear


class _Stored:
    """A change that is stored when it is waited for: nothing else goes on meanwhile."""

    def __init__(self, store: Callable[[], Outcome]) -> None:
        self._store = store
        self._outcome: Outcome | None = None

    def wait(self) -> Outcome:
        if self._outcome is None:
            self._outcome = self._store()
        return self._outcome

    async def wait_async(self) -> Outcome:
        return await sync_to_async(self.wait)()

    def then(self, call: Callable[[Outcome], object]) -> None:
        call(self.wait())


class _Savepoints:
    """Held around a step, so that one whose statement failed does not break the transaction of the whole TestCase.

    In a worker every statement of a step commits by itself. Here such a step loses what else it wrote.
    """

    def __enter__(self) -> None:
        self._points = [
            (connection, point)
            for connection in connections.all(initialized_only=True)
            if connection.in_atomic_block and (point := connection.savepoint()) is not None
        ]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        broken = False
        for connection, point in self._points:
            if connection.needs_rollback or isinstance(error, DatabaseError):
                broken, connection.needs_rollback = True, False
                connection.savepoint_rollback(point)
            connection.savepoint_commit(point)
        if broken and error is None:
            raise TransactionManagementError(
                "the step went on after a failed statement, which breaks the transaction of a TestCase: have the "
                "statement in an atomic() of its own, or test with TransactionTestCase"
            )


class InlineStore(ConnectionStore):
    """What is handed in is written on the caller's connection."""

    def hand_in(self, change: Change) -> _Stored:
        """Return a ticket that stores it."""
        return _Stored(partial(self._write, change))

    def _write(self, change: Change) -> Outcome:
        # Asked here, not when it is handed in: that may be in the event loop's thread, which has another connection.
        return unclear.write_alone(connections[self._alias], self._owner, change)

    def expect(self, request: Request) -> None:
        """Do nothing: nobody else asks meanwhile."""

    def admit(self, run: ClaimedRun, request: Request) -> None:  # noqa: ARG002
        """Ask by the engine's clock. What may not begin at once is suspended on: `advance` moves that clock."""
        now = limits.now_of(clock.now())
        [found] = limits.admit(connections[self._alias], request.use.bucket, [request], patience=0, now=now)
        request.settle(found)

    def works(self) -> bool:
        """Return True: a test whose database is away has ended."""
        return True


class InlineLease:
    """Never runs out."""

    def may_start(self) -> bool:
        """Return True."""
        return True

    def is_fresh(self) -> bool:
        """Return True."""
        return True

    def wait_fresh(self) -> bool:
        """Return True."""
        return True


class InlineThreads:
    """The caller's own thread, for everything."""

    def limited(self, call: Callable[[Gate], Any], timeout: float) -> Any:  # noqa: ARG002
        """Call it here, for as long as it takes."""
        return call(Gate())

    def await_limited(
        self,
        make: Callable[[], Coroutine[Any, Any, Any]],
        timeout: float,  # noqa: ARG002
        step: str,  # noqa: ARG002
    ) -> Any:
        """Run the coroutine in an event loop whose database work comes back to this thread."""

        async def made() -> Any:
            return await make()

        return async_to_sync(made)()

    async def beside(self, call: Callable[[], Any]) -> Any:
        """Call it in the caller's thread."""
        return await sync_to_async(call)()

    #: There is one connection.
    ask_beside = beside

    async def beside_limited(self, call: Callable[[Gate], Any], timeout: float | None) -> Any:  # noqa: ARG002, ASYNC109
        """Call it in the caller's thread, for as long as it takes."""
        return await sync_to_async(call)(Gate())

    def begin(self, call: Callable[[], None]) -> None:
        """Call it here; branches of a `def` workflow need not be begun, for there is one place."""
        call()

    def own_code(self) -> AbstractContextManager[object]:
        """Give the task nothing: there is no sync code."""
        return nullcontext()

    def sync_code(self) -> NoSyncCode:
        """Return that nothing is to be taken back: the connections are the test's."""
        return NoSyncCode()

    def guard(self) -> _Savepoints:
        """Hold savepoints around a step."""
        return _Savepoints()

    def interrupted(self, error: BaseException) -> bool:
        """Return whether it is Ctrl-C, which ends the test."""
        return isinstance(error, KeyboardInterrupt)


class InlinePort:
    """Store, lease and threads for the length of one call."""

    #: Branches are called one after another, each until it is blocked: there is one connection.
    places = 1

    def __init__(self, alias: str, owner: UUID) -> None:
        self.store = InlineStore(alias, owner)
        self.lease = InlineLease()
        self.threads = InlineThreads()

    def entered(self, root: Branch) -> None:
        """Tell nothing of it: there is no heartbeat."""

    def watch(self, run_id: UUID, beside: Beside) -> None:
        """Do nothing: no wait ends while a branch runs."""
