"""The live workers, what they serve, know and report, and what is due that none of them does.

Called by `health`, and by the commands that warn at once where no worker serves what was started.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from .. import conf
from ..core import clock
from ..core.naming import label
from ..models import Worker, WorkflowRun
from ..states import WorkerState
from ..store import host
from . import overdue, reading
from .overdue import MOST
from .reading import Report

_NAMED = 3


@dataclass(frozen=True, slots=True)
class Serving:
    """A worker whose row says that it is alive. `silent`: its last heartbeat is older than it may be. `gone`: its
    process is known to have ended, which can be told on its own machine."""

    id: UUID
    name: str
    queues: tuple[str, ...]
    heartbeat_age: float
    silent: bool
    abandoned: int
    reports: Mapping[UUID, Report]
    #: JSON, as it is stored.
    workflows: str = field(default="[]", repr=False)
    gone: bool = False

    @property
    def lives(self) -> bool:
        """Whether it does what is due."""
        return not self.silent and not self.gone

    def knows(self, workflow: str, version: str) -> bool:
        return [workflow, version] in json.loads(self.workflows)

    def serves(self, queue: str) -> bool:
        return not self.queues or queue in self.queues


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


def serving(
    alias: str, now: datetime, *, heartbeat_age: float | None = None, queues: Sequence[str] = ()
) -> list[Serving]:
    """Read every worker that has neither left nor been found dead, oldest first; with `queues`, of these only.

    `heartbeat_age`: how long one may be silent and count as live; LEASE_SECONDS unless given.
    """
    rows = Worker.objects.using(alias).filter(state=WorkerState.ALIVE).order_by("started_at", "id")
    workers = [_serving(row, now, heartbeat_age) for row in rows]
    return [worker for worker in workers if not queues or any(map(worker.serves, queues))]


def _serving(row: Worker, now: datetime, allowed: float | None) -> Serving:
    return Serving(
        id=row.id, name=str(row), queues=tuple(json.loads(row.queues)), heartbeat_age=reading.heartbeat_age(row, now),
        silent=reading.is_silent(row, now, allowed), abandoned=row.abandoned, reports=reading.reports(row),
        workflows=row.workflows, gone=host.is_gone(row),
    )  # fmt: skip


def long_steps(workers: Sequence[Serving], now: datetime, step_seconds: float) -> Iterator[LongStep]:
    """Yield the steps without a timeout that live workers report for longer than `step_seconds`."""
    for worker, run_id, report in _live_reports(workers):
        if not report.step or report.since is None or report.timeout is not None:
            continue
        age = (now - report.since).total_seconds()
        if age > step_seconds:
            yield LongStep(run_id, report.step, worker.name, age)


def blocked_loops(workers: Sequence[Serving], now: datetime) -> Iterator[BlockedLoop]:
    """Yield the runs that block the event loop of a live worker, as it has last reported."""
    for worker, run_id, report in _live_reports(workers):
        if report.blocks_since is not None:
            age = max(0.0, (now - report.blocks_since).total_seconds())
            yield BlockedLoop(run_id, report.step, worker.name, report.blocks_at, age)


def _live_reports(workers: Sequence[Serving]) -> Iterator[tuple[Serving, UUID, Report]]:
    return ((worker, *entry) for worker in workers if worker.lives for entry in worker.reports.items())


def number(count: int, what: str) -> str:
    """Write a count up to `MOST`: `no run`, `1 run`, `1,000 or more runs`."""
    return (
        f"{count:,}{' or more' if count >= MOST else ''} {what}{'' if count == 1 else 's'}" if count else f"no {what}"
    )


def unserved(queue: str, workflow: str = "", version: str = "") -> str:
    """Return what to do if no live worker serves the queue, or none of these knows the workflow; empty if one does."""
    return _unserved(_live(), queue, workflow, version)


def unserved_run(run: WorkflowRun) -> str:
    """Return the same for a run."""
    return unserved(run.queue, run.workflow, run.version)


def unserved_runs(runs: Sequence[WorkflowRun]) -> list[str]:
    """Return the same for those of these runs that are due, each sentence once."""
    due = dict.fromkeys((run.queue, run.workflow, run.version) for run in runs if run.ready)
    live = _live() if due else ()
    return list(dict.fromkeys(said for asked in due if (said := _unserved(live, *asked))))


def left_alone(queues: Sequence[str], identities: Collection[tuple[str, str]]) -> Iterator[str]:
    """Yield what is due that neither a worker of these queues and workflows nor any live worker will do."""
    alias, live = conf.get().database, _live()
    if queues:
        served = overdue.unserved_queues(
            alias, lambda queue: queue in queues or any(worker.serves(queue) for worker in live)
        )
        for queue, due in served.items():
            yield f"{_due_now(due)} in queue {queue!r}, which neither this worker nor any other serves"
    known = {tuple(identity) for worker in live for identity in json.loads(worker.workflows)} | set(identities)
    for (workflow, version), due in overdue.unknown_workflows(alias, queues, known.__contains__).items():
        yield f"{_due_now(due)} of workflow {label(workflow, version)!r}, which neither this worker nor any other knows"


def _due_now(due: int) -> str:
    return f"{number(due, 'run')} {'is' if due == 1 else 'are'} due"


def _live() -> Sequence[Serving]:
    return [worker for worker in serving(conf.get().database, clock.now()) if worker.lives]


def _unserved(live: Sequence[Serving], queue: str, workflow: str, version: str) -> str:
    serve = [worker for worker in live if worker.serves(queue)]
    if not serve:
        others = f" (live: {_some(live)})" if live else ""
        return f"no live worker for queue {queue!r}{others}: {start_one(queue if live else None)}"
    if not workflow or any(worker.knows(workflow, version) for worker in serve):
        return ""
    return (
        f"no live worker for queue {queue!r} knows workflow {label(workflow, version)!r} (live: {_some(serve)}): "
        f"start one anew with the code that has it"
    )


def _some(workers: Sequence[Serving]) -> str:
    said = [f"{worker.name}, queue {', '.join(worker.queues)}" if worker.queues else worker.name for worker in workers]
    more = f"; and {len(said) - _NAMED} more" if len(said) > _NAMED else ""
    return "; ".join(said[:_NAMED]) + more


def start_one(queue: str | None = None) -> str:
    return f"start one with `manage.py runflowworker{f' --queue {queue}' if queue is not None else ''}`"
