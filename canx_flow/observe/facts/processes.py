"""What happens to the processes of `runflowworker`: start-up, the parent of several, the watchdog; and to checks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .runs import Fact

# -- start-up ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChecksSkipped(Fact):
    """A database that the system checks ask is away."""

    error: Exception


@dataclass(frozen=True, slots=True)
class StartWaits(Fact):
    """A worker cannot begin while the database is away; it tries again after `delay` seconds."""

    error: Exception
    delay: float


@dataclass(frozen=True, slots=True)
class AdviceSkipped(Fact):
    """The due runs and timers could not be counted for the worker's greeting."""

    error: Exception


@dataclass(frozen=True, slots=True)
class SourceNotRead(Fact):
    """A system check could not read the source of a workflow (`workflow`: its label)."""

    workflow: str
    error: Exception


# -- the parent of several worker processes ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProcessNotUp(Fact):
    """A worker process did not say within `patience` seconds that it is up."""

    pid: int
    patience: float


@dataclass(frozen=True, slots=True)
class ProcessEnded(Fact):
    """A worker process has ended with `code`; another starts after `delay` seconds."""

    pid: int
    code: int
    delay: float


class WhyLeave(Enum):
    """Why the parent tells its worker processes to leave."""

    ASKED = "it was told to stop"
    ASKED_AGAIN = "it was told to stop a second time"
    ENDED = "a worker process has ended and is not replaced"
    LATE = "the time for leaving has passed"


@dataclass(frozen=True, slots=True)
class ProcessesLeave(Fact):
    """The parent tells its worker processes to leave. `ended`: pid and code (ENDED); `waited`: seconds (LATE)."""

    pids: tuple[int, ...]
    why: WhyLeave
    at_once: bool
    ended: tuple[int, int] = (0, 0)
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class ProcessesKilled(Fact):
    """The parent kills worker processes that did not leave."""

    pids: tuple[int, ...]


# -- a worker's own process ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StopNotTaken(Fact):
    """A worker could not take the order of a signal to stop."""

    error: Exception


@dataclass(frozen=True, slots=True)
class WorkerStuck(Fact):
    """The worker has not left in its time: the watchdog ends the process."""


@dataclass(frozen=True, slots=True)
class ProcessStuck(Fact):
    """The worker has left, but its process does not end: the watchdog ends it."""
