"""Fan broadcasts out to the runs that wait for them, a little at a time: what one worker has taken, and what is next.

Part of the chore `deliver`. A worker looks for the runs that wait for a broadcast at once, a moment later, and for the
last time when every transaction has ended that was open at the first look; `store.broadcasts` says why. When that is,
each worker remembers by itself, by its own clock. If it dies, others take anew what it had taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import ceil
from uuid import UUID

from django.db import connections

from ...store import broadcasts, listening
from ...store.broadcasts import MOST, MOST_WOKEN, Reached
from ...store.db.databases import session_of
from ...store.db.engine import transaction
from ...store.db.patience import idle_patience
from ...store.listening import ALL_TOGETHER, Broadcast, Place
from ..agenda import LOCKED_PAUSE, NEVER, Clock
from ..resting import put_off

_SOON = 1.0  # seconds until the second look: nearly every transaction has ended then
_TICK = 0.5  # seconds: later looks that fall due within so much are one look
#: Taking broadcasts has a tenth of a worker's time: the pause after it is so many times as long, and so many seconds at
#: most.
_PAUSES, _MOST_PAUSE = 9.0, 0.05


@dataclass(slots=True, eq=False)
class _Look:
    """The look `number` for the runs that wait for these broadcasts, which are then woken a batch at a time."""

    number: int
    broadcasts: Sequence[Broadcast]
    #: Those still to be woken, and where those begin that were not read yet; `None` behind the last.
    runs: deque[UUID] = field(default_factory=deque)
    place: Place | None = ALL_TOGETHER
    #: Those that other transactions have locked, and from when on all that are left are tried.
    locked: list[UUID] = field(default_factory=list)
    due_at: float = 0.0

    def put_off(self, until: float) -> None:
        self.due_at = until


class FanOut:
    """The broadcasts that one worker has taken."""

    def __init__(self, alias: str, steady: Clock) -> None:
        self._alias = alias
        self._steady = steady
        #: Runs that were cancelled by one, of which no receiver was told yet; and whether others are to be stopped.
        self.cancelled: list[UUID] = []
        self.stopped = False
        #: There are broadcasts that no worker has taken, as far as is known.
        self._expected = False
        #: From when on the next ones are taken.
        self._takes_at = 0.0
        #: From when on what was looked at is looked at again, after that has failed.
        self._looks_again_at = 0.0
        self._looks: deque[_Look] = deque()
        #: What has been looked at once, and twice: when it is due again, in this order, and the broadcasts' ids.
        self._again: tuple[deque[tuple[float, list[int]]], ...] = (deque(), deque())

    def expect(self) -> None:
        """Take note that there are new broadcasts."""
        self._expected = True

    def due_at(self) -> float:
        """Return when the next step is due, by the worker's clock."""
        moments = [look.due_at for look in self._looks]
        moments += [max(again[0][0], self._looks_again_at) for again in self._again if again]
        return min([*moments, self._takes_at] if self._expected else moments, default=NEVER)

    @property
    def is_busy(self) -> bool:
        """Whether there are runs to be woken, or broadcasts to be taken, and not only later looks to come."""
        return self._expected or bool(self._looks)

    def step(self, now: float) -> int:
        """Take new broadcasts, or go on with what was taken; return how many runs were woken."""
        if self._expected and now >= self._takes_at:
            return self._take()
        if now >= self._looks_again_at:
            with put_off(self._put_off_looks, self._steady):
                self._look_again(now)
        look = next((look for look in self._looks if look.due_at <= now), None)
        return 0 if look is None else self._go_on(look)

    def let_go(self) -> None:
        """Let other workers take what this one has not looked at to the end, or only once.

        Those are of the last second. The older ones only wait for their last look: others take them anew after a while.
        """
        first = self._again[0]
        for ids in [*map(_ids, self._looks), *(ids for _due_at, ids in first)]:
            broadcasts.let_go(self._alias, ids)
        self._looks.clear()
        first.clear()

    def _take(self) -> int:
        before, woken = self._steady(), 0
        look = None
        # Should this worker die before its end, others take them.
        with put_off(self._put_off_taking, self._steady):
            try:
                with transaction(connections[self._alias]):
                    taken = broadcasts.take(self._alias)
                    if taken:
                        look = _Look(0, taken)
                        woken = self._wake(look)
            except Exception:
                self.cancelled.clear()  # They were told of before this step, but for those of this transaction.
                raise
        self._expected = len(taken) == MOST
        if look is not None:
            self._looks.append(look)
            self._settle(look)
        after = self._steady()
        self._takes_at = after + min(_PAUSES * (after - before), _MOST_PAUSE)
        return woken

    def _look_again(self, now: float) -> None:
        for number, again in enumerate(self._again, start=1):
            ids: list[int] = []
            entries = 0
            for due_at, some in islice(again, MOST):
                if due_at > now or len(ids) + len(some) > MOST:
                    break
                ids += some
                entries += 1
            if entries:
                self._looks.append(_Look(number, broadcasts.read(self._alias, ids)))
                for _ in range(entries):
                    again.popleft()
                return

    def _go_on(self, look: _Look) -> int:
        # Behind the others, whatever comes of it: many runs, or one that fails, keep no other broadcast waiting.
        self._looks.remove(look)
        self._looks.append(look)
        with put_off(look.put_off, self._steady):
            woken = self._wake(look)
        self._settle(look)
        return woken

    def _wake(self, look: _Look) -> int:
        """Wake a batch of the runs that wait; return how many those were."""
        if not look.runs and look.place is not None:
            runs, look.place = listening.waiting(self._alias, look.broadcasts, look.place)
            look.runs.extend(runs)
        elif not look.runs:
            look.runs.extend(look.locked)
            look.locked.clear()
        batch = list(islice(look.runs, MOST_WOKEN))
        reached = broadcasts.wake(self._alias, look.broadcasts, batch) if batch else Reached()
        for _ in batch:  # Only now: should it fail, the next step does it.
            look.runs.popleft()
        look.locked += reached.locked
        self.cancelled += reached.cancelled
        self.stopped = self.stopped or reached.stopped
        return reached.woken

    def _settle(self, look: _Look) -> None:
        """Say when this look goes on, or end it."""
        if look.runs or look.place is not None:
            look.due_at = 0.0
        elif look.locked:
            look.due_at = self._steady() + LOCKED_PAUSE
        else:
            with put_off(look.put_off, self._steady):
                self._looked(look)
            self._looks.remove(look)

    def _looked(self, look: _Look) -> None:
        """Have it looked at again, or mark it as delivered: where one transaction at a time may write, at once."""
        if session_of(connections[self._alias]).has_one_writer or look.number == len(self._again):
            broadcasts.delivered(self._alias, _ids(look))
            return
        delay = _SOON if look.number == 0 else idle_patience()
        due_at = ceil((self._steady() + delay) / _TICK) * _TICK
        self._again[look.number].append((due_at, _ids(look)))

    def _put_off_taking(self, until: float) -> None:
        self._takes_at = until

    def _put_off_looks(self, until: float) -> None:
        self._looks_again_at = until


def _ids(look: _Look) -> list[int]:
    return [broadcast.id for broadcast in look.broadcasts]
