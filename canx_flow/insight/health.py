"""Whether runs get done: live workers, what is due and waits, timers that nobody fires, steps that do not end.

Plain functions with a few indexed queries each, fast among millions of stored runs. Called by `flowhealth`; a view of
the project may call `examine`, too. Clocks of several hosts are compared here, which the engine itself never does:
where they differ by more than LEASE_SECONDS, allow a larger `heartbeat_age`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Max, QuerySet

from .. import conf
from ..core import clock
from ..core.durations import span
from ..models import Event, StepRecord, Timer, WorkflowRun
from ..states import PENDING
from ..store.leases import ALONE_FROM
from . import standstill
from .serving import Serving, number, serving, start_one
from .standstill import MOST, Retrying
from .standstill import ready as due_runs

#: What such a run does that has killed its workers again and again.
TO_BE_ALONE = "waits to run alone: one worker claims nothing else until it is empty"
_HEADS = 10  # runs at the head of each priority that are looked at
_PRIORITIES = 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What is still healthy; times in seconds. `queues`: look at these only, each of which needs `min_workers`.

    `heartbeat_age`: how long a worker may be silent and count as live; LEASE_SECONDS unless given. With `strict`, what
    is only a warning otherwise is a problem.
    """

    min_workers: int = 1
    max_age: float = 300.0
    stuck_after: float = 60.0
    heartbeat_age: float | None = None
    step_seconds: float = 3600.0
    queues: tuple[str, ...] = ()
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Due:
    """A run that may be claimed and is not; `age`: for how many seconds, as far as that is known. `alone`: it waits to
    run alone, for its workers have died again and again."""

    run_id: UUID
    workflow: str
    queue: str
    age: float
    epoch: int
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Stuck:
    """A timer that is due and was not acted on; `age`: for how many seconds."""

    run_id: UUID
    step: str
    kind: str
    age: float


@dataclass(frozen=True, slots=True)
class LongStep:
    """A step without a timeout that runs for so many seconds already."""

    run_id: UUID
    step: str
    worker: str
    age: float


@dataclass(frozen=True, slots=True)
class BlockedLoop:
    """A run that keeps its worker's event loop from turning for so many seconds: no other async run goes on there.

    `step` is `None` in the body; `at`: where its code stands.
    """

    run_id: UUID
    step: str | None
    worker: str
    at: str
    age: float


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

    @property
    def live(self) -> tuple[Serving, ...]:
        return tuple(worker for worker in self.workers if not worker.silent)

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
        """What somebody should look at. A step may rightly run for hours: no probe should end its worker for it."""
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
            why = f": it {TO_BE_ALONE}" if oldest.alone else ""
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
    """Look at everything. To `confirm`, look twice, over two polls of a worker, before a run counts as too old.

    What a run that was woken is due since is not stored; one that has waited for a week, and is claimed a moment
    after it was seen, is no reason to wake anybody.
    """
    limits = limits or Limits()
    alias = conf.get().database
    now = clock.now()
    workers = serving(alias, now, heartbeat_age=limits.heartbeat_age, queues=limits.queues)
    ready = due_runs(alias, limits.queues)
    retrying, longest = standstill.retrying(alias, now, limits.queues)
    waiting = oldest_due(alias, now, limits.queues)
    if confirm and any(due.age > limits.max_age for due in waiting):
        waiting = _still(alias, waiting, limits)
    return Health(
        at=now, limits=limits, workers=tuple(workers), due=ready[:MOST].count(),
        oldest=max(waiting, key=lambda due: due.age, default=None),
        stuck=tuple(stuck_timers(alias, now, limits)), long_steps=tuple(long_steps(workers, now, limits)),
        blocked=tuple(blocked_loops(workers, now)), unserved=_without_workers(alias, workers, limits),
        retrying=retrying, longest=longest,
    )  # fmt: skip


def _without_workers(alias: str, workers: Sequence[Serving], limits: Limits) -> Mapping[str, int]:
    """Where workers are missing. Not where none is wanted; and queues that were named want theirs in any case."""
    if limits.queues or not limits.min_workers:
        return {}
    return standstill.unserved_queues(
        alias, lambda queue: any(worker.serves(queue) and not worker.silent for worker in workers)
    )


# -- workers ---------------------------------------------------------------------------------------


def long_steps(workers: Sequence[Serving], now: datetime, limits: Limits) -> Iterator[LongStep]:
    """Steps without a timeout that live workers report for longer than `step_seconds`."""
    for worker in workers:
        if worker.silent:
            continue
        for run_id, said in worker.activity.items():
            since = said.get("since")
            if not said.get("step") or not since or said.get("timeout") is not None:
                continue
            age = (now - datetime.fromisoformat(since)).total_seconds()
            if age > limits.step_seconds:
                yield LongStep(UUID(run_id), said["step"], worker.name, age)


