"""What people can do about a run as it stands: sentences, each with the command that does it.

Called by `flow show` and by the admin, which offers its own button for a verb where it has one.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from django.utils.translation import gettext as _

from ..states import FAILED, PARKED, PAUSED, RETRYING, SLEEPING, SUSPENDED, Kind, RecordState, bars_retry
from . import reasons
from .timeline import Timeline


@dataclass(frozen=True, slots=True)
class Advice:
    """A sentence in the reader's language, and the arguments of `manage.py` that do it; empty if there are none."""

    text: str
    command: str = ""

    @property
    def verb(self) -> str:
        """The verb of `flow` that it calls: `retry`, `send`, …; empty for another command."""
        words = self.command.split()
        return words[1] if words[:1] == ["flow"] else ""


def advice(timeline: Timeline, *, tracebacks: bool = True) -> Iterator[Advice]:
    """Yield what may be done about a run as it stands; `tracebacks`: whether they are shown already."""
    run_id, state = timeline.run.id, timeline.run.state
    if state == FAILED:
        if not tracebacks:
            yield Advice(_("To see where it failed:"), f"flow show {run_id} --traceback")
        yield from _failed(timeline)
    elif state == PARKED:
        yield _parked(timeline)
    elif state == PAUSED:
        yield Advice(_("It starts no further step until it is resumed:"), f"flow resume {run_id}")
    elif state in SUSPENDED:  # One branch may wait for an event while another one sleeps.
        yield from _sends(timeline)
    for reason in timeline.why.reasons:
        yield from _about(reason, timeline)


def _failed(timeline: Timeline) -> Iterator[Advice]:
    """Yield how it may go on. Of a run of which something was undone, only the undo that has failed is tried again."""
    run_id = timeline.run.id
    undone = {row.state for row in timeline.rows if row.kind == Kind.UNDO}
    if RecordState.FAILED in undone:
        text = _("When what failed of its undo can be done, have that tried again, and nothing else:")
        yield Advice(text, f"flow retry {run_id}")
        yield Advice(_("To start it anew, as a run of its own:"), f"flow rerun {run_id}")
    elif bars_retry(undone):
        text = _("What it did is undone, so it cannot go on. To have another run go on from one of its steps:")
        yield Advice(text, f"flow fork {run_id} --from STEP")
        yield Advice(_("Or start it anew, as a run of its own:"), f"flow rerun {run_id}")
    else:
        text = _("When its cause is mended, let it go on; what is finished stays finished:")
        yield Advice(text, f"flow retry {run_id}")
        yield Advice(_("Or start it anew, as a run of its own:"), f"flow rerun {run_id}")


def _parked(timeline: Timeline) -> Advice:
    run_id, reason = timeline.run.id, timeline.run.reason
    if timeline.run.ending:
        text = _("It is undone when a worker starts whose code can. To end it at once, and undo nothing more:")
        return Advice(text, f"flow cancel {run_id} --no-undo")
    if reason.startswith("UnknownWorkflow"):
        text = _("Start a worker of queue {queue} anew with the code that has {workflow}.")
        return Advice(text.format(queue=timeline.run.queue, workflow=timeline.label))
    if reason.startswith("TooManyRecoveries"):
        return Advice(_("Find out what ends its workers in this step, then let it try again:"), f"flow retry {run_id}")
    text = _("It goes on when a worker starts with code that can read it. To look again now:")
    return Advice(text, f"flow retry {run_id}")


def _sends(timeline: Timeline) -> Iterator[Advice]:
    events = (wait.event for wait in timeline.suspended_on if wait.kind == Kind.WAIT)  # No child's end is sent.
    if (event := next(events, None)) is not None:
        yield Advice(_("To send what it waits for:"), f"flow send {timeline.run.id} {shlex.quote(event)} JSON")


def _about(reason: reasons.Reason, timeline: Timeline) -> Iterator[Advice]:
    """Yield what may be done about one of the reasons for which it does not move."""
    run_id = timeline.run.id
    match reason:
        case reasons.Unserved():
            yield Advice(_("Start a worker:"), worker_for(reason.queue if reason.live else None))
        case reasons.Unknown():
            text = _("Start a worker of queue {queue} anew with the code that has {workflow}.")
            yield Advice(text.format(queue=reason.queue, workflow=reason.workflow))
        case reasons.QueuePaused():
            yield Advice(_("To have its runs claimed again:"), f"flow queue resume {shlex.quote(reason.queue)}")
        case reasons.WorkflowPaused():
            text, name = _("To have its runs claimed again:"), shlex.quote(reason.workflow)
            yield Advice(text, f"flow queue resume {name} --workflow")
        case reasons.Alone():
            yield Advice(_("To have it taken at once, start one worker more: an empty one need not wait for others."))
        case reasons.Silent() | reasons.Gone():
            yield Advice(_("Another worker takes it over. If none is live, start one:"), "runflowworker")
        case reasons.Sleeping() | reasons.Retrying() | reasons.Starting() if timeline.run.state in (SLEEPING, RETRYING):
            yield Advice(_("To have it go on now:"), f"flow wake {run_id}")


def worker_for(queue: str | None) -> str:
    """Return the command that starts a worker, of one queue or of all."""
    return "runflowworker" if queue is None else f"runflowworker --queue {shlex.quote(queue)}"
