"""What a worker's slots are to do, and which of their threads does it.

Called by `slots`. Threads that have nothing to do are woken one at a time: a thread that comes and finds more than it
takes wakes the next one. So many short tasks are done by the few threads that the processor has time for, while tasks
that wait for something get a thread each, at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

Task = Callable[[], object]


class Inbox:
    """Any thread puts tasks in; the slots' threads get them, the oldest first."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._tasks: deque[Task] = deque()
        #: What the threads sleep on that have nothing to do. The last one to fall asleep is woken first: its caches
        #: are warm, and those that are not needed may close their connections.
        self._idle: list[threading.Lock] = []
        #: A thread was woken, and has not taken a task yet.
        self._coming = False
        self._closed = False

    def put(self, task: Task, *, come: bool = True) -> None:
        """Add a task. `come=False`: this very thread will call `get` in a moment."""
        with self._mutex:
            self._tasks.append(task)
            if come:
                self._call()

    def get(self, timeout: float = -1) -> Task | None:
        """Return the next task, `None` once it is closed; raise `TimeoutError` after so many seconds without one."""
        alarm: threading.Lock | None = None
        while True:
            with self._mutex:
                if self._tasks:
                    task = self._tasks.popleft()
                    self._call()
                    return task
                if self._closed:
                    return None
                alarm = alarm or threading.Lock()
                alarm.acquire(blocking=False)
                self._idle.append(alarm)
            woken = alarm.acquire(timeout=timeout)
            with self._mutex:
                if not woken and alarm in self._idle:
                    self._idle.remove(alarm)
                    raise TimeoutError
                self._coming = False

    def close(self) -> None:
        """Let the threads end, once they have done what is there."""
        with self._mutex:
            self._closed = True
            for alarm in self._idle:
                alarm.release()
            self._idle.clear()

    def _call(self) -> None:
        if self._tasks and self._idle and not self._coming:
            self._coming = True
            self._idle.pop().release()
