"""What `flow show` says of a run in sentences: how it stands, what it waits for, who controlled it, what was cut off.

Called by `drawing`, which puts them on the terminal.
"""

from __future__ import annotations

from datetime import datetime
from math import inf

from django.utils import timezone

from ..core.durations import span, when
from ..core.pretty import counted
from ..insight import cutoffs, overdue, reading
from ..insight.reading import OpenWait
from ..insight.timeline import Timeline
from ..states import CANCELLED

#: Controls as what has been done.
_DONE = {
    "cancel": "cancelled", "pause": "paused", "resume": "resumed", "wake": "woken", "retry": "retried",
    "rerun": "started anew", "fork": "forked",
}  # fmt: skip


def moment(at: datetime) -> str:
    """Write a moment in the project's time zone, and name the zone."""
    return f"{timezone.localtime(at):%Y-%m-%d %H:%M:%S %Z}"


def state(timeline: Timeline) -> str:
    """Write what there is to say beside the run's state."""
    run, error = timeline.run, timeline.error
    match run.state:
        case "completed":
            took = reading.duration(run, timeline.now) or 0.0
            return f"after {span(took)}, {when(timeline.ends, timeline.now)}"
        case "failed":
            return error.summary if error is not None else run.reason
        case "parked":
            return run.reason
        case "cancelled" | "paused":
            return control(timeline).partition(" ")[2]
        case "running":
            return _work(timeline)
        case "stopping":
            return _stopping(timeline)
        case "pending" if overdue.waits_to_be_alone(run):
            return overdue.TO_BE_ALONE
        case "pending":
            return "waits for a worker to claim it"
    return wait(timeline, timeline.suspended_on[0]) if timeline.suspended_on else ""


def _work(timeline: Timeline) -> str:
    """Write what the run's worker does, as it last reported, and whether it is silent."""
    run, report, parts = timeline.run, timeline.report, []
    if report is not None and report.step is not None:
        since = f" for {span(timeline.now - report.since)}" if report.since is not None else ""
        parts.append(f"in {report.step}{since}" + (f", attempt {report.attempt}" if report.attempt > 1 else ""))
    if report is not None and report.blocks_at:
        parts.append(f"blocks the event loop at {report.blocks_at}")
    if run.owner is not None:
        parts.append(f"on worker {run.owner}")
    silent = timeline.silent_for
    if silent is not None:
        parts.append("its worker is gone" if silent == inf else f"its worker is silent for {span(silent)}")
    return ", ".join(parts)


def _stopping(timeline: Timeline) -> str:
    """Write what is being undone, how much of that is left, and how the run will end."""
    run, waits = timeline.run, timeline.suspended_on
    parts = [_work(timeline)]
    if run.owner_id is None and waits:
        parts.append(f"{waits[0].step}: {wait(timeline, waits[0])}")
    if timeline.undo_left:
        parts.append(f"{counted(timeline.undo_left, 'undo step')} left")
    elif run.has_undo:
        parts.append("undoes what it has done")
    return ", ".join(part for part in [*parts, f"will be {run.ending or CANCELLED}"] if part)


def wait(timeline: Timeline, wait: OpenWait) -> str:
    """Write what a wait is for and when it ends."""
    words = wait.words(timeline.now, timeline.failing(wait))
    return f"{words} ({moment(wait.due_at)})" if wait.due_at is not None else words


def control(timeline: Timeline) -> str:
    """Write the last control call: what was done, by whom, when and why; empty if there was none."""
    run = timeline.run
    if not run.control or run.control_at is None:
        return ""
    by = f" by {run.control_by}" if run.control_by else ""
    why = f": {run.control_reason}" if run.control_reason else ""
    return f"{_DONE.get(run.control, run.control)}{by} {when(run.control_at, timeline.now)}{why}"


def cut_off(timeline: Timeline) -> str:
    """Write how often the run's workers died, in which step, and the last of them."""
    words = cutoffs.words(timeline.run.recoveries, timeline.cut_off, since=False).removeprefix("cut off ")
    last = timeline.cut_off[-1:]
    return words + "".join(f", last {when(cut.at, timeline.now)} on {cut.worker}" for cut in last)
