"""Where activations run: threads for `def` workflows, one event loop for `async def` ones. Both count as slots.

The loop hands claimed runs in; a slot activates one, reports that it is free, and takes the next. A thread does not
wait until the end of its activation is stored: whoever stores it tells, and what is left to do then is any slot's.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async

from .. import logs, registry
from ..changes import Change, ClaimedRun, Outcome, Settle
from ..replay import executor, reports
from ..states import PENDING
from .inbox import Inbox, Task
from .port import WorkerPort
from .upkeep import close_connections, keep_connections

logger = logs.logger("canx_flow.worker")

_IDLE_SECONDS = 1.0  # after which an idle thread closes its connections
_LOOK_AFTER_SECONDS = 0.1  # between two looks at the connections of the async ORM


class Slots:
    """At most `concurrency` bodies under way at a time; `start` never blocks."""

    def __init__(self, port: WorkerPort, concurrency: int, on_free: Callable[[], object]) -> None:
        self.concurrency = concurrency
        self._port = port
        self._on_free = on_free
        self._mutex = threading.Lock()
        #: Claimed ahead, until the body of one of those that are active, of either kind, has ended.
        self._waiting: deque[ClaimedRun] = deque()
        #: Ends that are to be gone on with: before anything new begins.
        self._resumed: deque[Task] = deque()
        self._active = 0
        self._inbox = Inbox()
        self._threads = 0
        self._sync_active = 0
        self._loop: _Loop | None = None
        self._looked_after_at = float("-inf")
        self._claimed: set[tuple[UUID, int]] = set()
        #: Runs handed in and not yet left, and how many have been left in all.
        self.in_flight = 0
        self.finished = 0

    def start(self, run: ClaimedRun) -> None:
        """Activate a claimed run as soon as a slot is free."""
        with self._mutex:
            self.in_flight += 1
            self._claimed.add((run.id, run.epoch))
            if self._active >= self.concurrency:
                self._waiting.append(run)
                return
            self._active += 1
        self._dispatch(run)

    def _dispatch(self, run: ClaimedRun, *, by_slot: bool = False) -> None:
        """Give a run the slot that is free: a thread, or the event loop."""
        workflow = registry.get(run.workflow, run.version)
        if workflow is not None and workflow.is_async:
            with self._mutex:
                if self._loop is None:
                    self._loop = _Loop()
            self._loop.spawn(self._activate_async(run))
            return
        self._hand_in(partial(self._activate, run), by_slot=by_slot)

    def _hand_in(self, task: Task, *, by_slot: bool) -> None:
        with self._mutex:
            self._sync_active += 1
        self._inbox.put(task, come=not by_slot)
        self.reinforce()

    def reinforce(self) -> None:
        """Have a thread for each plain run that is active; what cannot be started now is tried at the next poll."""
        while True:
            with self._mutex:
                # Counted by what is active, not by who seems idle: a thread that was just woken still seems so.
                if self._threads >= self._sync_active:
                    return
                self._threads += 1
            try:
                threading.Thread(target=self._serve, name="canx_flow slot", daemon=True).start()
            except RuntimeError:
                logger.exception("No thread can be started for a claimed run: it waits for another one's")
                with self._mutex:
                    self._threads -= 1
                return

    def hand_back_waiting(self, seconds: float) -> None:
        """Give runs that have waited so long for a slot to whoever has a free one."""
        long_ago = time.monotonic() - seconds
        with self._mutex:
            late = [run for run in self._waiting if run.claimed_at <= long_ago]
            for run in late:
                self._waiting.remove(run)
        for run in late:
            change = _handed_back(run)
            self._port.store(change).then(partial(self._let_go, run, change))

    def _let_go(self, run: ClaimedRun, change: Change, outcome: Outcome) -> None:
        """Called by whoever has stored that a run which waited is handed back. Only now it is not ours any more."""
        assert change.settle is not None
        if outcome.stored and outcome.state != change.settle.state:
            self._resume(partial(self._tell, run, change, outcome))  # It was told to stop meanwhile, and has ended.
        else:
            self._forget(run)

    def _tell(self, run: ClaimedRun, change: Change, outcome: Outcome) -> None:
        try:
            _report(run, change, outcome)
        finally:
            self._free(run)

    def claimed(self) -> set[tuple[UUID, int]]:
        """Id and epoch of every run handed in and not yet left."""
        with self._mutex:
            return set(self._claimed)

    def close(self) -> None:
        """Take nothing more. Async activations that are left are cancelled where they stand.

        What still waits for a slot is recovered with all that this worker has claimed.
        """
        with self._mutex:
            self._waiting.clear()
        self._inbox.close()
        if self._loop is not None:
            # Whatever is still running there is cut off, and that is no failure of its steps.
            for activation in list(self._port.activations.values()):
                activation.abandoned = True
            self._loop.stop()

    # -- sync ----------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while (task := self._next()) is not None:
            _unharmed(keep_connections)
            _unharmed(task)
            del task  # Else it would keep the run, and all that its steps have returned, until the next one.
        close_connections()

    def _next(self) -> Task | None:
        try:
            return self._inbox.get(_IDLE_SECONDS)
        except TimeoutError:
            # Kept while there is work; ten idle slots must not hold ten connections.
            _unharmed(close_connections)
            return self._inbox.get()

    def _activate(self, run: ClaimedRun) -> None:
        """From the claim until the end is stored, or handed in: then nobody need wait for it, mostly."""
        workflow = registry.get(run.workflow, run.version)
        departure = None
        try:
            if workflow is None or not self._port.may_start():
                change = _handed_back(run)
                _report(run, change, self._port.store(change).wait())
            else:
                activation = executor.departing(run, workflow, self._port)
                departure = next(activation, None)
        except BaseException as error:  # noqa: BLE001 - told with its traceback
            self._broke(run, error)
        if departure is None:
            self._free(run)
            return
        # Once it is stopping, a worker says what becomes of each run before it leaves.
        if departure.is_quiet() and self._port.may_start():
            departure.ticket.then(partial(self._departed, run, activation, departure))
            self._vacate(by_slot=True)
        else:
            self._conclude(run, activation)

    def _departed(self, run: ClaimedRun, activation: Any, departure: executor.Departure, outcome: Outcome) -> None:
        """Called by whoever has stored it, perhaps in the midst of another run."""
        if departure.is_over(outcome):
            self._forget(run)
            return
        self._resume(partial(self._conclude, run, activation))

    def _resume(self, task: Task) -> None:
        """Have a slot do this, before anything new begins."""
        with self._mutex:
            if self._active >= self.concurrency:
                self._resumed.append(task)
                return
            self._active += 1
        self._hand_in(task, by_slot=False)

    def _conclude(self, run: ClaimedRun, activation: Any) -> None:
        """Wait for the end that was handed in, and go on from there."""
        try:
            executor.conclude(activation)
        except BaseException as error:  # noqa: BLE001 - told with its traceback
            self._broke(run, error)
        self._free(run)

    def _broke(self, run: ClaimedRun, error: BaseException) -> None:
        _unharmed(lambda: self._hand_back_broken(run, error))

    def _hand_back_broken(self, run: ClaimedRun, error: BaseException) -> None:
        change = self._port.broken(run, error)
        _report(run, change, self._port.store(change).wait())

    def _free(self, run: ClaimedRun, *, by_slot: bool = True) -> None:
        """This run has been left: its slot is the next one's."""
        try:
            self._vacate(by_slot=by_slot)
        finally:
            self._forget(run)

    def _vacate(self, *, by_slot: bool) -> None:
        """A slot is free: for whatever waits. `by_slot`: its own thread says so, and will look for that itself."""
        task = following = None
        with self._mutex:
            if by_slot:
                self._sync_active -= 1
            if self._resumed:
                task = self._resumed.popleft()
            elif self._waiting:
                following = self._waiting.popleft()
            else:
                self._active -= 1
        if task is not None:
            self._hand_in(task, by_slot=by_slot)
        elif following is not None:
            self._dispatch(following, by_slot=by_slot)

    def _forget(self, run: ClaimedRun) -> None:
        """This run is not this worker's any more."""
        self._port.left(run)
        with self._mutex:
            self.in_flight -= 1
            self.finished += 1
            self._claimed.discard((run.id, run.epoch))
        self._on_free()

    # -- async ---------------------------------------------------------------------------------------

    async def _activate_async(self, run: ClaimedRun) -> None:
        workflow = registry.get(run.workflow, run.version)
        try:
            if self._port.may_start():
                await self._keep_async_connections()
                await executor.run_async(run, workflow, self._port)
            else:
                change = _handed_back(run)
                outcome = await self._port.store(change).wait_async()
                await self._port.in_thread(partial(_report, run, change, outcome))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - told with its traceback
            change = self._port.broken(run, error)
            outcome = await self._port.store(change).wait_async()
            await self._port.in_thread(partial(_report, run, change, outcome))
        finally:
            self._free(run, by_slot=False)
            if not self._port.activations:
                await asyncio.shield(sync_to_async(close_connections)())

    async def _keep_async_connections(self) -> None:
        """Django's async ORM works in one thread of asgiref's, which is nobody else's to look after.

        Not before each of hundreds of runs a second: each time costs two changes of threads.
        """
        now = time.monotonic()
        if now - self._looked_after_at >= _LOOK_AFTER_SECONDS:
            self._looked_after_at = now
            await sync_to_async(keep_connections)()


def _unharmed(task: Task) -> None:
    """Do it; a slot's thread goes on whatever comes of it, or its slot would be lost for good."""
    try:
        task()
    except BaseException:
        logger.exception("A slot's thread goes on after what should not have happened")


def _handed_back(run: ClaimedRun) -> Change:
    return Change(run.id, run.epoch, settle=Settle(PENDING, ready=True))


def _report(run: ClaimedRun, change: Change, outcome: Outcome) -> None:
    """A run that was told to stop meanwhile has ended by being handed back."""
    assert change.settle is not None
    if outcome.stored:
        reports.settled(run, outcome.state, change.settle)


class _Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="canx_flow event loop", daemon=True)
        self._thread.start()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._loop.call_soon_threadsafe(self._start, coroutine)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._cancel)

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._loop.create_task(self._end())

    async def _end(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # What an activation has left to itself: closing connections.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            await asyncio.wait(left, timeout=_IDLE_SECONDS)
        self._loop.stop()

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()
