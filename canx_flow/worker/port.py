"""The world of a worker's activations: its committer, its heartbeat, its threads. One port serves all of them.

Made by the loop when the worker registers, and thrown away with the lease. Slots hand in changes through it, too.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from contextvars import copy_context
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from django.db import Error

from ..core.changes import Change
from ..core.claimed import ClaimedRun
from ..core.limits import Request
from ..observe import announce, facts
from ..replay import endings
from ..replay.beside import Beside
from ..replay.branch import Branch
from ..replay.call import Gate
from ..replay.connection_store import ConnectionStore
from ..replay.port import SyncCode
from ..states import SUSPENDED
from . import synccode
from .committer import Committer
from .heartbeat import Heartbeat
from .kept import KeptJournals
from .limit_desk import LimitDesk
from .threads import StepThreads
from .ticket import Ticket
from .upkeep import PATIENCE, give_back_connections

HEED_SECONDS = 2.0  # that an async step has to end after its timeout has cancelled it, before its thread is left behind


class WorkerStore(ConnectionStore):
    """What is handed in goes to the committer."""

    def __init__(self, alias: str, owner: UUID, committer: Committer, heartbeat: Heartbeat) -> None:
        super().__init__(alias, owner)
        self._committer = committer
        self._heartbeat = heartbeat
        self._desk = LimitDesk(alias)
        self.expect = self._desk.expect

    def admit(self, run: ClaimedRun, request: Request) -> None:  # noqa: ARG002
        """Have the worker's desk ask for it."""
        self._desk.admit(request)

    def close(self) -> None:
        """Close the connection by which limits are asked."""
        self._desk.close()

    def hand_in(self, change: Change) -> Ticket:
        """Have the committer store it with its next batch."""
        return self._committer.store(change)

    def works(self) -> bool:
        """Return whether both the heartbeat and the committer have been answered lately."""
        return self._heartbeat.is_fresh() and not self._committer.failing


class WorkerLease:
    """The heartbeat's, until the worker stops."""

    def __init__(self, heartbeat: Heartbeat) -> None:
        self._stopping = False
        self._heartbeat = heartbeat
        #: Looked up once: asked before every step.
        self.is_fresh = heartbeat.is_fresh

    def wait_fresh(self) -> bool:
        """Wait till the lease holds; after a while without the connections that the heartbeat may be short of."""
        if self._heartbeat.wait_fresh(PATIENCE):
            return True
        give_back_connections()
        return self._heartbeat.wait_fresh()

    def stop(self) -> None:
        """Start no further step."""
        self._stopping = True

    def may_start(self) -> bool:
        """Return False once the worker is stopping."""
        return not self._stopping


_ASKING = 4  # runs that ask the database at a time, each in a thread with a connection


class WorkerThreads:
    """Step threads, and those that a run's sync code borrows."""

    def __init__(self, threads: StepThreads) -> None:
        self._threads = threads
        #: Of each loop, for one that breaks is replaced.
        self._may_ask: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    def limited(self, call: Callable[[Gate], Any], timeout: float) -> Any:
        """Call in a step thread, which is left behind after `timeout` seconds."""
        return self._threads.limited(call, timeout)

    def await_limited(self, make: Callable[[], Coroutine[Any, Any, Any]], timeout: float, step: str) -> Any:
        """Run a coroutine in a step thread, in an event loop of its own."""
        within = copy_context()
        return self._threads.limited(
            lambda _: within.run(synccode.run, self._threads, make, step), timeout, HEED_SECONDS
        )

    async def beside(self, call: Callable[[], Any]) -> Any:
        """Call in a step thread."""
        return await asyncio.wrap_future(self._threads.submit(call))

    async def ask_beside(self, call: Callable[[], Any]) -> Any:
        """Call in one of a few step threads: hundreds of runs may come to a wait at once, and each would connect."""
        async with self._may_ask.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(_ASKING)):
            return await self.beside(call)

    async def beside_limited(self, call: Callable[[Gate], Any], timeout: float | None) -> Any:  # noqa: ASYNC109
        """Call in a step thread, which is left behind after `timeout` seconds, and when this is cancelled."""
        return await self._threads.awaited(call, timeout)

    def begin(self, call: Callable[[], None]) -> object:
        """Call in a step thread."""
        return self._threads.submit(call)

    def own_code(self) -> AbstractContextManager[object]:
        """Have this task's sync code called in threads of its own."""
        return synccode.entered(self._threads)

    def sync_code(self) -> SyncCode:
        """Return that of this task's run."""
        return synccode.of_this_task()

    def guard(self) -> None:
        """Hold nothing: a step's connection is its own, and commits what it is not told to hold back."""

    def interrupted(self, error: BaseException) -> bool:  # noqa: ARG002
        """Return False: a worker is told to stop by signals, in its main thread, which runs no code of a run's."""
        return False


class WorkerPort:
    """Store, lease and threads of one worker, and the activations that go on in it."""

    #: Branches of one run that are called at a time.
    places = 8

    def __init__(
        self, alias: str, owner: UUID, committer: Committer, heartbeat: Heartbeat, threads: StepThreads
    ) -> None:
        self.store = WorkerStore(alias, owner, committer, heartbeat)
        self.lease = WorkerLease(heartbeat)
        self.step_threads = threads
        self.threads = WorkerThreads(threads)
        self.kept = KeptJournals()
        self._complain = committer.complain
        self._mutex = threading.Lock()
        self._abandoning = False
        #: The root branch of each run that is active now: for the heartbeat to tell.
        self.activations: dict[UUID, Branch] = {}
        #: Those of them that have branches: for the turn to tell when what blocks one has ended.
        self.watched: dict[UUID, Beside] = {}

    def stop(self) -> None:
        """Start no further step."""
        self.lease.stop()

    def broken(self, run: ClaimedRun, error: BaseException) -> Change:
        """Tell of an activation that came apart outside its body; return how its run is left."""
        if isinstance(error, Error):
            self._complain(facts.ActivationMetOutage(error, facts.RunRef.of(run)))
        else:
            announce(facts.ActivationBroke(facts.RunRef.of(run), error))
        return endings.broken(run, error, connected=self.store.works())

    def abandon(self) -> None:
        """Cut off what still runs in the event loop; that is no failure of its steps."""
        with self._mutex:
            self._abandoning = True
            for root in self.activations.values():
                root.activation.abandoned = True

    def entered(self, root: Branch) -> None:
        """Note an activation that begins."""
        with self._mutex:
            root.activation.abandoned = self._abandoning
            self.activations[root.run.id] = root
            self.watched.pop(root.run.id, None)

    def watch(self, run_id: UUID, beside: Beside) -> None:
        """Have the branches of this run told what of their waits has ended."""
        self.watched[run_id] = beside

    def left(self, run: ClaimedRun, state: str) -> None:
        """Forget the activation of this run, but for the journal of one whose suspension is stored."""
        with self._mutex:
            root = self.activations.get(run.id)
            # It may have been claimed anew by this very worker since.
            if root is None or root.run is not run:
                return
            del self.activations[run.id]
            self.watched.pop(run.id, None)
        if state in SUSPENDED and root.change is None:
            self.kept.keep(run, root.journal)
