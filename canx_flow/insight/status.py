"""Where a run stands, for people and programs: its row, its open waits, and what its worker last reported of it.

Called by `client`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core import clock, codec
from ..exceptions import NotDecodable
from ..models import WorkflowRun
from ..states import GOING_ON, NO_WAITS, RUNNING, UNFINISHED, Kind
from ..status import RunStatus, WaitStatus
from . import cutoffs, reading
from .cutoffs import CutOff
from .reading import OpenWait, Report
from .why import why


def status_of(run: WorkflowRun) -> RunStatus:
    """Return where the run stands; it is loaded with its owner."""
    waits = _waits(run)
    report = reading.report(run)
    cut_off = cutoffs.of(run) if run.state in GOING_ON else ()
    step, attempt = _current(run, report, waits)
    return RunStatus(
        id=run.id, workflow=run.workflow, version=run.version, state=run.state,
        reason=_reason(run, report, cut_off) if run.state in GOING_ON else run.reason, step=step,
        resume_at=waits[0].due_at if waits and run.state != RUNNING else None,
        waits=tuple(map(_wait, waits)), why=why(run, waits=waits, cut_off=cut_off).words(clock.now()),
        attempt=attempt, generation=run.generation, attributes=run.attributes,
        progress=reading.progress(run, report), result=_stored_result(run),
        error=codec.loads_plain(run.error) if run.error else None, parent_id=run.parent_id,
        created_at=run.created_at, started_at=run.started_at, finished_at=run.finished_at,
    )  # fmt: skip


def _wait(wait: OpenWait) -> WaitStatus:
    event, key = (wait.event, wait.key) if wait.child is None else (None, str(wait.child))
    if wait.kind == Kind.DELEGATE:  # Its event is the engine's own.
        event = None
    return WaitStatus(wait.step or None, wait.kind, event, key, wait.due_at)


def _waits(run: WorkflowRun) -> Sequence[OpenWait]:
    if run.state not in UNFINISHED:
        return ()
    return [wait for wait in reading.waits(run) if wait.kind not in NO_WAITS]


def _reason(run: WorkflowRun, report: Report | None, cut_off: Sequence[CutOff]) -> str:
    """Return what is wrong with a run that goes on: it blocks its worker's event loop, or was cut off."""
    blocks = report is not None and report.blocks_at
    said = [f"it blocks the event loop of its worker, at {blocks}"] if blocks else []
    if run.recoveries:
        said.append(cutoffs.words(run.recoveries, cut_off))
    return "; ".join(said)


def _current(run: WorkflowRun, report: Report | None, waits: Sequence[OpenWait]) -> tuple[str | None, int]:
    """Return the step that the run is at, and the number of its attempt."""
    if reading.is_owned(run):
        return (report.step, report.attempt) if report is not None else (None, 1)
    if not waits or run.state == RUNNING:
        return None, 1
    first = waits[0]
    return first.step or None, reading.next_attempt(run, first.step) if first.kind == Kind.RETRY else 1


def _stored_result(run: WorkflowRun) -> Any:
    try:
        return codec.loads(run.result) if run.result is not None else None
    except NotDecodable:
        return None  # A status is shown even where the code that made the result is gone.
