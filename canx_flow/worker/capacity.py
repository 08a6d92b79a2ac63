"""What a worker may claim: as many runs as it has free slots, a run that must be alone, and no more than --max-runs.

Called by the turn, which gives what is claimed to the slots.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connections

from ..core import registry
from ..core.claimed import ClaimedRun
from ..store.bookmark import Bookmark
from ..store.queue_claims import QueueClaims, Taken
from .agenda import Clock
from .slots import Slots
from .solitude import Solitude
from .vitals import Vitals

_AHEAD_SECONDS = 0.02  # how much work to hold claimed beyond the slots, so that claims come in batches
# Claims are slow while a transaction anywhere holds an old snapshot, so that the database keeps the entries of all runs
# that were ready since: each claim reads them again. Then it takes as much more as the slots do in some times that.
_SLOW_SECONDS = 0.01
_AHEAD_OF_SLOW = 4
_MOST_AHEAD_SECONDS = 0.5
_WAITED_TOO_LONG = 1.0  # seconds in a slot's queue after which a claimed run is offered to other workers
_RATE_SECONDS = 0.1
_LEAST_RATE_SECONDS = 0.01


class Bounds:
    """What a worker was bidden by --burst and --max-runs, and how many runs it has claimed, in all its lives."""

    def __init__(self, *, burst: bool, max_runs: int | None) -> None:
        self._burst = burst
        self._max_runs = max_runs
        self._claimed = 0

    def left(self) -> int | None:
        """Return how many runs may still be claimed; `None`: any number."""
        return None if self._max_runs is None else max(0, self._max_runs - self._claimed)

    def claimed(self, runs: int) -> None:
        self._claimed += runs

    def is_spent(self) -> bool:
        """Return whether no run may be claimed any more."""
        return self.left() == 0

    def ends_when_idle(self) -> bool:
        """Return whether the worker is to end once it has nothing in flight and finds nothing to do."""
        return self._burst or self.is_spent()


class Claimed(NamedTuple):
    """What a claim has taken, and whether there may be more ready runs than that.

    `for_others`: more that only other workers may take now. `again_in`: seconds after which limits may allow more.
    """

    runs: Sequence[ClaimedRun]
    may_be_more: bool
    for_others: bool = False
    again_in: float | None = None


NOTHING = Claimed((), may_be_more=False)


class Capacity:
    """How much one worker can take, and the claim of as much."""

    def __init__(
        self,
        owner: UUID,
        alias: str,
        queues: Sequence[str],
        *,
        slots: Slots,
        solitude: Solitude,
        vitals: Vitals,
        bounds: Bounds,
        steady: Clock,
    ) -> None:
        self._owner = owner
        self._alias = alias
        self._slots = slots
        self._solitude = solitude
        self._vitals = vitals
        self._bounds = bounds
        self._rate = Rate(steady)
        self._slowness = Slowness(steady)
        #: How many turns in a row have found nothing, while nothing was in flight.
        self._idle_turns = 0
        self._claims = QueueClaims(owner, queues)

    def any_apart(self, found: bool) -> None:
        """Take note of whether any queue has limits or is paused."""
        self._claims.any_apart = found

    def is_blocked(self, queue: str) -> bool:
        """Return whether runs of this queue are ready that its limits did not allow at the last claim."""
        return queue in self._claims.blocked

    def room(self) -> int:
        """Return how many slots are free, and some ahead where runs are short: one claim for many, not one for each."""
        in_flight, concurrency = self._slots.in_flight, self._slots.concurrency
        if in_flight > concurrency or not self._solitude.leaves_room(in_flight):
            return 0
        if not self._vitals.connected():  # Slots must not take the connections that these are to have.
            return 0
        rate = self._rate.of(self._slots.finished)
        ahead = min(concurrency, int(rate * _AHEAD_SECONDS)) + int(rate * self._slowness.ahead_seconds())
        return concurrency + ahead - in_flight

    def is_full(self) -> bool:
        return self.room() <= 0

    def is_spent(self) -> bool:
        """Return whether this worker was bidden to claim no more runs than it has."""
        return self._bounds.is_spent()

    def claim(self, bookmark: Bookmark | None = None, *, anywhere: bool = True) -> Claimed:
        """Claim runs for the slots that are free: alone the one that must be alone, if nothing else is in flight.

        Behind the bookmark, if there is one, unless runs have become ready `anywhere`.
        The runs come without their records; the slots have not got them yet.
        """
        room, left = self.room(), self._bounds.left()
        most = room if left is None else min(room, left)
        if most <= 0:
            return Claimed((), may_be_more=room <= 0)
        alone = self._solitude.is_wanted and self._slots.in_flight == 0
        taken = self._claim(1, 0, alone=True) if alone else Taken()
        self._solitude.enter(bool(taken.runs), tried=alone)
        if not taken.runs:
            free = min(most, self._slots.concurrency - self._slots.in_flight)
            taken = self._claim(free, most - free, bookmark=bookmark, anywhere=anywhere)
        return Claimed(taken.runs, taken.more or len(taken.runs) == most, taken.for_others, taken.again_in)

    def start(self, runs: Sequence[ClaimedRun]) -> None:
        """Give the claimed runs to the slots."""
        for run in runs:
            self._slots.start(run)
        self._bounds.claimed(len(runs))

    def is_draining(self) -> bool:
        """Return whether a worker with --burst or --max-runs has nothing in flight, and could claim if it may."""
        draining = self._bounds.ends_when_idle() and not self._slots.in_flight and self._vitals.connected()
        if not draining:
            self._idle_turns = 0
        return draining

    def is_drained(self, found: int) -> bool:
        """Return whether a draining worker has nothing left. It asks twice, for what was just written."""
        self._idle_turns = 0 if found else self._idle_turns + 1
        return self._bounds.is_spent() or self._idle_turns >= 2

    def is_idle(self) -> bool:
        """Return whether nothing is in flight."""
        return self._slots.in_flight == 0

    def is_short_of_runs(self) -> bool:
        """Return whether no claimed run waits for a slot."""
        return self._slots.in_flight <= self._slots.concurrency

    def rebalance(self) -> None:
        """Offer runs that have waited too long for a slot to other workers; start threads that could not be started."""
        self._slots.hand_back_waiting(0.0 if self._solitude.makes_room else _WAITED_TOO_LONG)
        self._slots.reinforce()

    def _claim(self, free: int, ahead: int, **how: Any) -> Taken:
        with self._slowness.measured():
            return self._claims.claim(connections[self._alias], free, ahead, registry.identities(), **how)


class Slowness:
    """How long claims take: the shorter of the last two, for one alone may have waited for the machine."""

    def __init__(self, steady: Clock) -> None:
        self._steady = steady
        self._seconds = deque([0.0, 0.0], maxlen=2)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure the claim in this block."""
        began = self._steady()
        yield
        self._seconds.append(self._steady() - began)

    def ahead_seconds(self) -> float:
        """Return for how many more seconds' work a claim is to take runs."""
        seconds = min(self._seconds)
        return min(_MOST_AHEAD_SECONDS, _AHEAD_OF_SLOW * seconds) if seconds > _SLOW_SECONDS else 0.0


class Rate:
    """Runs finished per second, over about the last tenth of one: a burst of runs is no longer than that."""

    def __init__(self, steady: Clock) -> None:
        self._steady = steady
        self._samples: deque[tuple[float, int]] = deque()

    def of(self, finished: int) -> float:
        """Return the rate, given how many runs have finished until now."""
        now = self._steady()
        self._samples.append((now, finished))
        while len(self._samples) > 2 and now - self._samples[0][0] > _RATE_SECONDS:
            self._samples.popleft()
        then, before = self._samples[0]
        return (finished - before) / (now - then) if now - then > _LEAST_RATE_SECONDS else 0.0
