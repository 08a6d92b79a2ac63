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

_LOOKED_AT = 3  # processes that each worker looks at by each poll
_STARTING = 4.0  # leases until a worker is dead that has never beaten: it owns nothing, and its machine may be busy


class DeclareDead:
    """Watches the other workers, as often as they beat, and at once when a process of this host is gone.

    Each watches the processes of the next few of its host, so that one more worker costs the others nothing. Which of
    all processes are gone is asked once one of these is, and at the start.
    """

    def __init__(self, owner: UUID, poll_seconds: float) -> None:
        self._owner = owner
        self._lease = conf.get().lease_seconds
        seconds = max(poll_seconds, interval(self._lease))
        self._watcher = Watcher(lease=self._lease, interval=seconds, own_id=owner)
        self._every = Every(seconds)
        #: Of these workers the processes are looked at; `None`: of all, for none has been seen yet.
        self._next: Sequence[Worker] | None = None
        #: This worker's place among the live ones, and how many those are, as last seen.
        self.place = (0, 1)
        #: Which those are.
        self.live: frozenset[UUID] = frozenset({owner})

    def run_once(self, now: float) -> bool:
        """Declare workers dead; return whether there were any."""
        is_one_gone = self._next is None or any(map(host.is_gone, self._next))
        if not self._every.is_due(now) and not is_one_gone:
            return False
        self._every.done(now)
        live = leases.watched_workers()
        dead = set(self._watcher.find_dead(live, now, processes=is_one_gone))
        self._next = next_of_host(self._owner, [worker for worker in live if worker.id not in dead])
        ids = sorted(worker.id for worker in live if worker.id not in dead)
        self.place = (ids.index(self._owner), len(ids)) if self._owner in ids else (0, 1)
        self.live = frozenset(ids)
        found = [worker for worker in live if worker.id in dead and leases.declare_dead(worker.id)]
        for worker in found:
            name = worker.name or worker.host
            announce(facts.WorkerLost(worker.id, name, worker.pid, host.is_gone(worker), self._lease))
        return bool(found)


def next_of_host(owner: UUID, live: Sequence[Worker]) -> Sequence[Worker]:
    """Return the few workers that come after this one, among those whose processes can be looked at from here.

    In the order of their ids, and after the last comes the first: each is looked at by as many others.
    """
    own = next((worker for worker in live if worker.id == owner), None)
    if own is None:
        return ()
    place = (own.boot_id, own.pid_namespace)
    here = [worker for worker in live if (worker.boot_id, worker.pid_namespace) == place and worker is not own]
    return sorted(here, key=lambda worker: (worker.id < owner, worker.id))[:_LOOKED_AT]


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

    def find_dead(self, rows: Iterable[Worker], now: float, *, processes: bool = True) -> list[UUID]:
        """Return which of the live workers `rows` are dead. `now`: seconds of any clock that never goes back.

        `processes`: look whether their processes are gone, too. Call it only with rows just read: rows that could not
        be read say nothing.
        """
        live = {row.id: row for row in rows}
        if self.own_id is not None and self.own_id not in live:
            return []  # This worker was declared dead itself: it judges no other.
        passed = self._time_passed(live, now)
        others = [row for row in live.values() if row.id != self.own_id]
        self._counters = {row.id: self._counter(row, passed) for row in others}
        return [row.id for row in others if self._stands_still(row) or (processes and self._is_gone(row))]

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

    def _stands_still(self, row: Worker) -> bool:
        """Return whether it has not beaten for a lease; one that never has, for a few."""
        patience = self.lease if row.beat else self.lease * _STARTING
        return self._counters[row.id].stood_still >= patience
