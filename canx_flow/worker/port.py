"""What an activation's driver needs of a worker: its committer, its heartbeat, its threads. One for all activations."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any
from uuid import UUID

from django.db import Error, connections

from ..core.changes import Change, ClaimedRun, Outcome
from ..observe import announce, facts
from ..replay import endings
from ..replay.activation import Activation
from ..replay.drivers import Gate, SyncCode
from ..replay.operations import Call, Found, Look
from ..store import atomic, claims, events
from . import synccode
from .committer import Committer
from .heartbeat import Heartbeat
from .threads import StepThreads
from .ticket import Ticket

HEED_SECONDS = 2.0  # that an async step has to end after its timeout has cancelled it, before its thread is left behind


class WorkerPort:
    """Made by the loop when it registers; thrown away with the lease."""

    def __init__(
        self, alias: str, owner: UUID, committer: Committer, heartbeat: Heartbeat, threads: StepThreads
    ) -> None:
        self._alias = alias
        self._owner = owner
        self._committer = committer
        self._heartbeat = heartbeat
        self.threads = threads
        self._stopping = threading.Event()
        self._mutex = threading.Lock()
        self._abandoning = False
        #: What is going on now, by run: for the heartbeat to tell.
        self.activations: dict[UUID, Activation] = {}

    def stop(self) -> None:
        """Start no further step."""
        self._stopping.set()

    def store(self, change: Change) -> Ticket:
        return self._committer.store(change)

    def look(self, activation: Activation, look: Look) -> Found | None:
        consumed = activation.journal.consumed_events()
        found = events.unread(self._alias, activation.run.id, look.event, look.key, consumed)
        return None if found is None else Found(found.id, found.payload, found.directed)

    def may_start(self) -> bool:
        return not self._stopping.is_set()

    def lease_is_fresh(self) -> bool:
        return self._heartbeat.is_fresh()

    def confirm_lease(self) -> bool:
        return self._heartbeat.wait_fresh()

    def connected(self) -> bool:
        return self._heartbeat.is_fresh() and not self._committer.failing

    def broken(self, run: ClaimedRun, error: BaseException) -> Change:
        """How a run is left whose activation came apart outside its body; a database's error is told as an outage."""
        if isinstance(error, Error):
            self._committer.complain(facts.ActivationMetOutage(error, facts.RunRef.of(run)))
        else:
            announce(facts.ActivationBroke(facts.RunRef.of(run), error))
        return endings.broken(run, error, connected=self.connected())

    def call_atomic(self, call: Call, invoke: Callable[[], Any], gate: Gate) -> tuple[Outcome, Change, Any]:
        assert call.commit is not None
        return atomic.call(connections[self._alias], self._owner, call.commit, invoke, gate.shut)

    def call_limited(self, call: Callable[[Gate], Any], timeout: float) -> Any:
        return self.threads.limited(call, timeout)

    def await_limited(self, make: Callable[[], Coroutine[Any, Any, Any]], timeout: float, step: str) -> Any:
        within = copy_context()
        return self.threads.limited(lambda _: within.run(synccode.run, self.threads, make, step), timeout, HEED_SECONDS)

    async def in_thread(self, call: Callable[[], Any]) -> Any:
        return await asyncio.wrap_future(self.threads.submit(call))

    async def call_in_thread(self, call: Callable[[Gate], Any], timeout: float | None) -> Any:  # noqa: ASYNC109
        return await self.threads.awaited(call, timeout)

    def sync_code(self) -> SyncCode:
        return synccode.of_this_task()

    def interrupted(self, error: BaseException) -> bool:  # noqa: ARG002
        """Nothing: a worker is told to stop by signals, in its main thread, which runs no code of a run's."""
        return False

    def guard(self) -> None:
        """Nothing: a step's connection is its own, and commits what it is not told to hold back."""

    def abandon(self) -> None:
        """What still runs in the event loop is cut off now, and that is no failure of its steps."""
        with self._mutex:
            self._abandoning = True
            for activation in self.activations.values():
                activation.abandoned = True

    def entered(self, activation: Activation) -> None:
        with self._mutex:
            activation.abandoned = self._abandoning
            self.activations[activation.run.id] = activation

    def left(self, run: ClaimedRun) -> None:
        with self._mutex:
            activation = self.activations.get(run.id)
            # It may have been claimed anew by this very worker since.
            if activation is not None and activation.run is run:
                del self.activations[run.id]

    def reload(self, run: ClaimedRun) -> None:
        claims.reload(connections[self._alias], run)
