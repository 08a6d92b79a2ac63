"""Where activations run: threads for `def` workflows, one event loop for `async def` ones. Both count as slots.

The turn hands claimed runs in; a slot activates one, reports that it is free, and takes the next. A thread does not
wait until the end of its activation is stored: the committer tells when it is, and any slot does what is left then.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from ..core import registry
from ..core.changes import Change, Outcome
from ..core.claimed import ClaimedRun
from ..observe import announce, facts
from ..replay import executor
from ..replay.sync_driver import Departure, conclude, until_departure
from .eventloop import Blocked
from .inbox import Task
from .loop_runs import LoopRuns, handed_back, report
from .port import WorkerPort
from .slot_threads import SlotThreads, unharmed


class Slots:
    """At most `concurrency` bodies under way at a time; `start` never blocks."""

    def __init__(self, port: WorkerPort, concurrency: int, on_free: Callable[[str, str], object]) -> None:
        self.concurrency = concurrency
        self._port = port
        self._on_free = on_free
        self._mutex = threading.Lock()
        #: Claimed ahead, until the body of one of those that are active, of either kind, has ended.
        self._waiting: deque[ClaimedRun] = deque()
        #: Ends that were handed in, and after which something is left to do: before anything new begins.
        self._resumed: deque[Task] = deque()
        self._active = 0
        self._threads = SlotThreads()
        self._loop_runs = LoopRuns(port, self._hand_back, self._vacate, self._forget)
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
        """Give a run the slot that is free. One that cannot be begun is handed back, and the next has its turn."""
        following: ClaimedRun | None = run
        while following is not None:
            try:
                self._begin(following, by_slot=by_slot)
                return
            except Exception as error:  # noqa: BLE001 - no thread, no file, no memory: told with its traceback
                self._hand_back(following, error)
            with self._mutex:
                following = self._waiting.popleft() if self._waiting else None
                if following is None:
                    self._active -= 1

    def _begin(self, run: ClaimedRun, *, by_slot: bool) -> None:
        """Begin a run in a thread, or in the event loop."""
        workflow = registry.get(run.workflow, run.version)
        if workflow is None or not workflow.is_async:
            self._threads.do(partial(self._activate, run), by_slot=by_slot)
            return
        self._loop_runs.begin(run)

    def blocked(self) -> Blocked | None:
        """Return what keeps the event loop from turning, if anything does."""
        return self._loop_runs.blocked()

    def reinforce(self) -> None:
        """Start the threads that could not be started before."""
        self._threads.reinforce()

    def hand_back_waiting(self, seconds: float) -> None:
        """Hand back runs that have waited so long for a slot: another worker may have a free one."""
        long_ago = time.monotonic() - seconds
        with self._mutex:
            late = [run for run in self._waiting if run.claimed_at <= long_ago]
            for run in late:
                self._waiting.remove(run)
        for run in late:
            change = handed_back(run)
            self._port.store.hand_in(change).then(partial(self._let_go, run, change))

    def _let_go(self, run: ClaimedRun, change: Change, outcome: Outcome) -> None:
        """Forget a run that waited, now that the committer has stored that it is handed back."""
        assert change.settle is not None
        if outcome.stored and outcome.state != change.settle.state:
            self._resume(partial(self._tell, run, change, outcome))  # It was told to stop meanwhile, and has ended.
        else:
            self._forget(run)

    def _tell(self, run: ClaimedRun, change: Change, outcome: Outcome) -> None:
        try:
            report(run, change, outcome)
        finally:
            self._free(run)

    def claimed(self) -> set[tuple[UUID, int]]:
        """Return id and epoch of every run handed in and not yet left."""
        with self._mutex:
            return set(self._claimed)

    def close(self) -> None:
        """Take nothing more. Async activations that are left are cancelled where they stand.

        What still waits for a slot is recovered with all that this worker has claimed.
        """
        with self._mutex:
            self._waiting.clear()
        self._threads.close()
        self._loop_runs.close()

    def _activate(self, run: ClaimedRun) -> None:
        """Activate a run until its end is stored, or handed in: mostly no thread need wait for it then."""
        workflow = registry.get(run.workflow, run.version)
        departure = None
        try:
            if workflow is None or not self._port.lease.may_start():
                change = handed_back(run)
                report(run, change, self._port.store.hand_in(change).wait())
            else:
                activation = executor.activate_sync(run, workflow, self._port)
                departure = until_departure(activation)
        except BaseException as error:  # noqa: BLE001 - told with its traceback
            self._broke(run, error)
        if departure is None:
            self._free(run)
            return
        # Once it is stopping, a worker says what becomes of each run before it leaves.
        if departure.is_quiet() and self._port.lease.may_start():
            departure.ticket.then(partial(self._departed, run, activation, departure))
            self._vacate(by_slot=True)
        else:
            self._conclude(run, activation)

    def _departed(self, run: ClaimedRun, activation: Any, departure: Departure, outcome: Outcome) -> None:
        """Go on after an end that is stored. Called on the thread that stored it, perhaps that of another run."""
        if departure.is_over(outcome):
            self._forget(run, outcome.state)
            return
        self._resume(partial(self._conclude, run, activation))

    def _resume(self, task: Task) -> None:
        """Have a slot do this, before anything new begins."""
        with self._mutex:
            if self._active >= self.concurrency:
                self._resumed.append(task)
                return
            self._active += 1
        self._threads.do(task, by_slot=False)

    def _conclude(self, run: ClaimedRun, activation: Any) -> None:
        """Wait for the end that was handed in, and go on from there."""
        state = ""
        try:
            state = conclude(activation)
        except BaseException as error:  # noqa: BLE001 - told with its traceback
            self._broke(run, error)
        self._free(run, state)

    def _broke(self, run: ClaimedRun, error: BaseException) -> None:
        """Leave a run whose activation came apart: it is tried again, so and so often."""
        change = self._port.broken(run, error)
        unharmed(lambda: report(run, change, self._port.store.hand_in(change).wait()))

    def _hand_back(self, run: ClaimedRun, error: BaseException) -> None:
        """Do the same without waiting for it: for the threads that others wait for."""
        change = self._port.broken(run, error)

        def stored(outcome: Outcome) -> None:
            self._forget(run)
            unharmed(lambda: self._port.step_threads.submit(partial(report, run, change, outcome)))

        try:
            self._port.store.hand_in(change).then(stored)
        except Exception as failure:  # noqa: BLE001 - nothing more can be done about it
            announce(facts.HandBackFailed(facts.RunRef.of(run), failure))
            self._forget(run)

    def _free(self, run: ClaimedRun, state: str = "") -> None:
        """Give the slot of a run that has been left to the next one."""
        try:
            self._vacate(by_slot=True)
        finally:
            self._forget(run, state)

    def _vacate(self, *, by_slot: bool) -> None:
        """Give a free slot to what waits. `by_slot`: its own thread says so, and looks for its next task itself."""
        if by_slot:
            self._threads.has_done()
        task = following = None
        with self._mutex:
            if self._resumed:
                task = self._resumed.popleft()
            elif self._waiting:
                following = self._waiting.popleft()
            else:
                self._active -= 1
        if task is not None:
            self._threads.do(task, by_slot=by_slot)
        elif following is not None:
            self._dispatch(following, by_slot=by_slot)

    def _forget(self, run: ClaimedRun, state: str = "") -> None:
        """Let go of a run that is not this worker's any more; its activation has left it in this state, if in any."""
        self._port.left(run, state)
        with self._mutex:
            self.in_flight -= 1
            self.finished += 1
            self._claimed.discard((run.id, run.epoch))
        self._on_free(state, run.queue)
