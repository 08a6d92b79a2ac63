"""What happens to a worker: its turn, its threads, its event loop, and the workers it finds dead.

Announced by `worker`, but for `QueueSteered`. `WorkerStarted` and `WorkerLeft` have no line: the command greets on
standard output.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from .runs import Fact

# -- its life ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerStarted(Fact):
    """A worker has registered: the first time, or anew after it was found dead."""

    worker_id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class WorkerLeft(Fact):
    """A worker has said goodbye: the runs it still owned are handed back."""

    worker_id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class WorkerLost(Fact):
    """This worker has found another one dead. `process_ended`: known at once on the same host, else by its lease."""

    worker_id: UUID
    name: str
    pid: int
    process_ended: bool
    lease: float


@dataclass(frozen=True, slots=True)
class RunsRecovered(Fact):
    """Runs were taken from a worker that has ended. `runs`: the first of `total`, each with the step it was in."""

    worker: str
    worker_id: UUID
    runs: tuple[tuple[UUID, str | None], ...]
    total: int


@dataclass(frozen=True, slots=True)
class WorkerFoundDead(Fact):
    """This very worker was found dead by another one."""

    lease: float


@dataclass(frozen=True, slots=True)
class DeathNotPassedOn(Fact):
    """The heartbeat knows that this worker is dead, and could not tell the main thread."""

    error: Exception


@dataclass(frozen=True, slots=True)
class ThreadRestarted(Fact):
    """A background thread of this worker (`name`: committer, heartbeat …) had died."""

    name: str


@dataclass(frozen=True, slots=True)
class ThreadKeepsDying(Fact):
    """A background thread of this worker has died too often: the worker gives up."""

    name: str


@dataclass(frozen=True, slots=True)
class TurnsKeepFailing(Fact):
    """Every turn has failed for a whole lease although the database answers: the worker gives up."""


# -- its turn ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TurnRepeated(Fact):
    """A turn met a deadlock or a serialization failure."""

    error: Exception


@dataclass(frozen=True, slots=True)
class UnknownRunsReleased(Fact):
    """The database named this worker as the owner of runs that it did not have in flight."""

    run_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class ScheduleNotRead(Fact):
    """A schedule that is due cannot be read by this worker: it is left to others, and tried again."""

    name: str
    error: Exception


# -- its slots and threads -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ThreadNotStarted(Fact):
    """The process has no thread for a claimed run."""

    error: Exception


@dataclass(frozen=True, slots=True)
class SlotBroke(Fact):
    """An error of canx_flow in a slot's thread."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class ThreadAbandoned(Fact):
    """A step has outlived its timeout. `abandoned`: how many threads of this worker are in such steps now."""

    abandoned: int


@dataclass(frozen=True, slots=True)
class TooManyAbandoned(Fact):
    """As many threads are abandoned as `--concurrency` allows: the worker gives up."""

    abandoned: int


# -- its committer and heartbeat -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BatchSplit(Fact):
    """A batch of changes could not be written together."""

    changes: int
    error: Exception


@dataclass(frozen=True, slots=True)
class WriteUnanswered(Fact):
    """A write of the committer has had no answer for so many seconds; `runs` wait for it."""

    seconds: float
    runs: int


@dataclass(frozen=True, slots=True)
class AfterStoreFailed(Fact):
    """What is called after a commit (a receiver, a log line, a wake-up) has failed."""

    error: Exception


@dataclass(frozen=True, slots=True)
class CommitterBroke(Fact):
    """An error of canx_flow in the committer's thread."""

    error: Exception


@dataclass(frozen=True, slots=True)
class LoopGone(Fact):
    """An event loop had ended before the changes of its runs were stored."""


@dataclass(frozen=True, slots=True)
class ActivityNotDescribed(Fact):
    """What the heartbeat says of the runs in flight could not be put together."""

    error: Exception


@dataclass(frozen=True, slots=True)
class HeartbeatFileNotTouched(Fact):
    """The file of `--heartbeat-file` could not be touched."""

    error: OSError


# -- its event loop ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LoopBroke(Fact):
    """The event loop has ended by an error."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class ExitInTask(Fact):
    """A task that an async run had started raised SystemExit or KeyboardInterrupt (`exception`: its name)."""

    exception: str


@dataclass(frozen=True, slots=True)
class LoopStopped(Fact):
    """An async run has called `stop()` on the worker's event loop."""


@dataclass(frozen=True, slots=True)
class Blocker:
    """The code that blocks the event loop: `run_id` is `None` if it is no run's, `step` is `None` in a body."""

    run_id: UUID | None
    workflow: str
    step: str | None
    where: str


@dataclass(frozen=True, slots=True)
class LoopBlocked(Fact):
    """The event loop has been blocked for a second."""

    blocker: Blocker
    stack: str


@dataclass(frozen=True, slots=True)
class LoopUnblocked(Fact):
    """The event loop turns again."""

    blocker: Blocker
    seconds: float


@dataclass(frozen=True, slots=True)
class LoopWatchFailed(Fact):
    """Whether the event loop is blocked could not be found out."""

    error: Exception


# -- what operators do to queues -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QueueSteered(Fact):
    """A queue, or a workflow, was paused, resumed or limited. Announced by `client`, after the commit."""

    what: str
    name: str
    change: str
    reason: str
    by: str
