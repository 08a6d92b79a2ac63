"""What happens to delegated steps between the engine and the executors that call them."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from .runs import Fact, RunFact


@dataclass(frozen=True, slots=True)
class NotDispatched(RunFact):
    """What an executor speaks to is away: the step is dispatched again, with the same token."""

    step: str
    executor: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class NotCalledOff(Fact):
    """An executor was not told that a task of its is not wanted any more: what comes of that is refused."""

    executor: str
    token: UUID
    error: BaseException


@dataclass(frozen=True, slots=True)
class OutcomeRefused(Fact):
    """A task has ended that its run did not wait for any more: what it has come to is kept with its delegation."""

    token: UUID


@dataclass(frozen=True, slots=True)
class BeatNotStored(Fact):
    """A beat of a delegated step's task did not reach the database; the next one is tried."""

    token: UUID
    error: BaseException
