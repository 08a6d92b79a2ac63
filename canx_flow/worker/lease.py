"""How old this worker's own lease is. Renewed by the heartbeat; asked before every call of a step function."""

from __future__ import annotations

import threading
import time

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def clock() -> float:
    """Return seconds that never go back, and that also pass while the machine sleeps, where the system counts them."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


class Lease:
    """The lease of one worker, `seconds` long from the last beat that has succeeded."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        #: When that beat was sent, by `clock()`; minus infinity before the first.
        self.last_beat = float("-inf")
        #: Another worker has found this one dead.
        self.dead = False
        self._ended = False
        self._changed = threading.Condition()

    def is_fresh(self) -> bool:
        """Return whether it certainly still holds: the last beat was sent less than a lease ago."""
        return not self.dead and clock() - self.last_beat < self.seconds

    def wait_fresh(self, timeout: float | None = None) -> bool:
        """Wait till it holds; return False if the worker was found dead or stopped, or if time ran out."""
        with self._changed:
            self._changed.wait_for(lambda: self.dead or self._ended or self.is_fresh(), timeout)
        return self.is_fresh()

    def renew(self, sent: float) -> bool:
        """Take note of a beat that has succeeded; return whether the lease did not hold before."""
        was_fresh = self.is_fresh()
        with self._changed:
            self.last_beat = sent
            self._changed.notify_all()
        return not was_fresh

    def lose(self) -> None:
        """Take note that another worker has found this one dead."""
        with self._changed:
            self.dead = True
            self._changed.notify_all()

    def end(self) -> None:
        """Renew it no more: let every thread go on that waits for it."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
