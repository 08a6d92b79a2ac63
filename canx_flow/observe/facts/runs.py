"""What happens to runs and their steps. Plain values only: no model, no connection, no activation.

Announced after the commit that made it true: by `replay.reports` for a worker, by `client` and `store` otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from ...exceptions import StoredError


class Fact:
    """Something that happened. Subclasses are frozen dataclasses; a receiver knows them by their class."""

    __slots__ = ()


class _HasRun(Protocol):
    """Anything with these four attributes: a claimed run, a row, what a recovery has read."""

    @property
    def id(self) -> UUID: ...
    @property
    def workflow(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def queue(self) -> str: ...


@dataclass(frozen=True, slots=True)
class RunRef:
    """Which run a fact is about."""

    id: UUID
    workflow: str
    version: str
    queue: str

    @classmethod
    def of(cls, run: _HasRun) -> RunRef:
        """Return the reference to this run."""
        return cls(run.id, run.workflow, run.version, run.queue)


@dataclass(frozen=True, slots=True)
class RunFact(Fact):
    """Something that happened to one run."""

    run: RunRef


# -- a run, from its first claim to its end ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunStarted(RunFact):
    """A worker has claimed the run for the first time."""


@dataclass(frozen=True, slots=True)
class RunResumed(RunFact):
    """A worker has claimed the run again."""


@dataclass(frozen=True, slots=True)
class RunSuspended(RunFact):
    """The run sleeps, waits, or waits for the next attempt of a step."""

    state: str


@dataclass(frozen=True, slots=True)
class RunContinued(RunFact):
    """The run goes on as a new `generation`, with an empty history."""

    generation: int


@dataclass(frozen=True, slots=True)
class RunCompleted(RunFact):
    """The workflow function has returned, and the result is stored."""


@dataclass(frozen=True, slots=True)
class RunFailed(RunFact):
    """The run has failed. `error`: as it is stored; `raised`: the exception, where it was raised in this process."""

    error: StoredError
    raised: BaseException | None


@dataclass(frozen=True, slots=True)
class RunTimedOut(RunFact):
    """The run has failed at its deadline while no worker owned it."""


@dataclass(frozen=True, slots=True)
class RunCancelled(RunFact):
    """The run has ended by a cancel."""


@dataclass(frozen=True, slots=True)
class RunParked(RunFact):
    """The run cannot go on until it is given what `reason` names (`Kind: explanation`)."""

    reason: str
    raised: BaseException | None = None


@dataclass(frozen=True, slots=True)
class RunStillParked(RunParked):
    """The run was tried again and is parked for the same reason as before."""


# -- steps ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepCompleted(RunFact):
    """A step's result is stored."""

    step: str
    attempt: int


@dataclass(frozen=True, slots=True)
class AttemptFailed(RunFact):
    """An attempt of a step has failed. `most`: attempts in all, `None` without a limit; `due_at`: of the next one."""

    step: str
    attempt: int
    most: int | None
    error: StoredError
    due_at: datetime | None


# -- writes --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WriteRefused(RunFact):
    """The run has another owner or has ended. `steps`: the records not stored; `unclear`: or perhaps stored."""

    epoch: int
    steps: tuple[str, ...]
    unclear: bool


@dataclass(frozen=True, slots=True)
class ChangeNotWritable(Fact):
    """What a run has to store cannot be written, though other writes of the run can: the run fails with it."""

    run_id: UUID
    tries: int
    error: Exception


@dataclass(frozen=True, slots=True)
class CommitHookFailed(Fact):
    """A function that an atomic step gave to `on_commit` has failed; the step is stored."""

    run_id: UUID | None
    step: str | None
    error: BaseException


# -- activations ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ActivationBroke(RunFact):
    """An error outside the run's body and steps: the run is handed back and tried again."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class HandBackFailed(RunFact):
    """A run that cannot go on here could not be handed back either."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class RunNeedsRoom(RunFact):
    """The run must run alone, and a worker claims nothing else until what it has `in_flight` has ended."""

    in_flight: int


# -- receivers of signals ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SignalNotSent(Fact):
    """Django could not call every receiver of a signal."""

    error: Exception


@dataclass(frozen=True, slots=True)
class ReceiverLeftTransaction(Fact):
    """A receiver of a signal has left a transaction open on the database `alias`: it is rolled back."""

    alias: str