def blocked_loops(workers: Sequence[Serving], now: datetime) -> Iterator[BlockedLoop]:
    """Runs that block the event loop of a live worker, as it has last said."""
    for worker in workers:
        for run_id, said in worker.activity.items():
            if said.get("blocks") and not worker.silent:
                age = (now - datetime.fromisoformat(said["blocks"]["since"])).total_seconds()
                yield BlockedLoop(UUID(run_id), said.get("step"), worker.name, said["blocks"]["at"], max(0.0, age))


# -- what is due -----------------------------------------------------------------------------------


def oldest_due(alias: str, now: datetime, queues: Sequence[str] = ()) -> list[Due]:
    """The runs at the head of each priority, and since when they wait as far as that is known.

    Since its start, its last control call, record or event, or since a later run of its queue was claimed: it cannot
    have been ready then, for it would have been first.
    """
    heads = list(_heads(alias, queues))
    ids = [run.id for run in heads]
    records = StepRecord.objects.using(alias).filter(run_id__in=ids)
    events = Event.objects.using(alias).filter(run_id__in=ids, consumed_at=None)
    known = [_latest(records, "started_at"), _latest(records, "finished_at"), _latest(events, "created_at")]
    claimed = _claimed(alias) if heads else []
    return [_due(run, now, [facts.get(run.id) for facts in known], claimed) for run in heads]


def _heads(alias: str, queues: Sequence[str]) -> Iterator[WorkflowRun]:
    """Priority by priority and queue by queue, each an index lookup however many runs wait."""
    columns = (
        "id",
        "workflow",
        "queue",
        "priority",
        "state",
        "ready",
        "epoch",
        "recoveries",
        "created_at",
        "control_at",
    )
    for chosen in ([queue] for queue in queues) if queues else ([],):
        ready = due_runs(alias, chosen).only(*columns).order_by("-priority", "id")
        for _ in range(_PRIORITIES):
            head = list(ready[:_HEADS])
            if not head:
                break
            first = [run for run in head if run.priority == head[0].priority]
            yield from first
            ready = ready.filter(priority__lt=head[0].priority)


def _latest(rows: QuerySet[Any], column: str) -> dict[UUID, datetime]:
    return dict(rows.order_by().values_list("run_id").annotate(latest=Max(column)))


def _claimed(alias: str) -> list[WorkflowRun]:
    owned = WorkflowRun.objects.using(alias).filter(owner__isnull=False)
    return list(owned.only("id", "queue", "priority", "started_at")[:MOST])


def _due(run: WorkflowRun, now: datetime, known: Sequence[datetime | None], claimed: Sequence[WorkflowRun]) -> Due:
    facts = [run.created_at, run.control_at, *known]
    if not run.recoveries:  # Such a run may have to wait until it can run alone.
        facts += [
            other.started_at
            for other in claimed
            if other.queue == run.queue and other.priority <= run.priority and other.id > run.id
        ]
    since = max(fact for fact in facts if fact is not None)
    age = max(0.0, (now - since).total_seconds())
    return Due(run.id, run.workflow, run.queue, age, run.epoch, waits_to_be_alone(run))


def waits_to_be_alone(run: WorkflowRun) -> bool:
    """Whether this run is ready, and only a worker with nothing else in flight may take it."""
    return run.ready and run.state == PENDING and run.recoveries >= ALONE_FROM


def _still(
    alias: str, before: Sequence[Due], limits: Limits, wait: Callable[[float], object] | None = None
) -> list[Due]:
    """Those that wait no longer than they may, and of the others those that nobody has claimed a moment later."""
    (wait or threading.Event().wait)(max(1.0, 2 * conf.get().poll_seconds))
    seen = {(due.run_id, due.epoch) for due in before if due.age > limits.max_age}
    after = oldest_due(alias, clock.now(), limits.queues)
    return [due for due in after if due.age <= limits.max_age or (due.run_id, due.epoch) in seen]


def stuck_timers(alias: str, now: datetime, limits: Limits) -> Iterator[Stuck]:
    """Timers that are due for longer than `stuck_after`, the oldest first."""
    timers = Timer.objects.using(alias).filter(held=False, due_at__lt=now - timedelta(seconds=limits.stuck_after))
    if limits.queues:
        timers = timers.filter(run__queue__in=limits.queues)
    for timer in timers.order_by("due_at")[:MOST]:
        assert timer.due_at is not None
        yield Stuck(timer.run_id, timer.step, timer.kind, (now - timer.due_at).total_seconds())
