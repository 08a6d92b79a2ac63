"""Where a run stands, for people and programs: its row, its open waits, and what its worker last said of it.

Called by `client`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from ..core import codec
from ..core.options import Progress
from ..exceptions import NotDecodable, StoredError
from ..models import StepRecord, Timer, WorkflowRun
from ..states import ENDED, GOING_ON, RUNNING, STOPPING, UNFINISHED, Kind, WorkerState
from ..store import cutoffs
from ..store.timers import FORSAKEN


@dataclass(frozen=True, slots=True)
class WaitStatus:
    """One open wait. `step`: the key of the step that waits, `None` for a delayed start. `kind`: `sleep`, `wait` (for
    an event), `retry`, `start` (delayed) or `outage` (the body met a database that was away). `event` and `key`: what a
    `wait` waits for. `resume_at`: when it ends, aware; `None` if only an event ends it."""

    step: str | None
    kind: str
    event: str | None
    key: str | None
    resume_at: datetime | None


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Where a run stands. Moments are aware datetimes in UTC.

    `state`: one of the eleven; `reason`: why it is parked, failed or cancelled, or that it blocks its worker's event
    loop or was cut off (its worker died in a step), else empty. `step` and `resume_at`: those of the wait due first;
    while running, `step` is what the worker last reported, else `None`. `waits`: every open wait. `attempt`: of that
    step, from 1. `generation`: 0. `attributes`: what the run has published. `progress`: `{"done", "total", "message"}`
    or `None`. `result`: what the workflow returned. `error`: of a failed or parked run, a dict with `type`, `message`,
    `traceback`, `at`, `mro`, and `step` if a step failed (`steps` if several did). `parent_id`: `None`. `created_at`,
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


def status_of(run: WorkflowRun) -> RunStatus:
    waits = _waits(run) if run.state in UNFINISHED else ()
    said = _said(run)
    step, attempt, progress = _current(run, said, waits)
    first = waits[0] if waits and run.state != RUNNING else None
    return RunStatus(
        id=run.id, workflow=run.workflow, version=run.version, state=run.state,
        reason=_now(run, said) if run.state in GOING_ON else run.reason, step=step,
        resume_at=first.resume_at if first else None, waits=waits, attempt=attempt, generation=run.generation,
        attributes=run.attributes, progress=progress, result=_stored_result(run),
        error=codec.loads_plain(run.error) if run.error else None, parent_id=run.parent_id,
        created_at=run.created_at, started_at=run.started_at, finished_at=run.finished_at,
    )  # fmt: skip


def _waits(run: WorkflowRun) -> tuple[WaitStatus, ...]:
    timers = Timer.objects.using(run._state.db).filter(run_id=run.id).exclude(FORSAKEN).exclude(kind=Kind.DEADLINE)
    waits = [WaitStatus(t.step or None, t.kind, t.event, t.key, t.due_at) for t in timers.order_by("id")]
    return tuple(sorted(waits, key=lambda wait: (wait.resume_at is None, wait.resume_at)))


def _said(run: WorkflowRun) -> dict[str, Any]:
    """What the run's worker has last said of it, with its heartbeat."""
    if run.state not in (RUNNING, STOPPING) or run.owner is None or run.owner.state != WorkerState.ALIVE:
        return {}
    said: dict[str, Any] = json.loads(run.owner.activity).get(str(run.id), {})
    return said


def _now(run: WorkflowRun, said: dict[str, Any]) -> str:
    """What is wrong with a run that goes on: it blocks its worker, or was cut off."""
    cut_off = cutoffs.words(run.recoveries, cutoffs.of(run)) if run.recoveries else ""
    return "; ".join(words for words in (_blocks(said), cut_off) if words)


def _blocks(said: dict[str, Any]) -> str:
    return f"it blocks the event loop of its worker, at {said['blocks']['at']}" if said.get("blocks") else ""


def _current(
    run: WorkflowRun, said: dict[str, Any], waits: Sequence[WaitStatus]
) -> tuple[str | None, int, Progress | None]:
    progress = codec.loads(run.progress) if run.progress else None
    if run.state in (RUNNING, STOPPING) and run.owner_id is not None:
        return said.get("step"), said.get("attempt", 1), said.get("progress") or progress
    if not waits or run.state in (RUNNING, STOPPING):
        return None, 1, progress
    attempt = 1
    if waits[0].kind == Kind.RETRY:
        records = StepRecord.objects.using(run._state.db).filter(run_id=run.id, name=waits[0].step)
        attempt = 1 + (records.values_list("attempts", flat=True).first() or 0)
    return waits[0].step, attempt, progress


def _stored_result(run: WorkflowRun) -> Any:
    try:
        return codec.loads(run.result) if run.result is not None else None
    except NotDecodable:
        return None  # A status is shown even where the code that made the result is gone.
