"""A history as JSON that may be kept in a repository: the run, its arguments, its records in order.

Values stand as they are stored, with the codec's tags, so that an export replays as the run does. Where `REDACT` is
set they have gone through it, and are encoded again. Keys have a fixed order, and hold nothing that a second export of
an ended run would not hold.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from .. import conf
from ..core import codec
from ..exceptions import CanxFlowError, RunNotFound
from ..insight import display
from ..models import StepRecord, WorkflowRun
from ..states import ANSWERS
from .history import SCHEMA


def export(run_id: UUID) -> dict[str, Any]:
    """Return the history of a run as plain data for JSON; RunNotFound if there is no such run."""
    alias = conf.get().database
    run = WorkflowRun.objects.using(alias).filter(id=run_id).first()
    if run is None:
        raise RunNotFound(f"there is no run {run_id}")
    records = StepRecord.objects.using(alias).filter(run_id=run_id).order_by("seq")
    return {"schema": SCHEMA, "run": _run(run), "records": _records(records)}


def _run(run: WorkflowRun) -> dict[str, Any]:
    return {
        "id": str(run.id),
        "workflow": run.workflow,
        "version": run.version,
        "state": run.state,
        "reason": run.reason,
        "generation": run.generation,
        "seed": str(run.seed) if run.seed is not None else None,
        "fingerprint": run.fingerprint,
        "code_changed": run.code_changed,
        "queue": run.queue,
        "priority": run.priority,
        "key": run.key,
        "attributes": run.attributes,
        "created_at": _iso(run.created_at),
        "started_at": _iso(run.started_at),
        "finished_at": _iso(run.finished_at),
        "arguments": _value(run.arguments, run.workflow),
        "result": _value(run.result, run.workflow),
        "error": _error(codec.loads_plain(run.error), run.workflow) if run.error else None,
    }


def _records(records: Any) -> list[dict[str, Any]]:
    return [_record(record) for record in records]


def _record(record: StepRecord) -> dict[str, Any]:
    # The engine's own answers hold nothing of the project's.
    names = () if record.kind in ANSWERS else (record.name,)
    return {
        "seq": record.seq,
        "name": record.name,
        "kind": record.kind,
        "state": record.state,
        "attempts": record.attempts,
        "epoch": record.epoch,
        "started_at": _iso(record.started_at),
        "finished_at": _iso(record.finished_at),
        "result": _value(record.result, *names),
        "errors": _errors(record.errors, record.name),
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _value(text: str | None, *names: str) -> Any:
    """Return a stored value as JSON; through `REDACT`, what cannot be stored again is hidden."""
    if text is None:
        return None
    if not names or not conf.get().redact:
        return json.loads(text)
    found = display.reveal(text, *names)
    try:
        return json.loads(codec.dumps(found.value, "a redacted value"))
    except CanxFlowError:
        return display.HIDDEN


def _errors(text: str | None, step: str) -> list[Any] | None:
    return None if text is None else [_error(error, step) for error in codec.loads_plain(text)]


def _error(stored: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return a stored failure; its message and its traceback through `REDACT`."""
    said = {name: str(stored.get(name) or "") for name in ("type", "message", "traceback")}
    message, traceback = display.redacted_error(said, names)
    return {**stored, "message": message, "traceback": traceback}


def written(exports: dict[str, Any]) -> str:
    """Return an export as the text of a file."""
    return json.dumps(exports, indent=2) + "\n"
