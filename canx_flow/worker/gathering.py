"""The changes that wait to be written: in the order handed in, those of a locked run apart until the next tick.

Kept by the committer. Any thread puts tickets in; the thread that leads takes them out.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from math import ceil, exp
from uuid import UUID

from .ticket import Ticket

TICK = 0.01  # seconds that a change may lie while its body is busy

_MOST = 500  # changes in one transaction
_FEW = 16  # changes in one transaction while the connection is idle otherwise
_REMEMBERED = 0.1  # seconds that count for how busy the connection is
_LEFT_TO_OTHERS = 0.5  # of the time that a batch took, before the background thread takes SQLite's lock again
_MOST_LEFT = 0.12  # seconds: a process that waits for that lock tries it again by then


class Gathering:
    """A queue of tickets. `mutex` is the committer's: under it, the others of a held run follow that one."""

    def __init__(self, mutex: threading.Lock) -> None:
        self._mutex = mutex
        #: Handed in, and to be written next. Threads append to it without the mutex.
        self.queue: deque[Ticket] = deque()
        #: Another transaction has locked their runs' rows, or they are put off.
        self.held: list[Ticket] = []
        self._released_at = 0.0
        #: How many are being written.
        self._taken = 0

    def is_empty(self) -> bool:
        """Return whether nothing waits, neither in the queue nor held."""
        return not (self.queue or self.held)

    def unstored(self) -> int:
        """Return how many changes are being written, or are to be written next."""
        return self._taken + len(self.queue)

    def take(self, most: int) -> list[Ticket]:
        """Take the next batch out of the queue; what belongs to a held run is held, too."""
        batch: list[Ticket] = []
        with self._mutex:
            held = {ticket.change.run_id for ticket in self.held} if self.held else ()
            while self.queue and len(batch) < most:
                ticket = self.queue.popleft()
                if held and ticket.change.run_id in held:  # Not before what was handed in earlier.
                    self.hold(ticket)
                else:
                    batch.append(ticket)
        self._taken = len(batch)
        return batch

    def give_back(self, batch: Sequence[Ticket]) -> None:
        """Put back what was not written, whatever broke: no thread may wait for what is in no queue."""
        with self._mutex:
            self.queue.extendleft(reversed(batch))
        self._taken = 0

    def written(self) -> None:
        """Take note that the batch is written."""
        self._taken = 0

    def hold(self, ticket: Ticket) -> None:
        """Keep it for a later batch, so that its neighbours go on now. Under the mutex.

        All changes of its run are held, and keep their order.
        """
        ticket.hold()
        self.held.append(ticket)

    def release(self, may_go: Callable[[UUID, float], bool]) -> None:
        """Try again, once a tick, what stands behind another transaction: each try costs its neighbours time."""
        if not self.held or time.monotonic() - self._released_at < TICK:
            return
        with self._mutex:
            now = self._released_at = time.monotonic()
            everything, self.held = self.held, []
            released: list[Ticket] = []
            for ticket in everything:
                if may_go(ticket.change.run_id, now):
                    ticket.release()
                    released.append(ticket)
                else:
                    self.held.append(ticket)
            self.queue.extendleft(reversed(released))

    def is_awaited(self) -> bool:
        """Return whether the outcome of something in the queue is waited for. Under the mutex.

        What no run waits for yet may lie for a tick.
        """
        return any(ticket.is_awaited for ticket in list(self.queue))  # A copy: other threads go on handing in.


class Pace:
    """How many changes the next batch may have, and how long SQLite's lock is left to other processes before it."""

    def __init__(self, *, one_writer: bool) -> None:
        self._one_writer = one_writer
        #: Which part of the time, lately, has gone into writing, from 0 to 1.
        self._busy = 0.0
        self.most = _FEW
        #: The end of the last batch, and of the time after it in which SQLite's lock is left to other processes.
        self._free_until = time.monotonic()

    def wait(self) -> None:
        """Let others go first: the threads that were just woken hand in their next changes, and these go along.

        And SQLite has no queue for its lock: a process that finds it taken tries again after up to 100 ms. Were it
        taken again as soon as it is free, a web process beside a busy worker would never see it so, and fail with
        "database is locked" after its timeout.
        """
        time.sleep(max(self._free_until - time.monotonic(), 0.0))

    def written(self, began: float) -> None:
        """Take note of a batch: how many changes may the next one have?

        Few while there is time for many commits, all there are when there is none. Runs that are committed together go
        on together, and hand in their next changes together. Were a batch always all that waits, such groups would only
        ever grow, and each would wait longer for the one before it.
        """
        ended = time.monotonic()
        passed = max(ended - self._free_until, 1e-9)  # What was left to others was no time for a commit.
        forgotten = exp(-passed / _REMEMBERED)
        self._busy = self._busy * forgotten + min(1.0, (ended - began) / passed) * (1.0 - forgotten)
        self._free_until = ended
        if self._one_writer:
            self._free_until += min((ended - began) * _LEFT_TO_OTHERS, _MOST_LEFT)
        self.most = min(_MOST, ceil(_FEW / max(1.0 - self._busy, _FEW / _MOST)))
