"""Where a run stands, for people and programs: its row, its open waits, and what its worker last said of it.

Called by `client`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..core import codec
from ..core.options import Progress
from ..exceptions import NotDecodable
from ..models import StepRecord, Timer, WorkflowRun
from ..states import GOING_ON, RUNNING, STOPPING, UNFINISHED, Kind, WorkerState
from ..status import RunStatus, WaitStatus
from ..store import cutoffs
from ..store.timers import FORSAKEN


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
