"""Taking what the limits of one queue allow, in a transaction that has the queue's row locked.

Called by `queue_claims`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..core.claimed import ClaimedRun
from . import queue_looks as looks
from .allowance import Allowance
from .db.portable import Portable
from .db.ready import Taker
from .queue_looks import Found
from .queue_rows import Locked, lock
from .taking import take, take_these
from .turns import Turns

#: Partitions that a claim looks at beyond those that it could take a run of: others' rates may be used up, or their
#: runs unknown to this worker. And the seconds after which the next claim goes on there.
_MORE_PARTITIONS = 200
_GOES_ON = 0.25


@dataclass(slots=True)
class Filled:
    """What was taken from one queue, and why not more."""

    runs: list[ClaimedRun] = field(default_factory=list)
    #: This worker has no more room.
    more: bool = False
    #: Its limits allow no more now, or not to this worker.
    is_blocked: bool = False
    #: They allow more to other workers.
    is_bound: bool = False
    #: Another transaction had the queue's row, or a run's, locked.
    is_contended: bool = False
    again_in: float | None = None


def fill(
    session: Portable, taker: Taker, name: str, free: int, ahead: int, turns: Turns, now: float | None = None
) -> Filled:
    """Take up to `free` runs of a queue for free slots, and up to so many more `ahead`, within its limits."""
    locked = lock(session, name, now)
    if locked is None:
        return Filled(is_contended=True)
    if locked.paused or not locked.limits.any:  # It was paused, or its limits were taken back, since it was found.
        return Filled(again_in=None if locked.paused else 0.0)
    return _Filling(session, taker, locked, turns).fill(max(0, free), max(0, ahead))


class _Filling:
    """One claim from one queue, whose row is locked."""

    def __init__(self, session: Portable, taker: Taker, locked: Locked, turns: Turns) -> None:
        self._session = session
        self._taker = taker
        self._name = locked.name
        self._limits = locked.limits
        self._turns = turns
        self._allowance = Allowance(session, taker, locked)
        self._filled = Filled()

    def fill(self, free: int, ahead: int) -> Filled:
        """Take what may be taken; say why it is not more."""
        allowance, filled = self._allowance, self._filled
        allowance.offer(free, ahead)
        if allowance.places:
            self._take()
        filled.more = len(filled.runs) == free + ahead
        # As many as there were places: there may be more runs than these.
        was_enough = allowance.places == 0
        filled.is_blocked = not filled.more and (was_enough or filled.is_blocked)
        filled.is_bound = filled.is_blocked and was_enough and allowance.left_for_all() != 0
        moments = [moment for moment in (filled.again_in, allowance.again_in()) if moment is not None]
        filled.again_in = min(moments, default=None) if not was_enough else None
        allowance.store()
        return filled

    def _take(self) -> None:
        if self._taker.alone:
            self._take_found(looks.alone(self._session, self._taker))
            return
        oldest = self._turns.oldest(self._name, self._limits.share_of_oldest, self._allowance.places)
        if oldest:
            self._take_found(looks.oldest(self._session, self._taker, oldest), oldest)
        if self._limits.of_partitions:
            self._take_by_turns()
        elif self._limits.is_strict:
            self._take_first()
        else:
            self._take_in_order()

    def _take_first(self) -> None:
        """Take the first run; nothing, if another transaction has that one locked: order before speed."""
        if self._allowance.places:
            self._take_found(
                self._woken() if self._allowance.may_start() == 0 else looks.first(self._session, self._taker)
            )

    def _take_in_order(self) -> None:
        """Take by priority, then age, as from queues without limits; once the rate is used up, those woken only."""
        while self._allowance.places:
            starts = self._allowance.may_start()
            most = self._allowance.places if starts is None else min(self._allowance.places, starts)
            if not most:
                self._take_found(self._woken())
                return
            runs = take(self._session, self._taker, most, None).runs
            for run in runs:
                self._allowance.count(None, is_fresh=run.fresh)
            self._filled.runs += runs
            if len(runs) < most:
                return

    def _woken(self) -> list[Found]:
        return looks.oldest(self._session, self._taker, self._allowance.places, only_woken=True)

    def _take_by_turns(self) -> None:
        """Take one run of each partition, in rounds, beginning behind the one that the last claim has ended with."""
        allowance, full = self._allowance, self._allowance.full_partitions()
        taken = self._take_heads(allowance.places + full)
        if allowance.places:
            several = [each.partition for each in taken if each.partition and allowance.left_in(each.partition) > 0]
            taken += self._take_found(looks.rounds(self._session, self._taker, several, allowance.places))
        if taken and taken[-1].partition:
            self._turns.end_with(self._name, taken[-1].partition)
        if allowance.places:
            self._take_found(looks.oldest(self._session, self._taker, allowance.places, without_partition=True))
        self._filled.is_blocked = self._filled.is_blocked or full > 0

    def _take_heads(self, wanted: int) -> list[Found]:
        """Take the first run of each partition, as far as there are places.

        As many are looked at as are `wanted`, and some more while places are left. Was nothing taken of all of these,
        the next claim goes on behind them.
        """
        begin, left = self._turns.partition(self._name), wanted + _MORE_PARTITIONS
        parts: list[tuple[str, str | None]] = [("", begin), (begin, None)]
        taken: list[Found] = []
        while parts and left and self._allowance.places:
            (behind, end), enough = parts.pop(), left - _MORE_PARTITIONS
            look = looks.heads(self._session, self._taker, behind, end, enough if enough > 0 else left)
            taken += self._take_found(look.found)
            left -= look.looked
            if look.last is not None:
                parts.append((look.last, end))
        if parts and not left:
            if not taken:
                self._turns.end_with(self._name, parts[-1][0])
            # Before where it began it goes on with the next poll: round and round at once would be for nothing.
            if taken or parts[-1][1] is None:
                self._filled.again_in = _GOES_ON
        return taken

    def _take_found(self, found: Sequence[Found], most: int | None = None) -> list[Found]:
        """Take those of them, in their order, that the limits allow, `most` at most; return which those were."""
        allowance = self._allowance
        allowance.read({each.partition for each in found})
        chosen: list[Found] = []
        for each in found:
            if len(chosen) == most or not allowance.places:
                break
            if allowance.allows(each):
                chosen.append(each)
                allowance.count(each.partition, is_fresh=each.is_fresh)
            else:
                self._filled.is_blocked = True
        runs = take_these(self._session, self._taker, [each.id for each in chosen]) if chosen else []
        taken = {run.id for run in runs}
        for each in chosen:
            if each.uuid not in taken:
                allowance.count(each.partition, is_fresh=each.is_fresh, number=-1)
                self._filled.is_contended = True
        self._filled.runs += runs
        return [each for each in chosen if each.uuid in taken]
