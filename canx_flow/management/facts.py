"""What the commands print for programs: plain dicts with keys that stay, moments in ISO 8601, values as JSON.

Used by the commands' `--json`, and by the admin's. Values have gone through `REDACT`; one that cannot be shown is a
text that says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from textwrap import indent
from typing import Any
from uuid import UUID

from ..core.pretty import jsonable
from ..insight import display, reading, redaction
from ..insight.cutoffs import CutOff
from ..insight.display import ShownError
from ..insight.history import Entry
from ..insight.messages import Message
from ..insight.names import RunNames
from ..insight.reading import Failing, OpenWait
from ..insight.reasons import Reason
from ..insight.redaction import Names, Revealed
from ..insight.rows import Row
from ..insight.speech import in_english
from ..insight.stored import Stored
from ..insight.timeline import Timeline
from ..models import WorkflowRun
from ..states import GOING_ON

#: The columns that a listed run is described by.
LISTED = (
    "id", "workflow", "version", "state", "reason", "queue", "priority", "key", "subject_type", "subject_id",
    "parent", "attributes", "created_at", "started_at", "finished_at", "error",
)  # fmt: skip
#: Characters of a value that are read with the others.
READ = 2 * display.LIMIT
#: Given what a value is of, such as `step-7`, and its length, returns what stands for one that was not read whole.
Large = Callable[[str, int], Any]


def text(facts: Any) -> str:
    """Return the value as it is printed."""
    return json.dumps(facts, indent=2)


def lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the same for a dict in parts, in which an iterator is a list whose items are made as they are written."""
    yield "{"
    for place, (name, value) in enumerate(facts.items(), start=1):
        comma = "," if place < len(facts) else ""
        if isinstance(value, Iterator):
            yield from _listed(name, value, comma)
        else:
            yield indent(f"{json.dumps(name)}: {text(value)}{comma}", "  ")
    yield "}"


def _listed(name: str, items: Iterator[Any], comma: str) -> Iterator[str]:
    written = None
    yield f"  {json.dumps(name)}: ["
    for item in items:
        if written is not None:
            yield f"{written},"
        written = indent(text(item), "    ")
    if written is not None:
        yield written
    yield f"  ]{comma}"


def iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def of_failing(failing: Failing | None) -> dict[str, Any]:
    """Describe which attempt of a step comes next, of how many, and why the last one failed."""
    if failing is None:
        return {"attempt": None, "max_attempts": None, "last_error": None}
    error = failing.error.summary_in_brief if failing.error is not None else None
    return {"step": failing.step, "attempt": failing.attempt, "max_attempts": failing.most, "last_error": error}


def of_run(
    run: WorkflowRun, wait: OpenWait | None, failing: Failing | None = None, *, payloads: bool = True
) -> dict[str, Any]:
    """Describe a run as it is listed; `wait`: the one that is due first, `failing`: the step that it is for.

    Without `payloads`, what comes from its code is `None`, and of errors there is the type alone.
    """
    return {
        "id": str(run.id),
        "workflow": run.workflow,
        "version": run.version,
        "state": run.state,
        "reason": ("" if run.state in GOING_ON else run.reason) if payloads else None,
        "failure": _failure(run, payloads),
        "step": (wait.step or None) if wait is not None else None,
        **of_failing(failing),
        "resume_at": iso(wait.due_at) if wait is not None else None,
        "queue": run.queue,
        "priority": run.priority,
        "key": run.key,
        "subject": f"{run.subject_type}:{run.subject_id}" if run.subject_type else None,
        "parent_id": str(run.parent_id) if run.parent_id else None,
        "attributes": _attributes(run) if payloads else None,
        "created_at": iso(run.created_at),
        "started_at": iso(run.started_at),
        "finished_at": iso(run.finished_at),
    }


def of_why(timeline: Timeline) -> dict[str, Any]:
    """Describe why a run does not move: the reasons that hold, the first of which counts, each with its facts."""
    run, now = timeline.run, timeline.now
    with in_english():
        found = [
            {"reason": reason.code, "level": reason.level.name.lower(), "words": reason.words(now), **_values(reason)}
            for reason in timeline.why.reasons
        ]
        return {
            "id": str(run.id), "workflow": run.workflow, "version": run.version, "state": run.state,
            "why": timeline.why.words(now), "stuck": timeline.why.stuck, "reasons": found,
        }  # fmt: skip


def _values(reason: Reason) -> dict[str, Any]:
    """Return the fields of a reason as JSON; its own reason is among its words."""
    return {name: _fact(value) for name, value in reason.values().items() if name != "reason"}


def _fact(value: Any) -> Any:
    match value:
        case datetime():
            return iso(value)
        case UUID():
            return str(value)
        case ShownError():
            return value.brief
    return value


