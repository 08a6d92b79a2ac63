"""What happens between the engine and its database: outages and their end, connections, and how workers are woken."""

from __future__ import annotations

from dataclasses import dataclass

from .runs import Fact, RunRef

# -- outages: announced once a minute at most, by `worker.outages` --------------------------------------


@dataclass(frozen=True, slots=True)
class Outage(Fact):
    """A part of a worker cannot use the database, or something odd keeps it from that."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class TurnMetOutage(Outage):
    """A turn of a worker has found the database away."""


@dataclass(frozen=True, slots=True)
class TurnFailed(Outage):
    """A turn of a worker has failed by an error that is no outage."""


@dataclass(frozen=True, slots=True)
class StoreFailed(Outage):
    """The committer's writes are refused."""


@dataclass(frozen=True, slots=True)
class BeatFailed(Outage):
    """The heartbeat was not written."""

    lease: float


@dataclass(frozen=True, slots=True)
class ActivationMetOutage(Outage):
    """An activation met the outage outside its body and its steps."""

    run: RunRef


@dataclass(frozen=True, slots=True)
class OutageEnded(Fact):
    """A part of the worker (`part`: main thread, committer, heartbeat) has an answer again."""

    part: str


# -- connections ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConnectionCut(Fact):
    """A connection of the engine had no answer for so many seconds: its socket was shut."""

    alias: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SlowStatementNotTold(Fact):
    """The listener to slow statements has failed."""

    error: Exception


@dataclass(frozen=True, slots=True)
class PoolTooSmall(Fact):
    """Django's connection pool has fewer connections than the worker has slots; `explanation`: for people."""

    explanation: str


# -- after a caller's commit, and waking ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkersNotTold(Fact):
    """The workers of a database were not told of new work: they find it by polling."""

    alias: str
    error: Exception


@dataclass(frozen=True, slots=True)
class AfterCommitSkipped(Fact):
    """The database was away for what follows a caller's commit: the workers do it. `name`: of the function."""

    name: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class AfterCommitFailed(Fact):
    """What follows a caller's commit has failed by an error that is no database's."""

    name: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class NoWakeSocket(Fact):
    """The worker has no socket on which other processes of its host could wake it."""

    error: OSError


@dataclass(frozen=True, slots=True)
class ListenRefused(Fact):
    """LISTEN does not work on this database connection."""

    error: Exception


@dataclass(frozen=True, slots=True)
class ListenLost(Fact):
    """The connection that listens was lost."""

    error: Exception
