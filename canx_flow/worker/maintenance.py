"""A worker's chores, each a short step of its turn: who is dead, what is due, what was left behind.

Called by the loop. Every worker does all of them; the guarded writes sort out who was first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import Error

from .. import conf
from ..core import clock, registry
from ..models import Worker
from ..observe import announce, facts
from ..replay import reports
from ..store import events, host, leases, parking, timers
from . import heartbeat
from .watch import Watcher

_PARK_EVERY = 2.0  # seconds
_TIDY_EVERY = 600.0
_KEEP_WORKERS = timedelta(days=1)
_NAMED = 5  # runs that one line names


class Maintenance:
    """The chores of one worker, and when each is due again, by the heartbeat's clock."""

    def __init__(
        self,
        owner: UUID,
        alias: str,
        queues: Sequence[str],
        poll: float,
        tell: Callable[[Callable[[], object]], object] = reports.here,
    ) -> None:
        settings = conf.get()
        self._tell = tell
        self._owner = owner
        self._alias = alias
        self._queues = queues
        self._lease = settings.lease_seconds
        interval = max(poll, heartbeat.interval(self._lease))
        self._watcher = Watcher(lease=self._lease, interval=interval, own_id=owner)
        self._watched_at = float("-inf")
        #: When this worker first saw each broadcast that is still being delivered.
        self._broadcasts: dict[int, float] = {}
        self._repeated_at = float("-inf")
        self._neighbours: Sequence[Worker] = ()
        self._parked_at = float("-inf")
        self._tidied_at = float("-inf")
        self._starting = True
        self._misfits = parking.Misfits(alias, registry.identities())
        #: An event is there for a run that another transaction had locked: to be delivered again, soon.
        self.locked_out = False
        #: Runs that have failed by their deadline, of which nobody has been told yet.
        self.late: list[timers.Expiry] = []
        #: What may have failed by it: the answer was lost.
        self._doubtful: set[timers.Expiry] = set()
        #: The same of runs that may have been parked by a recovery.
        self._doubtful_parked: list[leases.Recoverable] = []

    def watch(self) -> bool:
        """Look at the other workers' heartbeats; returns whether one was found dead.

        Once per heartbeat is often enough, and at once when a process of this host is gone.
        """
        if self._doubtful_parked:
            self._doubtful_parked = leases.tell_of_parked(self._doubtful_parked)
        now = heartbeat.clock()
        if now - self._watched_at < self._watcher.interval and not any(map(host.is_gone, self._neighbours)):
            return False
        self._watched_at = now
        live = leases.live_workers()
        dead = set(self._watcher.look(live, now))
        self._neighbours = [worker for worker in live if worker.id != self._owner and worker.id not in dead]
        found = [worker for worker in live if worker.id in dead and leases.declare_dead(worker.id)]
        for worker in found:
            name = worker.name or worker.host
            announce(facts.WorkerLost(worker.id, name, worker.pid, host.is_gone(worker), self._lease))
        return bool(found)

    def recover(self) -> int:
        """Take over what workers that are not alive have left; returns how many runs that was."""
        return sum(self._recover_all(owner) for owner in leases.owners_not_alive())

    def deliver(self) -> int:
        """Wake runs whose events were stored by somebody who could not wake them, and fan broadcasts out."""
        now = heartbeat.clock()
        again = now - self._repeated_at >= self._lease / 6
        if again:
            self._repeated_at = now
        woken, self.locked_out = events.deliver_directed(self._alias)
        return woken + events.deliver_broadcasts(self._alias, self._broadcasts, now, self._lease, again=again)

    def fire(self, *, one_batch: bool = False) -> timers.Fired:
        """Fire every timer that is due, batch by batch, or one batch of them. Those that fall due meanwhile have time
        until the next turn: else runs that are ready would wait for as long as others become due.

        Runs that have failed by it are `late`, and `tell_of_late` is to be called once that is committed.
        """
        every = timers.Fired()
        more = True
        while more:
            fired = self._fire()
            every.woken += fired.woken
            self.late += [(run_id, fired.at) for run_id in fired.timed_out]
            every.seen += fired.seen
            every.acted += fired.acted
            every.next_due = fired.next_due
            every.left = fired.may_be_more
            more = every.left and not one_batch
        return every

    def _fire(self) -> timers.Fired:
        expiring: set[timers.Expiry] = set()
        try:
            return timers.fire(self._alias, expiring)
        except Exception:
            self._doubtful |= expiring
            raise

    def doubt(self, since: int) -> None:
        """What was fired after so many were late may not be committed: `tell_of_late` asks."""
        self._doubtful |= set(self.late[since:])
        del self.late[since:]

    def tell_of_late(self) -> None:
        """Tell of runs that have failed by their deadline; if the database is away, the next call does."""
        if self._doubtful:
            certain, self._doubtful = timers.expired(self._alias, self._doubtful)
            self.late += certain
        late, self.late = self.late, []
        try:
            reports.timed_out(self._alias, [run_id for run_id, _moment in late], self._tell)
        except Error:  # It is asked about all of them before anybody is told of the first.
            self.late = late + self.late
            raise

    def look_at_parked(self, *, nothing_known_is_ready: bool, room: int) -> int:
        """Park what nobody knows, and let go on what fits this worker's code; returns how many runs became ready.

        `room`: for how many. Misfits that find none here would be taken up by the worker that has parked them.
        """
        now = heartbeat.clock()
        if now - self._parked_at < _PARK_EVERY:
            return 0
        self._parked_at = now
        starting, self._starting = self._starting, False
        if nothing_known_is_ready:
            self._park_unknown()
        ready = parking.look(self._alias, registry.identities(), starting=starting)
        return ready + (self._misfits.look_at_all() if starting else self._misfits.look(max(1, room)))

    def tidy(self) -> None:
        """Forget workers that ended a day ago, and broadcasts that are too old to be read."""
        now = heartbeat.clock()
        if now - self._tidied_at < _TIDY_EVERY:
            return
        self._tidied_at = now
        moment: datetime = clock.now()
        leases.forget_ended(moment - _KEEP_WORKERS)
        events.forget(self._alias, moment - timedelta(days=conf.get().event_days))

    def _recover_all(self, owner: UUID) -> int:
        found: list[UUID] = []
        while recovered := leases.recover(owner, doubtful=self._doubtful_parked):
            found += recovered
        if found:
            self._tell_of_recovered(owner, found)
        return len(found)

    def _tell_of_recovered(self, owner: UUID, runs: list[UUID]) -> None:
        """Which runs were taken from it, and in which step each was when it was last heard of."""
        worker = Worker.objects.using(self._alias).filter(id=owner).first()
        said = json.loads(worker.activity) if worker is not None else {}
        steps = {run: said.get(str(run), {}).get("step") for run in runs[:_NAMED]}
        name = str(worker or "without a row")
        announce(facts.RunsRecovered(name, owner, tuple(steps.items()), len(runs)))

    def _park_unknown(self) -> None:
        parked = parking.park_unknown(self._alias, leases.live_workers(), self._queues)
        reports.parked_unknown(self._alias, parked, self._tell)
