"""What a registered worker consists of: its threads and connections, and what each tells the others.

Built by `life`, started and closed together.
"""

from __future__ import annotations

import json
from functools import partial
from uuid import UUID

from .. import conf
from ..core.changes import Change, Outcome
from ..observe import announce, facts
from ..states import PENDING
from .activity import Activity
from .agenda import Agenda, Clock
from .capacity import Bounds, Capacity
from .chores import chores_of
from .committer import Committer
from .heartbeat import Heartbeat
from .horizon import Horizon
from .leaving import InFlight
from .options import Options
from .outages import OutageLog
from .port import WorkerPort
from .sharing import Sharing
from .slots import Slots
from .solitude import Solitude
from .teller import Teller
from .threads import StepThreads
from .turn import Turn
from .vitals import Vitals
from .wakeup import Listener


class Parts:
    """The parts of one worker, each made with what it tells the others."""

    def __init__(
        self,
        owner: UUID,
        alias: str,
        options: Options,
        bounds: Bounds,
        listener: Listener,
        outages: OutageLog,
        steady: Clock,
    ) -> None:
        self.owner = owner
        self._listener = listener
        self.threads = StepThreads(partial(listener.wake, "abandoned"))
        self.committer = Committer(
            alias, owner, on_stored=self._stored, on_ready=partial(listener.wake, "ready"), outages=outages
        )
        self.heartbeat = Heartbeat(
            owner,
            snapshot=self._snapshot,
            on_dead=self._found_dead,
            on_fresh=partial(listener.wake, "fresh"),
            file=options.heartbeat_file,
            outages=outages,
        )
        self.port = WorkerPort(alias, owner, self.committer, self.heartbeat, self.threads)
        self.slots = Slots(self.port, options.concurrency, self._slot_freed)
        self.vitals = Vitals(self.committer, self.heartbeat, listener)
        self._activity = Activity()
        self.teller = Teller(self.threads)
        self.turn = self._make_turn(alias, options, bounds, steady)

    def _make_turn(self, alias: str, options: Options, bounds: Bounds, steady: Clock) -> Turn:
        agenda, solitude = Agenda(options.poll_seconds, steady), Solitude(self.owner)
        capacity = Capacity(
            self.owner,
            alias,
            options.queues,
            slots=self.slots,
            solitude=solitude,
            vitals=self.vitals,
            bounds=bounds,
            steady=steady,
        )
        chores = chores_of(
            self.owner,
            alias,
            options.queues,
            poll_seconds=options.poll_seconds,
            agenda=agenda,
            slots=self.slots,
            solitude=solitude,
            tell=self.teller,
            watched=self.port.watched,
        )
        sharing = Sharing(alias, self._listener.address, steady)
        return Turn(alias, options.queues, agenda, capacity, chores, sharing, self.port.kept, Horizon(alias, steady))

    def start(self) -> None:
        """Begin to store changes and to renew the lease. Nothing is claimed before both are connected."""
        self.committer.start()
        self.heartbeat.start()

    def close(self, *, at_once: bool) -> None:
        """Store what the slots have handed in, unless the worker leaves `at_once`; end every thread."""
        self.port.stop()
        if at_once:
            self.committer.abandon()
        self.slots.close()
        self.threads.close()
        self.committer.stop()
        self.port.store.close()
        self.heartbeat.stop()

    def in_flight(self) -> InFlight:
        """Return which runs are still in flight, for people."""
        activations = dict(self.port.activations)
        said = self._activity.describe(activations, self.slots.blocked())
        return InFlight(self.slots.in_flight, activations, said, stored=not self.committer.failing)

    def _stored(self, change: Change, outcome: Outcome) -> None:
        """Wake the worker if it has more to do, or earlier, than it knew. Called on the committer's thread."""
        for reason in self.turn.stored(change, outcome):
            self._listener.wake(reason)

    def _slot_freed(self, state: str, queue: str) -> None:
        """Wake the worker if it claims something for the slot of a run of this queue that was left in this state.

        Called on the slot's thread.
        """
        if state == PENDING:  # Nobody else is told of it.
            self._listener.wake("ready again")
        elif self.turn.claims_for_free_slot(queue):
            self._listener.wake("free")

    def _snapshot(self) -> tuple[str, int]:
        """Return what the heartbeat tells of this worker. Called on the heartbeat's thread."""
        activity = self._activity.describe(dict(self.port.activations), self.slots.blocked())
        return json.dumps(activity), self.threads.abandoned

    def _found_dead(self) -> None:
        """Store nothing more: other workers have the runs. Called on the heartbeat's thread."""
        announce(facts.WorkerFoundDead(conf.get().lease_seconds))
        self.committer.abandon()
        self._listener.wake("dead")
