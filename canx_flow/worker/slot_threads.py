"""The threads of a worker's slots: one for each plain run that is active, with connections kept while there is work.

Made by `slots`, which hands in what is to be done.
"""

from __future__ import annotations

import threading
from contextvars import Context
from functools import partial

from ..observe import announce, facts
from .inbox import Inbox, Task
from .upkeep import begin_work, close_connections, end_work

_IDLE_SECONDS = 1.0  # after which an idle thread closes its connections


class SlotThreads:
    """As many threads as there have been tasks at a time, up to the number of slots."""

    def __init__(self) -> None:
        self._inbox = Inbox()
        self._mutex = threading.Lock()
        #: The threads that there are, and the tasks that are done or wait for one of them.
        self.count = 0
        self.active = 0

    def do(self, task: Task, *, by_slot: bool) -> None:
        """Have a thread do this. `by_slot`: the thread that calls looks for its next task in a moment."""
        with self._mutex:
            self.active += 1
        self._inbox.put(task, come=not by_slot)
        self.reinforce()

    def has_done(self) -> None:
        """Count one task less: it has ended, but for what its thread does after it."""
        with self._mutex:
            self.active -= 1

    def reinforce(self) -> None:
        """Start a thread for each active task; one that cannot be started now is tried at the next poll."""
        while True:
            with self._mutex:
                # Counted by what is active, not by which threads seem idle: one that was just woken still seems so.
                if self.count >= self.active:
                    return
                self.count += 1
            try:
                threading.Thread(target=self._serve, name="canx_flow slot", daemon=True).start()
            except Exception as error:  # noqa: BLE001 - the run waits for another thread
                announce(facts.ThreadNotStarted(error))
                with self._mutex:
                    self.count -= 1
                return

    def close(self) -> None:
        """Send the threads home once they have done what is there."""
        self._inbox.close()

    def _serve(self) -> None:
        while (task := self._next()) is not None:
            unharmed(begin_work)
            unharmed(partial(Context().run, task))
            unharmed(end_work)
            del task  # Else it would keep the run, and all that its steps have returned, until the next one.
        close_connections()

    def _next(self) -> Task | None:
        try:
            return self._inbox.get(_IDLE_SECONDS)
        except TimeoutError:
            # Kept while there is work; ten idle slots must not hold ten connections.
            unharmed(close_connections)
            return self._inbox.get()


def unharmed(task: Task) -> None:
    """Do it; a slot's thread goes on whatever comes of it, or its slot would be lost for good."""
    try:
        task()
    except BaseException as error:  # noqa: BLE001 - see above
        announce(facts.SlotBroke(error))
