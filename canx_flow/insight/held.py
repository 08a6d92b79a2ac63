"""What holds up runs that are due: paused queues and workflows, and limits of queues; read for many at once.

Called by `evidence`. A fixed number of queries; where no queue has limits and nothing is paused, the first two are all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from ..core.windows import Rate, Window
from ..models import PartitionWindow, PausedWorkflow, Queue, WorkflowRun
from ..models.conditions import HAS_OWNER
from . import reasons
from .reasons import Reason

#: Runs with an owner that are read.
_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Held:
    """What was found at the moment `now`."""

    now: datetime
    queues: Mapping[str, Queue] = field(default_factory=dict)
    workflows: Mapping[str, PausedWorkflow] = field(default_factory=dict)
    #: Runs with an owner, oldest first: id, queue, partition.
    owned: Sequence[tuple[UUID, str, str | None]] = ()
    windows: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def paused(self, run: WorkflowRun) -> Iterator[Reason]:
        """Yield what was paused by an operator."""
        queue, workflow = self.queues.get(run.queue), self.workflows.get(run.workflow)
        if queue is not None and queue.paused:
            yield reasons.QueuePaused(
                queue=run.queue, by=queue.paused_by, at=queue.paused_at, why=queue.paused_reason
            )  # fmt: skip
        if workflow is not None:
            yield reasons.WorkflowPaused(workflow=run.workflow, by=workflow.by, at=workflow.at, why=workflow.reason)

    def limited(self, run: WorkflowRun) -> Iterator[Reason]:
        """Yield which limits of its queue allow no more now."""
        queue = self.queues.get(run.queue)
        if queue is None:
            return
        limits = queue.limits
        holders = [run_id for run_id, name, _partition in self.owned if name == run.queue]
        if limits.concurrency is not None and len(holders) >= limits.concurrency:
            yield reasons.QueueFull(
                queue=run.queue, running=len(holders), most=limits.concurrency, holder=holders[0]
            )  # fmt: skip
        if limits.rate is not None and run.epoch == 0 and (until := self._until(limits.rate, queue.window)):
            yield reasons.RateFull(queue=run.queue, rate=str(limits.rate), until=until)
        if run.partition is None:
            return
        beside = [run_id for run_id, *place in self.owned if place == [run.queue, run.partition]]
        if limits.partition_concurrency is not None and len(beside) >= limits.partition_concurrency:
            yield reasons.PartitionBusy(queue=run.queue, partition=run.partition, holder=beside[0])
        window = self.windows.get((run.queue, run.partition), "")
        if (
            limits.partition_rate is not None
            and run.epoch == 0
            and (until := self._until(limits.partition_rate, window))
        ):
            yield reasons.RateFull(
                queue=run.queue, rate=str(limits.partition_rate), until=until, partition=run.partition
            )  # fmt: skip

    def _until(self, rate: Rate, text: str) -> datetime | None:
        """Return when the rate allows one more; `None`: now. The database's clock is taken to go as this one does."""
        window = Window.read(rate, text, self.now.timestamp())
        return None if window.free() else datetime.fromtimestamp(window.free_at(), UTC)


def gather(alias: str, runs: Sequence[WorkflowRun], now: datetime) -> Held:
    """Read what may hold up these runs, which are due."""
    if not runs:
        return Held(now)
    queues = {row.name: row for row in Queue.objects.using(alias).filter(apart=True)}
    queues = {name: row for name, row in queues.items() if name in {run.queue for run in runs}}
    names = {run.workflow for run in runs}
    workflows = {row.workflow: row for row in PausedWorkflow.objects.using(alias) if row.workflow in names}
    if not any(row.limits.any for row in queues.values()):
        return Held(now, queues, workflows)
    owned = WorkflowRun.objects.using(alias).filter(HAS_OWNER).values_list("id", "queue", "partition")[:_MOST]
    places = {(run.queue, run.partition) for run in runs if run.queue in queues and run.partition is not None}
    of_each = PartitionWindow.objects.using(alias).filter(
        queue__in=[queue for queue, _ in places], partition__in=[partition for _, partition in places]
    )
    windows = {(row.queue, row.partition): row.window for row in of_each} if places else {}
    return Held(now, queues, workflows, sorted(owned, key=lambda row: row[0]), windows)
