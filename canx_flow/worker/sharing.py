"""What a worker leaves to others, and when it tells them: it is full, or has woken runs that it does not take.

Called at the end of each turn, and by a worker that leaves. Others find the same at their next poll.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..store import telling
from ..store.telling import Message
from .agenda import NEVER, Clock, Every

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
        #: What others are still to be told: what this worker was told, and that it leaves runs that are ready.
        self._heard: set[Message] = set()
        self._leaves_runs = False

    def woke(self, runs: int) -> None:
        """Take note of runs that this worker has made ready."""
        self._unclaimed += runs

    def claimed(self, runs: int) -> None:
        """Take note of runs that it has claimed."""
        self._unclaimed -= runs

    def has_woken(self) -> bool:
        """Return whether this worker has made runs ready in this turn, which may stand anywhere among the others."""
        return self._unclaimed > 0

    def end_turn(self, heard: Sequence[Message], *, cannot_take: bool, leaves_more: bool) -> None:
        """Tell others of what this turn leaves.

        `cannot_take`: what was `heard` is for others. `leaves_more`: runs are ready which this worker is too full for,
        and it was not so before.
        """
        unclaimed, self._unclaimed = self._unclaimed, 0
        work = [message for message in heard if cannot_take and message.reason == "work"]
        # Of what it was told of it tells nothing anew: where all are full, that would go round for ever.
        self._leaves_runs = self._leaves_runs or unclaimed > 0 or (leaves_more and not work)
        self.pass_on(work)

    def pass_on(self, heard: Iterable[Message], *, at_once: bool = False) -> None:
        """Tell others what this worker was told: now or, unless `at_once`, a moment after the last time."""
        self._heard.update(heard)
        if at_once or self.due_at() <= self._steady():
            self._tell()

    def due_at(self) -> float:
        """Return when others are told next, by the worker's clock."""
        now = self._steady()
        return now + self._every.left(now) if self._heard or self._leaves_runs else NEVER

    def _tell(self) -> None:
        heard, self._heard = self._heard, set()
        leaves_runs, self._leaves_runs = self._leaves_runs, False
        if heard or leaves_runs:
            self._every.done(self._steady())
            telling.pass_on(self._alias, self._address, heard, leaves_runs=leaves_runs)
