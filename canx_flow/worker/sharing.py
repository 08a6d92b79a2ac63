"""What a worker leaves to others, and when it tells them: it is full, or has woken runs that it does not take.

Called at the end of each turn, and by a worker that leaves. Others find the same at their next poll.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..store import telling
from ..store.telling import Message
from .agenda import Clock, Every

_PAUSE = 0.05  # seconds between two times: where all are full, they would tell one another of every start


class Sharing:
    """Tells the neighbours of one worker, whose listener has this address."""

    def __init__(self, alias: str, address: str, steady: Clock) -> None:
        self._alias = alias
        self._address = address
        self._steady = steady
        self._every = Every(_PAUSE)
        #: Runs that were made ready, less those that were claimed, in this turn.
        self._unclaimed = 0

    def woke(self, runs: int) -> None:
        """Take note of runs that this worker has made ready."""
        self._unclaimed += runs

    def claimed(self, runs: int) -> None:
        """Take note of runs that it has claimed."""
        self._unclaimed -= runs

    def end_turn(self, heard: Sequence[Message], *, cannot_take: bool, leaves_more: bool) -> None:
        """Tell others of what this turn leaves.

        `cannot_take`: what was `heard` is for others. `leaves_more`: runs are ready which this worker is too full for,
        and it was not so before.
        """
        unclaimed, self._unclaimed = self._unclaimed, 0
        work = [message for message in heard if message.reason == "work"]
        if work and cannot_take:
            self.pass_on(work)
        elif (unclaimed > 0 or leaves_more) and self._may_tell():
            telling.share(self._alias, self._address)

    def pass_on(self, heard: Collection[Message]) -> None:
        """Tell others what this worker was told."""
        if heard and self._may_tell():
            for message in set(heard):
                telling.pass_on(self._alias, message, self._address)

    def _may_tell(self) -> bool:
        now = self._steady()
        due = self._every.is_due(now)
        if due:
            self._every.done(now)
        return due
