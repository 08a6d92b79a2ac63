"""What `flow show` says of a run in sentences: how it stands, what it waits for, who controlled it, what was cut off.

Called by `drawing`, which puts them on the terminal.
"""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone

from ..core.durations import when
from ..insight import cutoffs
from ..insight.history import ENGINE, PEOPLE, Entry
from ..insight.reading import OpenWait
from ..insight.timeline import Timeline
from .terminal import one_line

#: Controls as what has been done.
_DONE = {
    "cancel": "cancelled", "pause": "paused", "resume": "resumed", "wake": "woken", "retry": "retried",
    "rerun": "started anew", "fork": "forked",
}  # fmt: skip


def moment(at: datetime) -> str:
    """Write a moment in the project's time zone, and name the zone."""
    return f"{timezone.localtime(at):%Y-%m-%d %H:%M:%S %Z}"


def state(timeline: Timeline) -> str:
    """Write what there is to say beside the run's state: why it does not move, or what it does."""
    return timeline.why.words(timeline.now, moment)


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


def done(entry: Entry) -> str:
    """Write an entry of the run's history: who did what, and why."""
    who = entry.by or ("engine" if entry.actor == ENGINE else entry.channel)
    if entry.actor == PEOPLE and entry.by and entry.channel:
        who = f"{who} ({entry.channel})"
    what = entry.verb
    if entry.detail:
        what += f" {entry.detail}" if entry.verb != "recover" else f" {entry.detail}: its worker died"
    became = f" -> {entry.state}" if entry.state else ""
    return one_line(f"{who}  {what}{became}" + (f": {entry.reason}" if entry.reason else ""))


def cut_off(timeline: Timeline) -> str:
    """Write how often the run's workers died, in which step, and the last of them."""
    words = cutoffs.words(timeline.run.recoveries, timeline.cut_off, since=False).removeprefix("cut off ")
    last = timeline.cut_off[-1:]
    return words + "".join(f", last {when(cut.at, timeline.now)} on {cut.worker}" for cut in last)
