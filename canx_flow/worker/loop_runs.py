"""The runs of `async def` workflows: tasks of one event loop, begun by `slots`, which counts them.

An event loop that breaks is replaced; its runs are handed back, and any worker takes them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from uuid import UUID

from ..core import registry
from ..core.changes import Change, Outcome, Settle, Undo
from ..core.claimed import ClaimedRun
from ..observe import announce, facts
from ..replay import endings, executor, reports
from ..replay.calls import this_task
from ..states import PENDING
from .eventloop import Blocked, EventLoop
from .port import WorkerPort
from .synccode import SyncCode


class LoopRuns:
    """What the event loop has under way. `hand_back`, `vacate` and `forget` are the slots' own."""

    def __init__(
        self,
        port: WorkerPort,
        hand_back: Callable[[ClaimedRun, BaseException], None],
        vacate: Callable[..., None],
        forget: Callable[[ClaimedRun, str], None],
    ) -> None:
        self._port = port
        self._hand_back = hand_back
        self._vacate = partial(vacate, by_slot=False)
        self._forget = forget
        self._mutex = threading.Lock()
        self._loop: EventLoop | None = None
        #: What the event loop has, by id and epoch.
        self._runs: dict[tuple[UUID, int], ClaimedRun] = {}
        self._closed = False

    def begin(self, run: ClaimedRun) -> None:
        """Begin a run in the event loop."""
        loop = self._event_loop()
        lease = (run.id, run.epoch)
        self._runs[lease] = run
        try:
            loop.spawn(run, self._activate)
        except BaseException:
            self._runs.pop(lease, None)
            raise

    def blocked(self) -> Blocked | None:
        """Return what keeps the event loop from turning, if anything does."""
        return self._loop.blocked if self._loop is not None else None

    def close(self) -> None:
        """Cancel the activations that are left where they stand."""
        self._closed = True
        if self._loop is not None:
            self._port.abandon()
            self._loop.stop()

    def _event_loop(self) -> EventLoop:
        """Return the event loop that there is, or another one if that has broken."""
        with self._mutex:
            if self._loop is None or self._loop.dead:
                self._loop = EventLoop(self._port.step_threads, self._port.activations, self._loop_broke)
            return self._loop

    def _loop_broke(self, error: BaseException) -> None:
        """Hand back the runs of an event loop that has broken: any worker takes them."""
        for run in list(self._runs.values()):
            if self._runs.pop((run.id, run.epoch), None) is not None:
                self._hand_back(run, error)
                self._vacate()

    async def _activate(self, run: ClaimedRun) -> None:
        code = SyncCode(self._port.step_threads)
        code.enter()
        state = ""
        try:
            state = await self._replay(run)
        except BaseException as error:
            if self._is_cut_off(error):
                raise
            await self._broke(run, error)
        finally:
            code.close()
            if self._runs.pop((run.id, run.epoch), None) is not None:
                self._free(run, state)

    async def _replay(self, run: ClaimedRun) -> str:
        """Activate the run, or hand it back; return the state in which its activation has left it, "" for none."""
        if self._port.lease.may_start():
            return await executor.run_async(run, registry.get(run.workflow, run.version), self._port)
        change = handed_back(run)
        await self._report(run, change, await self._port.store.hand_in(change).wait_async())
        return ""

    def _is_cut_off(self, error: BaseException) -> bool:
        """Tell whether the worker leaves, or the loop is gone: then there is nothing to wait in."""
        if isinstance(error, asyncio.CancelledError):
            return self._closed
        return isinstance(error, GeneratorExit) and this_task() is None

    async def _broke(self, run: ClaimedRun, error: BaseException) -> None:
        """Leave a run whose activation came apart: it is tried again, so and so often."""
        try:
            # GeneratorExit was raised in a task that a step or the body has waited for: Python closes all that waits.
            ended = isinstance(error, GeneratorExit)
            change = endings.failing(run, error) if ended else self._port.broken(run, error)
            await self._report(run, change, await self._port.store.hand_in(change).wait_async())
        except Exception as failure:  # noqa: BLE001 - nothing more can be done about it
            announce(facts.HandBackFailed(facts.RunRef.of(run), failure))

    async def _report(self, run: ClaimedRun, change: Change, outcome: Outcome) -> None:
        await self._port.threads.beside(partial(report, run, change, outcome))

    def _free(self, run: ClaimedRun, state: str) -> None:
        """Give the slot of a run that has been left to the next one."""
        try:
            self._vacate()
        finally:
            self._forget(run, state)


def handed_back(run: ClaimedRun) -> Change:
    """Return the change that hands a run back: any worker takes it."""
    return Change(run.id, run.epoch, settle=Settle(PENDING, undo=Undo.LEFT))


def report(run: ClaimedRun, change: Change, outcome: Outcome) -> None:
    """Announce how the run was left: one that was told to stop meanwhile has ended by being handed back."""
    assert change.settle is not None
    if outcome.stored:
        reports.settled(run, outcome.state, change.settle)