def of_timeline(timeline: Timeline, large: Large | None = None) -> dict[str, Any]:
    """Describe a run with everything that `flow show` knows of it; for `lines`, since its results may be large.

    What was not read whole is read as it is written; with `large`, what that returns stands for it.
    """
    run, report = timeline.run, timeline.report
    first = next(iter(timeline.suspended_on), None)
    with in_english():
        told = timeline.why.words(timeline.now)
    facts = of_run(run, first, timeline.failing(first) if first is not None else None)
    if report is not None and (report.step or report.blocks_at):
        facts["step"], facts["attempt"] = report.step, report.attempt
    return {
        **facts,
        "why": told,
        "generation": run.generation,
        "continued_at": iso(run.continued_at),
        "forked_from": str(run.forked_from_id) if run.forked_from_id else None,
        "forked_at": run.forked_at or None,
        "forks": [str(fork_id) for fork_id in timeline.forks],
        "code_changed": run.code_changed,
        "deadline_at": iso(run.deadline_at),
        "worker": str(run.owner) if run.owner is not None else None,
        "blocks_event_loop_at": (report.blocks_at if report is not None else "") or None,
        "ending": run.ending or None,
        "undo_left": timeline.undo_left,
        "recoveries": run.recoveries,
        "cut_off": [_cut_off(cut) for cut in timeline.cut_off],
        "progress": timeline.progress,
        **_stored("arguments", "arguments", _own(run.arguments, large), timeline.names.arguments, large),
        **_stored("result", "result", _own(run.result, large), timeline.names.result, large),
        "error": _error(timeline.error),
        "control": _control(run),
        "waits": [_wait(wait) for wait in timeline.waits],
        "steps": map(partial(_step, large=large), timeline.rows),
        "steps_left_out": timeline.left_out,
        "events": map(partial(_event, large=large), timeline.messages),
        "events_left_out": timeline.unread_left_out,
        "history": map(_entry, timeline.history),
        "children": [_child(child) for child in timeline.children],
        "children_left_out": timeline.children_left_out,
    }


def _failure(run: WorkflowRun, payloads: bool) -> str | None:
    """Say what failed, in one line."""
    error = reading.error(run, concealed=not payloads)
    return error.brief if error is not None else None


def _attributes(run: WorkflowRun) -> Any:
    if not run.attributes:
        return {}
    return _written(redaction.reveal_value(run.attributes, RunNames(run.workflow).attributes))


def _value(stored: str | None, *names: Names) -> Any:
    return None if stored is None else _written(redaction.reveal(stored, *names))


def _written(found: Revealed) -> Any:
    try:
        return jsonable(found.value)
    except Exception as exc:  # noqa: BLE001 - a value of the project's own types
        return f"{redaction.HIDDEN} {type(exc).__name__} when it was written"


def _own(text: str | None, large: Large | None) -> Stored | None:
    """Return a value of the run's own row, which is read with it: as if not whole, where it would not have been."""
    if text is None:
        return None
    return Stored(text if large is None else text[:READ], len(text))


def _stored(name: str, what: str, stored: Stored | None, names: Names | None, large: Large | None) -> dict[str, Any]:
    """Describe a stored value under its name; one that is not read, and what stands for it, beside that."""
    if stored is None:
        return {name: None}
    if large is not None and not stored.is_whole:
        return {name: None, f"{name}_left_out": large(what, stored.length)}
    return {name: _value(stored.whole(), *([names] if names is not None else []))}


def _error(error: ShownError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {
        "type": error.type,
        "message": error.message,
        "step": error.step,
        "steps": list(error.steps),
        "at": iso(error.at),
        "traceback": error.traceback,
    }


def _control(run: WorkflowRun) -> dict[str, Any] | None:
    """Describe the last control call."""
    if not run.control:
        return None
    return {"call": run.control, "by": run.control_by, "at": iso(run.control_at), "reason": run.control_reason}


def _cut_off(cut: CutOff) -> dict[str, Any]:
    return {"step": cut.step, "attempt": cut.attempt, "worker": cut.worker, "last_heard_of": iso(cut.at)}


def _wait(wait: OpenWait) -> dict[str, Any]:
    return {
        "step": wait.step or None,
        "kind": wait.kind,
        "event": wait.event if wait.child is None else None,
        "key": wait.key,
        "due_at": iso(wait.due_at),
        "held": wait.held,
        "child_id": str(wait.child) if wait.child is not None else None,
    }


def _step(row: Row, large: Large | None = None) -> dict[str, Any]:
    return {
        "name": row.name,
        "kind": row.kind,
        "state": row.state,
        "attempts": row.attempts,
        "started_at": iso(row.began),
        "finished_at": iso(row.ended),
        **_stored("result", f"step-{row.id}", row.stored, row.names, large),
        "errors": [_error(error) for error in row.errors],
        "child_id": str(row.child) if row.child is not None else None,
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "at": iso(entry.at), "actor": entry.actor, "by": entry.by or None, "channel": entry.channel or None,
        "call": entry.verb, "state": entry.state or None, "reason": entry.reason, "detail": entry.detail or None,
    }  # fmt: skip


def _child(run: WorkflowRun) -> dict[str, Any]:
    return {"id": str(run.id), "workflow": run.workflow, "version": run.version, "state": run.state}


def _event(message: Message, large: Large | None = None) -> dict[str, Any]:
    return {
        "name": message.name,
        "key": message.key,
        "broadcast": message.broadcast,
        "sent_at": iso(message.sent_at),
        "consumed_by": message.consumed_by,
        "consumed_at": iso(message.consumed_at),
        **_stored("payload", f"event-{message.id}", message.stored, message.names, large),
    }
