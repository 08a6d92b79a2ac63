"""Decide which workers are dead: those whose process is gone, and those whose heartbeat stood still for a lease.

Done by each poll; what the dead worker's runs go through then is in `recover`. `Watcher` judges with the time as an
argument, without a clock or a database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from ... import conf
from ...models import Worker
from ...observe import announce, facts
from ...store import host, leases
from ..agenda import Every
from ..heartbeat import interval


class DeclareDead:
    """Watches the other workers, as often as they beat, and at once when a process of this host is gone."""

    def __init__(self, owner: UUID, poll_seconds: float) -> None:
        self._owner = owner
        self._lease = conf.get().lease_seconds
        seconds = max(poll_seconds, interval(self._lease))
        self._watcher = Watcher(lease=self._lease, interval=seconds, own_id=owner)
        self._every = Every(seconds)
        self._neighbours: Sequence[Worker] = ()

    def run_once(self, now: float) -> bool:
        """Declare workers dead; return whether there were any."""
        if not self._every.is_due(now) and not any(map(host.is_gone, self._neighbours)):
            return False
        self._every.done(now)
        live = leases.live_workers()
        dead = set(self._watcher.find_dead(live, now))
        self._neighbours = [worker for worker in live if worker.id != self._owner and worker.id not in dead]
        found = [worker for worker in live if worker.id in dead and leases.declare_dead(worker.id)]
        for worker in found:
            name = worker.name or worker.host
            announce(facts.WorkerLost(worker.id, name, worker.pid, host.is_gone(worker), self._lease))
        return bool(found)


@dataclass(slots=True)
class _Counter:
    beat: int
    stood_still: float = 0.0


class Watcher:
    """Counts for how long each worker's heartbeat stood still, in this watcher's own time.

    Only time in which the database could be *written* counts, and its own counter says so: after an outage
    every worker first gets its chance to beat. `lease` and `interval` (between two calls) are in seconds.
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
        self._counters: dict[UUID, _Counter] = {}
        self._own_beat: int | None = None
        self._counted_until: float | None = None

    def find_dead(self, rows: Iterable[Worker], now: float) -> list[UUID]:
        """Return which of the live workers `rows` are dead. `now`: seconds of any clock that never goes back.

        Call it only with rows just read: rows that could not be read say nothing.
        """
        live = {row.id: row for row in rows}
        if self.own_id is not None and self.own_id not in live:
            return []  # This worker was declared dead itself: it judges no other.
        passed = self._time_passed(live, now)
        others = [row for row in live.values() if row.id != self.own_id]
        self._counters = {row.id: self._counter(row, passed) for row in others}
        return [row.id for row in others if self._is_dead(row)]

    def _time_passed(self, live: dict[UUID, Worker], now: float) -> float:
        if self.own_id is not None:
            beat, before = live[self.own_id].beat, self._own_beat
            self._own_beat = beat
            if beat == before:
                return 0.0
        last, self._counted_until = self._counted_until, now
        return 0.0 if last is None else max(0.0, min(now - last, 2 * self.interval))

    def _counter(self, row: Worker, passed: float) -> _Counter:
        known = self._counters.get(row.id)
        if known is None or known.beat != row.beat:
            return _Counter(row.beat)
        return _Counter(row.beat, known.stood_still + passed)

    def _is_dead(self, row: Worker) -> bool:
        return self._counters[row.id].stood_still >= self.lease or self._is_gone(row)
