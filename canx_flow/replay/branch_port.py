"""The world as one of several branches knows it: it begins nothing once it is left, and lets others go on meanwhile.

Put around the driver's port by the driver, once there are branches beside the body.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock

from ..core.changes import Change, Outcome
from ..core.claimed import ClaimedRun
from ..core.limits import Request
from .branch import Branch
from .port import Lease, Port, Store, Threads, Ticket


class BranchPort:
    """A port of one branch. `baton`: of a `def` workflow, given up while a step or a commit is waited for."""

    def __init__(self, port: Port, branch: Branch, baton: Lock | None) -> None:
        #: The one that all branches have.
        self.port: Port = port.port if isinstance(port, BranchPort) else port
        self.places = self.port.places
        self.entered, self.watch = self.port.entered, self.port.watch
        self.lease: Lease = _Lease(self.port.lease, branch, baton)
        self.store: Store = self.port.store if baton is None else _Store(self.port.store, baton)
        self.threads: Threads = self.port.threads if baton is None else _Threads(self.port.threads, baton)


class _Lease:
    """The owner's lease; a branch that was left has none."""

    def __init__(self, lease: Lease, branch: Branch, baton: Lock | None) -> None:
        self._lease = lease
        self._branch = branch
        self._given_up: AbstractContextManager[None] = nullcontext() if baton is None else _GivenUp(baton)
        self.is_fresh = lease.is_fresh

    def may_start(self) -> bool:
        return self._branch.leaving is None and self._lease.may_start()

    def wait_fresh(self) -> bool:
        with self._given_up:
            return self._lease.wait_fresh()


class _Store:
    """The owner's store; whoever waits for it gives up the baton."""

    def __init__(self, store: Store, baton: Lock) -> None:
        self._store = store
        self._baton = baton
        self.find_event, self.call_atomic = store.find_event, store.call_atomic
        self.awaited, self.ended_at = store.awaited, store.ended_at
        self.find_ends, self.new_child = store.find_ends, store.new_child
        self.delegations = store.delegations
        self.works, self.has_undo, self.expect = store.works, store.has_undo, store.expect

    def admit(self, run: ClaimedRun, request: Request) -> None:
        with _GivenUp(self._baton):
            self._store.admit(run, request)

    def hand_in(self, change: Change) -> Ticket:
        return _Ticket(self._store.hand_in(change), self._baton)


class _Ticket:
    def __init__(self, ticket: Ticket, baton: Lock) -> None:
        self._ticket = ticket
        self._baton = baton
        self.wait_async, self.then = ticket.wait_async, ticket.then

    def wait(self) -> Outcome:
        with _GivenUp(self._baton):
            return self._ticket.wait()


class _Threads:
    """The owner's threads; while a step's function is called, others have the baton."""

    def __init__(self, threads: Threads, baton: Lock) -> None:
        self._threads = threads
        self._baton = baton
        self.limited, self.await_limited, self.begin = threads.limited, threads.await_limited, threads.begin
        self.beside, self.ask_beside, self.beside_limited = threads.beside, threads.ask_beside, threads.beside_limited
        self.sync_code, self.own_code, self.interrupted = threads.sync_code, threads.own_code, threads.interrupted

    def guard(self) -> AbstractContextManager[object]:
        outer = self._threads.guard()
        return _GivenUp(self._baton) if outer is None else _both(outer, _GivenUp(self._baton))


class _GivenUp:
    """The baton is others' meanwhile."""

    __slots__ = ("_baton",)

    def __init__(self, baton: Lock) -> None:
        self._baton = baton

    def __enter__(self) -> None:
        self._baton.release()

    def __exit__(self, *_: object) -> None:
        self._baton.acquire()


@contextmanager
def _both(outer: AbstractContextManager[object], inner: AbstractContextManager[object]) -> Iterator[None]:
    with outer, inner:
        yield
