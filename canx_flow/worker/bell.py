"""Wakes the committer's background thread: once for many requests, and each tick while changes come."""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue


class Bell:
    """Rung by any thread, heard by one."""

    def __init__(self) -> None:
        #: Of Python's ways to wake a thread the one that takes the GIL least often.
        self._rings: SimpleQueue[None] = SimpleQueue()
        #: The thread wakes each tick, for changes that no run waits for yet.
        self.armed = False
        self._asked = False

    def ring(self) -> None:
        """Wake the thread."""
        self._rings.put(None)

    def arm(self) -> None:
        """Have the thread wake each tick from now on."""
        if not self.armed:
            self.armed = True
            self._rings.put(None)

    def disarm(self) -> None:
        """Let the thread sleep until it is woken."""
        self.armed = False

    def ask(self) -> None:
        """Wake the thread, once: hundreds of tasks ask in a row, while it waits for the GIL."""
        if not self._asked:
            self._asked = True
            self._rings.put(None)

    def answer(self) -> bool:
        """Return whether it was asked since the last call."""
        asked, self._asked = self._asked, False
        return asked

    def wait(self, timeout: float | None) -> None:
        """Sleep until it is rung, `timeout` seconds at most."""
        with suppress(Empty):
            self._rings.get(timeout=timeout)
