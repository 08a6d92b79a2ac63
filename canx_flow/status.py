"""Where a run stands, as `status()` answers it. `insight.status` makes these from the tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from .core.options import Progress
from .exceptions import StoredError
from .states import ENDED, Kind

__all__ = ["RunStatus", "WaitStatus"]


@dataclass(frozen=True, slots=True)
class WaitStatus:
    """One open wait. `step`: the key of the step that waits, `None` for a delayed start. `kind`: `sleep`, `wait` (for
    an event), `call` (for a child), `delegate` (for the task of another
    executor, which `key` names), `retry`, `start` (delayed), `outage` (the body met a database that was away) or
    `cancel` (its parent was stopped). `event` and `key`: what a `wait` waits for; `key` of a `call`: the child's id.
    `resume_at`: when it ends, aware; `None` if only an event or a child ends it."""

    step: str | None
    kind: str
    event: str | None
    key: str | None
    resume_at: datetime | None

    @property
    def child_id(self) -> UUID | None:
        """The run that a `call` waits for."""
        return UUID(self.key) if self.kind == Kind.CALL and self.key is not None else None


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Where a run stands. Moments are aware datetimes in UTC.

    `state`: one of the eleven; `reason`: why it is parked, failed or cancelled, or that it blocks its worker's event
    loop or was cut off (its worker died in a step), else empty. `why`: in one line for people, in the active language,
    why it does not move, what it does, or how it ended: `no live worker serves queue mail`. `step` and `resume_at`:
    those of the wait due first; while running, `step` is what the worker last reported, else `None`. `waits`: every
    open wait. `attempt`: of that step, from 1. `generation`: how often it has continued as new. `attributes`: what the
    run has published. `progress`: `{"done", "total", "message"}` or `None`. `result`: what the workflow returned.
    `error`: of a failed or parked run, a dict with `type`, `message`, `traceback`, `at`, `mro`, and `step` if a step
    failed (`steps` if several did). `parent_id`: the run that has called or spawned it, or `None`. `created_at`,
    `started_at` (first claimed), `finished_at`.
    """

    id: UUID
    workflow: str
    version: str
    state: str
    reason: str
    step: str | None
    resume_at: datetime | None
    waits: tuple[WaitStatus, ...]
    why: str
    attempt: int
    generation: int
    attributes: dict[str, Any]
    progress: Progress | None
    result: Any
    error: StoredError | None
    parent_id: UUID | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def ended(self) -> bool:
        """Whether it is completed, failed or cancelled."""
        return self.state in ENDED
