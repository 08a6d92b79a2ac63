"""Calls the receivers of what a worker finds out by itself: a deadline that has passed, a run that no worker knows.

Called by chores. Receivers are the project's code: on the worker's main thread they would hold up what is claimed and
fired, and work on the engine's connection.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from .threads import StepThreads


class Teller:
    """One thread while there is something to tell: one thing after another, in the order in which it happened."""

    def __init__(self, threads: StepThreads) -> None:
        self._threads = threads
        self._changed = threading.Condition()
        self._tasks: deque[Callable[[], object]] = deque()
        self._busy = False

    def __call__(self, task: Callable[[], object]) -> None:
        """Have it told; never wait."""
        with self._changed:
            self._tasks.append(task)
        self._go_on()

    def wait(self, timeout: float) -> bool:
        """Wait until everything is told; return whether it is."""
        self._go_on()
        with self._changed:
            return self._changed.wait_for(lambda: not self._tasks and not self._busy, timeout)

    def _go_on(self) -> None:
        with self._changed:
            if self._busy or not self._tasks:
                return
            self._busy = True
            task = self._tasks.popleft()
        try:
            future = self._threads.submit(task)
        except RuntimeError:  # No thread can be started: the next call tries again.
            with self._changed:
                self._tasks.appendleft(task)
                self._busy = False
            return
        future.add_done_callback(self._told)

    def _told(self, _future: object) -> None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
        self._go_on()
