"""The inline driver: a worker's turn on the caller's thread and connection. Commits are savepoints in a TestCase.

Async workflows run in an event loop whose database work comes back to this thread. Timeouts of plain functions
are not enforced: there is no other thread to leave behind.
"""

from __future__ import annotations

import os
from contextvars import copy_context
from datetime import datetime, timedelta

from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections

from .. import conf
from ..client.controls import tell_of_cancel
from ..core import clock, registry
from ..core import schedules as declarations
from ..core.claimed import ClaimedRun
from ..core.durations import later, seconds
from ..models import WorkflowRun
from ..replay import executor, reports
from ..store import afterwards, broadcasts, claims, events, leases, parking, queues, schedules, ticks, timers
from ..store.queue_claims import QueueClaims
from ..store.unparking import Unparking
from . import travel
from .port import InlinePort

_BATCH = 100
_LIMIT = 10_000  # activations without an end in sight: half a minute


def run_until_idle(limit: int = _LIMIT) -> int:
    """Run everything that is due now, until nothing is; returns how many activations that took.

    `limit` bounds them: RuntimeError names a run that never comes to rest. Its twin for async tests is
    `arun_until_idle`.
    """
    with _Inline() as inline:
        return inline.run(limit)


async def arun_until_idle(limit: int = _LIMIT) -> int:
    """Do what `run_until_idle` does, from an async test."""
    return await sync_to_async(run_until_idle)(limit)


def advance(delta: timedelta | float) -> int:
    """Move the clock by `delta` (timedelta or seconds), from timer to timer and from tick to tick of schedules,
    running everything due at each.

    Under freezegun or time-machine their clock is moved, so that the project's own code sees it; else the engine's
    alone. The engine's stands still meanwhile, though theirs may tick: two sleeps of an hour take two hours, however
    long this test takes. Returns how many activations that took. Its twin for async tests is `aadvance`.
    """
    moving = travel.moving()
    with moving, _Inline() as inline:
        target = later(clock.now(), seconds(delta, "delta"), "a delta")
        activations = inline.run()
        while (due := inline.next_due()) is not None and due <= target:
            moving.to(due)
            activations += inline.run()
        moving.to(target)
        return activations + inline.run()


def _next_due(alias: str) -> datetime | None:
    """Return when the next timer is due, or the next schedule."""
    found = (timers.next_due(alias), schedules.next_tick(alias))
    return min((moment for moment in found if moment is not None), default=None)


async def aadvance(delta: timedelta | float) -> int:
    """Do what `advance` does, from an async test."""
    return await sync_to_async(advance)(delta)


class _Inline:
    """A worker for the length of one call, however far that moves the clock."""

    def __init__(self) -> None:
        self.alias = conf.get().database

    def __enter__(self) -> _Inline:
        identities = registry.identities()
        self._owner = leases.register(
            host="inline", pid=os.getpid(), name="inline", workflows=identities,
            schedules=declarations.names(),
        ).id  # fmt: skip
        queues.declare(self.alias)
        self._claims = QueueClaims(self._owner, now=lambda: clock.now().timestamp())
        #: When limits allow more than at the last claim.
        self._again_at: datetime | None = None
        self._port = InlinePort(self.alias, self._owner)
        Unparking(self.alias, identities).all()
        schedules.sync(self.alias, self._owner, declarations.declared())
        return self

    def __exit__(self, *_: object) -> None:
        leases.say_goodbye(self._owner)
        while leases.recover(self._owner):
            pass

    def run(self, limit: int = _LIMIT) -> int:
        """Activate whatever is due until nothing is; how many activations that took."""
        activations = 0
        while runs := self.claim():
            for run in runs:
                self.activate(run)
                activations += 1
                if activations > limit:
                    raise RuntimeError(
                        f"run {run.id} of {run.workflow!r} is still active after {limit} activations: it never "
                        "comes to rest, or there is more to do than run_until_idle(limit=…) allows"
                    )
        return activations

    def claim(self) -> list[ClaimedRun]:
        """Claim what may run now, after timers, events and the work that waits for a commit."""
        afterwards.follow_now(self.alias)
        acted = 1
        while acted:  # What ends with a timer is told to its parent; what an event stops may have children.
            events.deliver_all_directed(self.alias)
            delivered = broadcasts.deliver_at_once(self.alias)  # Nobody opens a wait at the same moment.
            reports.cancelled(self.alias, delivered.cancelled)
            fired = timers.fire(self.alias)
            reports.timed_out(self.alias, fired.timed_out)
            reports.cancelled(self.alias, fired.cancelled)
            acted = fired.acted
        self._tick()
        known, connection = registry.identities(), connections[self.alias]
        taken = self._claims.claim(connection, _BATCH, 0, known)
        self._again_at = None if taken.again_in is None else clock.now() + timedelta(seconds=taken.again_in)
        runs = taken.runs or self._claims.claim(connection, 1, 0, known, alone=True).runs
        claims.load(connection, runs)
        if not runs:
            while parked := parking.park_unknown(self.alias, leases.live_workers()):
                reports.parked_unknown(self.alias, parked)
        return runs

    def _tick(self) -> None:
        """Have the schedules start their runs that are due."""
        more = True
        while more:
            ticked = ticks.tick(self.alias, beside=ticks.WAITING)
            for error in ticked.unread.values():
                raise error
            tell_of_cancel(self.alias, ticked.ended, ticked.stopping)
            more = ticked.may_be_more and bool(ticked.started)

    def next_due(self) -> datetime | None:
        """Return when the next timer or schedule is due, or a rate allows the next run, as of the last claim."""
        due = _next_due(self.alias)
        return min((moment for moment in (due, self._again_at) if moment is not None), default=None)

    def activate(self, run: ClaimedRun) -> None:
        if not WorkflowRun.objects.using(self.alias).filter(id=run.id, owner_id=self._owner, epoch=run.epoch).exists():
            return  # Cancelled by a run that was activated before it.
        workflow = registry.get(run.workflow, run.version)
        if workflow is not None and workflow.is_async:
            # What its body sets in its context is its own, as in a worker's task.
            copy_context().run(async_to_sync(executor.run_async), run, workflow, self._port)
        else:
            executor.run_sync(run, workflow, self._port)
