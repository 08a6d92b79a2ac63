"""Whether runs get done: live workers, what is due and waits, timers that no worker fires, steps that do not end.

Plain functions with a few indexed queries each, fast among millions of stored runs. Called by `flowhealth`; a view of
the project may call `examine`, too. Clocks of several hosts are compared here, which the engine itself never does:
where they differ by more than LEASE_SECONDS, allow a larger `heartbeat_age`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from django.utils import translation

from .. import conf
from ..core import clock
from ..core.durations import span
from ..models import Schedule, WorkflowRun
from . import overdue, schedules
from .overdue import MOST, Due, Retrying, Stuck
from .serving import BlockedLoop, LongStep, Serving, blocked_loops, long_steps, number, serving, start_one
from .why import why


@dataclass(frozen=True, slots=True)
class Limits:
    """What is still healthy; times in seconds. `queues`: look at these only, each of which needs `min_workers`.

    `heartbeat_age`: how long a worker may be silent and count as live; LEASE_SECONDS unless given. With `strict`, what
    is only a warning otherwise is a problem.
    """

    min_workers: int = 1
    max_age: float = overdue.MAX_AGE
    stuck_after: float = overdue.STUCK_AFTER
    heartbeat_age: float | None = None
    step_seconds: float = 3600.0
    queues: tuple[str, ...] = ()
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """What was found at the moment `at`. Counts end at `MOST`."""

    at: datetime
    limits: Limits
    workers: tuple[Serving, ...]
    due: int
    oldest: Due | None
    stuck: tuple[Stuck, ...]
    long_steps: tuple[LongStep, ...]
    blocked: tuple[BlockedLoop, ...] = ()
    #: Queues that no live worker serves, with how many runs are due there.
    unserved: Mapping[str, int] = field(default_factory=dict)
    retrying: int = 0
    #: The one of them that is tried for longest.
    longest: Retrying | None = None
    #: Schedules whose last ticks started no run, and why.
    skipping: tuple[str, ...] = ()

    @property
    def live(self) -> tuple[Serving, ...]:
        """The workers that do what is due: not silent, and no process that is known to have ended."""
        return tuple(worker for worker in self.workers if worker.lives)

    @property
    def abandoned(self) -> int:
        """Threads that live workers have left behind in steps which outlived their timeout."""
        return sum(worker.abandoned for worker in self.live)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why it is not healthy; empty if it is."""
        found = [*self._too_few(), *self._unserved(), *self._too_old(), *self._too_late(), *self._blocking(long=True)]
        return tuple([*found, *self._worries()] if self.limits.strict else found)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should examine. A step may rightly run for hours: no probe should end its worker for it."""
        return () if self.limits.strict else tuple(self._worries())

    @property
    def healthy(self) -> bool:
        return not self.problems

    def _too_few(self) -> Iterator[str]:
        wanted = self.limits.min_workers
        for queue in self.limits.queues or (None,):
            serving = sum(queue is None or worker.serves(queue) for worker in self.live)
            if serving < wanted:
                where = "" if queue is None else f" for queue {queue!r}"
                advice = "" if serving else f": {start_one(queue)}"
                yield f"{number(serving, 'live worker')}{where}, at least {wanted} wanted{advice}"

    def _unserved(self) -> Iterator[str]:
        for queue, due in self.unserved.items():
            are = f"{number(due, 'run')} {'is' if due == 1 else 'are'}"
            yield f"{are} due in queue {queue!r}, which no live worker serves: {start_one(queue)}"

    def _too_old(self) -> Iterator[str]:
        if self.oldest is not None and self.oldest.age > self.limits.max_age:
            oldest = self.oldest
            why = f": {oldest.why}" if oldest.why else ""
            yield f"run {oldest.run_id} of {oldest.workflow} is due and not claimed for {span(oldest.age)}{why}"

    def _too_late(self) -> Iterator[str]:
        if self.stuck:
            count = number(len(self.stuck), "timer")
            yield f"{count} due and not acted on, one of run {self.stuck[0].run_id} for {span(self.stuck[0].age)}"

    def _blocking(self, *, long: bool) -> Iterator[str]:
        for blocked in self.blocked:
            if (blocked.age > self.limits.stuck_after) is long:
                where = f"in step {blocked.step!r}" if blocked.step is not None else "in its body"
                yield (
                    f"run {blocked.run_id} blocks the event loop of worker {blocked.worker} for {span(blocked.age)}, "
                    f"{where}, at {blocked.at}"
                )

    def _worries(self) -> Iterator[str]:
        yield from self._blocking(long=False)
        if self.abandoned:
            yield f"{number(self.abandoned, 'thread')} left behind by steps that outlived their timeout"
        if self.longest is not None:
            yield f"{number(self.retrying, 'run')} retrying, the oldest for {_tried(self.longest)}"
        yield from self.skipping
        for long in self.long_steps:
            yield f"step {long.step!r} of run {long.run_id} has no timeout and runs for {span(long.age)}"


def _tried(longest: Retrying) -> str:
    step, error = longest.failing, longest.failing.error
    of = f" of {step.most}" if step.most is not None else ""
    said = f", last error: {error.summary_in_brief}" if error is not None else ""
    return (
        f"{span(longest.age)}: run {longest.run_id} of {longest.workflow}, step {step.step!r}, next is attempt "
        f"{step.attempt}{of}{said}"
    )


def examine(limits: Limits | None = None, *, confirm: bool = True) -> Health:
    """Examine everything. To `confirm`, read twice, over two polls of a worker, before a run counts as too old.

    Since when a woken run is due is not stored: one that has slept for a week, and is claimed a moment after it was
    read, is no reason to alert a person.
    """
    limits = limits or Limits()
    alias = conf.get().database
    now = clock.now()
    workers = serving(alias, now, heartbeat_age=limits.heartbeat_age, queues=limits.queues)
    ready = overdue.ready(alias, limits.queues)
    retrying, longest = overdue.retrying(alias, now, limits.queues)
    waiting = overdue.oldest_due(alias, now, limits.queues)
    if confirm and any(due.age > limits.max_age for due in waiting):
        waiting = _still(alias, waiting, limits)
    oldest = max(waiting, key=lambda due: due.age, default=None)
    return Health(
        at=now, limits=limits, workers=tuple(workers), due=ready[:MOST].count(),
        oldest=None if oldest is None else replace(oldest, why=_why(alias, oldest, workers, now)),
        stuck=tuple(overdue.stuck_timers(alias, now, limits.stuck_after, limits.queues)),
        long_steps=tuple(long_steps(workers, now, limits.step_seconds)),
        blocked=tuple(blocked_loops(workers, now)), unserved=_without_workers(alias, workers, limits),
        retrying=retrying, longest=longest, skipping=_skipping(alias),
    )  # fmt: skip


def _why(alias: str, oldest: Due, workers: Sequence[Serving], now: datetime) -> str:
    """Say in English why this run is not claimed; nothing if it is gone."""
    runs = WorkflowRun.objects.using(alias).filter(id=oldest.run_id)
    with translation.override(None):
        return "".join(why(run, workers=workers).words(now) for run in runs)


def _skipping(alias: str) -> tuple[str, ...]:
    """Say in English which schedules that go on have left out their last ticks."""
    rows = Schedule.objects.using(alias).filter(skipped__gt=0, due_at__isnull=False).order_by("name")[:MOST]
    with translation.override(None):
        return tuple(f"schedule {row.name!r}: {schedules.standing(row).skips}".rstrip(".") for row in rows)


def _still(
    alias: str, before: Sequence[Due], limits: Limits, wait: Callable[[float], object] | None = None
) -> list[Due]:
    """Return the runs that wait no longer than they may, and of the others those that no worker claims for a moment."""
    (wait or threading.Event().wait)(max(1.0, 2 * conf.get().poll_seconds))
    seen = {(due.run_id, due.epoch) for due in before if due.age > limits.max_age}
    after = overdue.oldest_due(alias, clock.now(), limits.queues)
    return [due for due in after if due.age <= limits.max_age or (due.run_id, due.epoch) in seen]


def _without_workers(alias: str, workers: Sequence[Serving], limits: Limits) -> Mapping[str, int]:
    """Return the queues without a worker; none where no worker is wanted, or where queues were named one by one."""
    if limits.queues or not limits.min_workers:
        return {}
    return overdue.unserved_queues(
        alias, lambda queue: any(worker.serves(queue) and worker.lives for worker in workers)
    )
