"""What to do next about a run: sentences, each with the `flow` command that does it. Called by `drawing`."""

from __future__ import annotations

from collections.abc import Iterator

from ..insight import overdue, serving
from ..insight.timeline import Timeline
from ..states import FAILED, PARKED, PAUSED, PENDING, RUNNING, STOPPING, WAITING

#: A sentence, and the arguments of `manage.py flow`; empty if there is nothing to call.
Advice = tuple[str, str]


def advice(timeline: Timeline, *, tracebacks: bool) -> Iterator[Advice]:
    """Yield what may be done about a run as it stands; `tracebacks`: whether they are shown already."""
    run_id, state = timeline.run.id, timeline.run.state
    if state == FAILED:
        if not tracebacks:
            yield "To see where it failed:", f"show {run_id} --traceback"
        yield "When its cause is mended, let it go on; what is finished stays finished:", f"retry {run_id}"
        yield "Or start it anew, as a run of its own:", f"rerun {run_id}"
    elif state == PARKED:
        yield _parked(timeline)
    elif state == PAUSED:
        yield "It starts no further step until it is resumed:", f"resume {run_id}"
    elif state == WAITING:
        yield from _sends(timeline)
    else:
        yield from ((line, "") for line in _workers(timeline))


def _parked(timeline: Timeline) -> Advice:
    run_id, reason = timeline.run.id, timeline.run.reason
    if timeline.run.ending:
        return "It is undone when a worker starts whose code can. To end it at once, and undo nothing more:", (
            f"cancel {run_id} --no-undo"
        )
    if reason.startswith("UnknownWorkflow"):
        return f"It goes on by itself when a worker starts that knows {timeline.label}.", ""
    if reason.startswith("TooManyRecoveries"):
        return "Find out what ends its workers in this step, then let it try again:", f"retry {run_id}"
    return "It goes on when a worker starts with code that can read it. To look again now:", f"retry {run_id}"


def _sends(timeline: Timeline) -> Iterator[Advice]:
    wait = next((wait for wait in timeline.suspended_on if wait.event is not None), None)
    if wait is not None and wait.event is not None:
        yield "To send what it waits for:", f"send {timeline.run.id} {_quoted(wait.event)} JSON"


def _workers(timeline: Timeline) -> Iterator[str]:
    """Yield what to do about workers, where that is what the run lacks."""
    run, state = timeline.run, timeline.run.state
    if state == PENDING and (unserved := serving.unserved_run(run)):
        yield f"{unserved[:1].upper()}{unserved[1:]}"
    elif state == PENDING and overdue.waits_to_be_alone(run):
        yield "To have it taken at once, start one worker more: an empty one need not wait for others."
    elif state in (RUNNING, STOPPING, PENDING) and timeline.silent_for is not None:
        none = serving.unserved_run(run)
        known = "Another worker takes it over, if one is live (manage.py flowhealth says); else start one."
        yield f"{none[:1].upper()}{none[1:]}" if none else known


def _quoted(word: str) -> str:
    safe = word.replace("-", "").replace("_", "").replace(".", "").isalnum()
    return word if safe else "'" + word.replace("'", "'\\''") + "'"
