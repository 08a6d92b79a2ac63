"""A run as its claim found it: all that an activation of it needs to know. Made by `store`, read by `replay`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from . import policies
from .changes import Awaited
from .journal import Journal


@dataclass(frozen=True, slots=True)
class Origin:
    """What the run was started by, and with: it never changes."""

    #: The run whose records this one was given, if it was forked: what is derived stays as it was there.
    seed: UUID | None = None
    #: The run that has started it, and is told of its end.
    parent_id: UUID | None = None
    #: Its start policies, as text; `None` for most.
    policies: str | None = None
    #: The nominal moment of the tick that has started it, if a schedule did.
    scheduled_for: datetime | None = None

    @property
    def awaited(self) -> Awaited:
        """Return who may wait for the run's end, but for a parent."""
        named = self.policies is not None and policies.read(self.policies).singleton is not None
        return Awaited(self.policies is not None, self.scheduled_for is not None, named)


#: That of most runs.
PLAIN = Origin()


@dataclass(slots=True)
class Standing:
    """What has come over the run before: of most, nothing."""

    #: Since its last new record: crashes of its owners, and hand-backs because of an outage.
    recoveries: int = 0
    outages: int = 0
    #: How it is to end, if it is stopping, and with which error.
    ending: str = ""
    error: str | None = None
    #: Why it was parked, if it has not gone on since.
    reason: str = ""
    #: Seconds from its first activation to its deadline; and that, once it is set.
    timeout: float | None = None
    deadline_at: datetime | None = None
    #: Of the function that it was started with; and whether it is known to have gone on with another one.
    fingerprint: str = ""
    code_changed: bool = False
    #: Whether there may be something to undo before it ends, should it fail or be cancelled.
    has_undo: bool = False
    origin: Origin = PLAIN


@dataclass(slots=True)
class ClaimedRun:
    """Who the run is, what it is called with, how it stands, and what it has stored."""

    id: UUID
    workflow: str
    version: str
    queue: str
    state: str
    epoch: int
    generation: int
    arguments: str
    attributes: dict[str, Any]
    standing: Standing
    #: When this process claimed it, by `time.monotonic()`.
    claimed_at: float = 0.0
    #: `None`: it is not loaded; that of a run that is blank never is.
    journal: Journal | None = None

    @property
    def fresh(self) -> bool:
        """Whether it was never claimed before."""
        return self.epoch == 1

    @property
    def blank(self) -> bool:
        """Whether it has no records for certain: it was never claimed before, and was given none."""
        return self.epoch == 1 and self.standing.origin.seed is None

    @property
    def seed(self) -> UUID:
        """The run in whose name UUIDs and random numbers are derived: itself, but for a fork."""
        return self.standing.origin.seed or self.id
