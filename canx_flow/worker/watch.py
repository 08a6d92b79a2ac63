"""Who is dead: the judge of the other workers' heartbeats. Time is an argument; it asks no clock and no database.

Called by the loop's maintenance with the live workers' rows, every few seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from uuid import UUID

from ..models import Worker
from ..store import host


@dataclass(slots=True)
class _Pulse:
    beat: int
    stood_still: float = 0.0


class Watcher:
    """Counts for how long each worker's counter stood still, in this watcher's own time.

    Only time in which the database could be *written* counts, and its own counter says so: after an outage
    every worker first gets its chance to beat. `lease` and `interval` (between two looks) are in seconds.
    """

    def __init__(
        self,
        *,
        lease: float,
        interval: float,
        own_id: UUID | None = None,
        is_gone: Callable[[Worker], bool] = host.is_gone,
    ) -> None:
        self.lease = lease
        self.interval = interval
        self.own_id = own_id
        self._is_gone = is_gone
        self._pulses: dict[UUID, _Pulse] = {}
        self._own_beat: int | None = None
        self._counted_until: float | None = None

    def look(self, rows: Iterable[Worker], now: float) -> list[UUID]:
        """Which of the live workers `rows` are dead. `now`: seconds of any clock that never goes back.

        Call it only with rows just read: a look that failed is no look.
        """
        live = {row.id: row for row in rows}
        if self.own_id is not None and self.own_id not in live:
            return []  # Found dead itself: it judges nobody.
        passed = self._time_passed(live, now)
        others = [row for row in live.values() if row.id != self.own_id]
        self._pulses = {row.id: self._pulse(row, passed) for row in others}
        return [row.id for row in others if self._is_dead(row)]

    def _time_passed(self, live: dict[UUID, Worker], now: float) -> float:
        if self.own_id is not None:
            beat, before = live[self.own_id].beat, self._own_beat
            self._own_beat = beat
            if beat == before:
                return 0.0
        last, self._counted_until = self._counted_until, now
        return 0.0 if last is None else max(0.0, min(now - last, 2 * self.interval))

    def _pulse(self, row: Worker, passed: float) -> _Pulse:
        known = self._pulses.get(row.id)
        if known is None or known.beat != row.beat:
            return _Pulse(row.beat)
        return _Pulse(row.beat, known.stood_still + passed)

    def _is_dead(self, row: Worker) -> bool:
        return self._pulses[row.id].stood_still >= self.lease or self._is_gone(row)
