"""A history as JSON that may be kept in a repository: the run, its arguments, its records in order.

Values stand as they are stored, with the codec's tags, so that an export replays as the run does. Where `REDACT` is
set they have gone through it, and are encoded again. Keys have a fixed order, and hold nothing that a second export of
an ended run would not hold.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from .. import conf
from ..core import codec, naming
from ..core.failures import steps_of
from ..exceptions import CanxFlowError, RunNotFound
from ..insight import display
from ..insight.names import RunNames, workflows_of
from ..insight.redaction import HIDDEN, Names, Revealed, reveal, reveal_value
from ..insight.speech import in_english
from ..models import Event, StepRecord, WorkflowRun
from ..states import ANSWERS
from .history import SCHEMA


def export(run_id: UUID) -> dict[str, Any]:
    """Return the history of a run as plain data for JSON; RunNotFound if there is no such run."""
    alias = conf.get().database
    run = WorkflowRun.objects.using(alias).filter(id=run_id).first()
    if run is None:
        raise RunNotFound(f"there is no run {run_id}")
    records = StepRecord.objects.using(alias).filter(run_id=run_id).order_by("seq")
    return {"schema": SCHEMA, "run": _run(run), "records": _records(alias, run, list(records))}


def _run(run: WorkflowRun) -> dict[str, Any]:
    names = RunNames(run.workflow)
    return {
        "id": str(run.id),
        "workflow": run.workflow,
        "version": run.version,
        "state": run.state,
        "reason": run.reason,
        "generation": run.generation,
        "seed": str(run.seed) if run.seed is not None else None,
        "scheduled_for": run.scheduled_for.isoformat() if run.scheduled_for is not None else None,
        "fingerprint": run.fingerprint,
        "code_changed": run.code_changed,
        "queue": run.queue,
        "priority": run.priority,
        "key": run.key,
        "attributes": _attributes(run, names),
        "created_at": _iso(run.created_at),
        "started_at": _iso(run.started_at),
        "finished_at": _iso(run.finished_at),
        "arguments": _value(run.arguments, names.arguments),
        "result": _value(run.result, names.result),
        "error": _run_error(run) if run.error else None,
    }


def _records(alias: str, run: WorkflowRun, records: Sequence[StepRecord]) -> list[dict[str, Any]]:
    whose = _names(alias, run, records)
    return [_record(record, whose) for record in records]


def _names(alias: str, run: WorkflowRun, records: Sequence[StepRecord]) -> RunNames:
    """Return the names of the run's values; what its waits have read is looked up where `REDACT` asks for it."""
    if conf.get().redact is None:
        return RunNames(run.workflow)
    ids = [record.event_id for record in records if record.event_id is not None]
    events = Event.objects.using(alias).defer("payload").in_bulk(ids)
    children = {child for event in events.values() if (child := naming.child_of(event.name)) is not None}
    return RunNames(run.workflow, events=events, workflows=workflows_of(alias, children))


def _record(record: StepRecord, whose: RunNames) -> dict[str, Any]:
    # The engine's own answers hold nothing of the project's.
    names = None if record.kind in ANSWERS else whose.of_record(record)
    return {
        "seq": record.seq,
        "name": record.name,
        "kind": record.kind,
        "state": record.state,
        "attempts": record.attempts,
        "epoch": record.epoch,
        "started_at": _iso(record.started_at),
        "finished_at": _iso(record.finished_at),
        "result": _value(record.result, names),
        "errors": _errors(record.errors, whose.workflow, record.name),
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _attributes(run: WorkflowRun, names: RunNames) -> Any:
    if not run.attributes or conf.get().redact is None:
        return run.attributes
    return _plain(reveal_value(run.attributes, names.attributes))


def _value(text: str | None, names: Names | None) -> Any:
    """Return a stored value as JSON; through `REDACT`, what cannot be stored again is hidden."""
    if text is None:
        return None
    if names is None or not conf.get().redact:
        return json.loads(text)
    return _plain(reveal(text, names))


def _plain(found: Revealed) -> Any:
    try:
        return json.loads(codec.dumps(found.value, "a redacted value"))
    except CanxFlowError:
        return HIDDEN


def _errors(text: str | None, workflow: str, step: str) -> list[Any] | None:
    return (
        None if text is None else [_error(error, Names("error", workflow, step)) for error in codec.loads_plain(text)]
    )


def _run_error(run: WorkflowRun) -> dict[str, Any]:
    stored: Any = codec.loads_plain(run.error or "{}")
    steps: list[Any] = [*steps_of(stored)] or [None]
    return _error(stored, *(Names("error", run.workflow, step) for step in steps))


def _error(stored: dict[str, Any], *names: Names) -> dict[str, Any]:
    """Return a stored failure; its message and its traceback through `REDACT`."""
    said = {name: str(stored.get(name) or "") for name in ("type", "message", "traceback")}
    with in_english():
        message, traceback = display.redacted_error(said, *names)
    found = {**stored, "message": message, "traceback": traceback}
    decided = stored.get("decided")
    if decided and decided.get("error"):  # Of a run that was parked while it was stopping.
        found["decided"] = {**decided, "error": _error(decided["error"], *names)}
    return found


def written(exports: dict[str, Any]) -> str:
    """Return an export as the text of a file."""
    return json.dumps(exports, indent=2) + "\n"
