"""One of a supervisor's places for a worker process: which child has it, and when the next one starts.

Kept by the supervisor, which says what becomes of a child that has ended.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ...core.backoff import Backoff

_FIRST_PAUSE, _MOST_PAUSE = 1.0, 30.0  # seconds until a child that has died is replaced
#: A child that was up for so many seconds did not fail at starting.
_GOOD_LIFE = 60.0
#: A child that is not up after so many seconds hangs. The next one gets twice as long: it may only be slow.
_UP_WITHIN = 60.0
_LONGEST = 32  # times that


@dataclass(eq=False, slots=True)
class Child:
    """A worker process, and the parent's end of its pair of sockets."""

    place: Place
    process: subprocess.Popen[bytes]
    line: socket.socket
    #: When it is killed unless it is up, by monotonic time; `None` once that is settled.
    up_by: float | None = None
    up_at: float | None = None

    def order(self, message: bytes) -> None:
        """Tell it what to do."""
        with suppress(OSError):  # It has ended.
            self.line.send(message)

    def close(self) -> None:
        """Close its line, after it has ended."""
        with suppress(OSError):  # Another process may have a copy of its end: the thread that hears waits no longer.
            self.line.shutdown(socket.SHUT_RDWR)
        self.line.close()


class Place:
    """A place, its child if it has one, and how often children here have failed in a row."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.child: Child | None = None
        #: When the next child is started, by monotonic time.
        self.due: float | None = None
        self._crashes = Backoff(_FIRST_PAUSE, _MOST_PAUSE)
        self._patience = Backoff(_UP_WITHIN, _UP_WITHIN * _LONGEST)

    def start(self, argv: Sequence[str], env: Mapping[str, str], *, may_hang: bool) -> Child:
        """Start a child, which is told its socket by `--obey FD`. `may_hang`: it may take its time to come up."""
        ours, its = socket.socketpair()
        try:
            argv = [*argv, "--obey", str(its.fileno())]
            process = subprocess.Popen(argv, pass_fds=(its.fileno(),), env=env)  # noqa: S603 - Our own command line.
        except BaseException:
            ours.close()
            raise
        finally:
            its.close()
        self.due = None
        child = self.child = Child(self, process, ours)
        if not may_hang:
            child.up_by = time.monotonic() + self._patience.pause
        return child

    def came_up(self, child: Child) -> None:
        """Take note that it is up: children here are not too slow."""
        child.up_by, child.up_at = None, time.monotonic()
        self._patience.reset()

    def give_up(self, child: Child) -> float:
        """Wait no longer for it to come up; return for how many seconds it was waited for. The next one gets more."""
        child.up_by = None
        return self._patience.failed()

    def empty(self) -> None:
        """Take note that its child has ended."""
        if self.child is not None:
            self.child.close()
            self.child = None

    def crashed(self, child: Child) -> float:
        """Return the seconds to wait before a child that has died is replaced: longer each time it died at once."""
        if child.up_at is not None and time.monotonic() - child.up_at >= _GOOD_LIFE:
            self._crashes.reset()
        return self._crashes.failed()

    def changed(self) -> None:
        """Take note that new code is to be started: what the old code failed by is forgotten."""
        self._crashes.reset()
