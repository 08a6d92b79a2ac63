"""What a worker that was told to stop waits for, and what becomes of it. Announced by `worker.leaving` and its life."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from .runs import Fact


@dataclass(frozen=True, slots=True)
class RunLeft:
    """A run that a leaving worker has in flight. `seconds` in its step; `None`: less than `beat`, a heartbeat's pause.

    `step` is `None` in the body; `blocks_at`: where its code blocks the event loop, or empty.
    """

    run_id: UUID
    workflow: str
    step: str | None
    attempt: int
    seconds: float | None
    beat: float
    blocks_at: str


@dataclass(frozen=True, slots=True)
class InFlight:
    """What a leaving worker has in flight: `total` runs, of which some are named in `runs`, and `more` are called.

    `ending`: their body has ended, and the end is to be stored; `stored`: whether the database takes it.
    """

    total: int
    runs: tuple[RunLeft, ...]
    more: int
    ending: int
    stored: bool


@dataclass(frozen=True, slots=True)
class WorkerWaits(Fact):
    """A worker that was told to stop waits for its runs, for `seconds` at most. `again`: it has said so before."""

    name: str
    pid: int
    again: bool
    seconds: float
    left: InFlight


@dataclass(frozen=True, slots=True)
class WorkerCutOff(Fact):
    """A worker leaves with runs in flight: it was `forced` to, or its `timeout` has passed."""

    name: str
    pid: int
    forced: bool
    timeout: float
    left: InFlight


@dataclass(frozen=True, slots=True)
class GoodbyeFailed(Fact):
    """The database is away, so a leaving worker cannot hand its runs back."""

    error: Exception
    lease: float
