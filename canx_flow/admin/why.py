"""Where a run stands and why, in one or two sentences: the first thing its page says.

A function for each state; what a state alone does not say comes from the run's timeline.
"""

from __future__ import annotations

from collections.abc import Callable

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .. import states
from ..core.durations import span
from ..core.pretty import printable
from ..insight import overdue, reading, serving
from ..insight.reading import OpenWait
from ..insight.timeline import Timeline
from ..states import Kind
from . import fragments, words

#: Characters of an error.
_LINE = 200
#: Seconds after which a timer that did not fire is late.
_PATIENCE = 10


def why(timeline: Timeline) -> SafeString:
    """Say what the run does, what it waits for, or how it ended."""
    said = _SAID.get(timeline.run.state)
    return said(timeline) if said is not None else SafeString("")


# -- under way -------------------------------------------------------------------------------------


def _pending(timeline: Timeline) -> SafeString:
    queue = timeline.run.queue
    if overdue.waits_to_be_alone(timeline.run) and not serving.unserved(queue):
        died = _("Waits to run alone, for %d of its workers died since its last stored step:") % timeline.run.recoveries
        return _and(_plain(died), _("one worker claims nothing else until it is empty."))
    if not serving.unserved(queue):
        said = format_html(_("Ready: the next free worker of the queue {} takes it."), fragments.name(queue))
    else:
        said = format_html(_("Ready, but no live worker serves the queue {}."), fragments.name(queue))
    return _and(said, _cut_off(timeline))


def _running(timeline: Timeline) -> SafeString:
    at = timeline.report
    if at is None or at.step is None:
        said = _plain(_("A worker has it."))
    elif at.attempt > 1:
        said = format_html(_("A worker is at the step {}, attempt {}."), fragments.name(at.step), at.attempt)
    else:
        said = format_html(_("A worker is at the step {}."), fragments.name(at.step))
    return _and(said, _cut_off(timeline), _blocking(timeline), _silence(timeline))


def _cut_off(timeline: Timeline) -> SafeString | str:
    """Say how often its workers died since its last stored record, and in which step."""
    count = timeline.run.recoveries
    if not count:
        return ""
    times = ngettext("It was cut off once:", "It was cut off %d times:", count)
    times = times % count if count > 1 else times
    steps = dict.fromkeys(cut.step for cut in timeline.cut_off)
    if not steps:
        return _and(times, _("its worker died."))
    return _and(times, format_html(_("its worker died in the step {}."), fragments.name(", ".join(steps))))


def _blocking(timeline: Timeline) -> SafeString | str:
    if timeline.report is None or not timeline.report.blocks_at:
        return ""
    blocking = _("It blocks the event loop, so that no other async run of that worker goes on: its code stands at {}.")
    return format_html(blocking, printable(timeline.report.blocks_at))


def _silence(timeline: Timeline) -> SafeString | str:
    silent = timeline.silent_for
    if silent is None:
        return ""
    if silent == float("inf"):
        return _("That worker is gone: another one takes the run over.")
    return _("Nothing was heard of that worker for %s.") % span(silent)


def _stopping(timeline: Timeline) -> SafeString:
    run, waits, left = timeline.run, timeline.suspended_on, timeline.undo_left
    ending = words.RUN_STATES.get(run.ending, run.ending)
    if not run.has_undo:
        return format_html(_("Will end as {}. The step in flight may finish; nothing after it starts."), ending)
    said = format_html(_("Undoes what it has done, then ends as {}."), ending)
    more = ngettext("%d undo step is left.", "%d undo steps are left.", left) % left if left else ""
    waiting = _wait(waits[0], timeline) if run.owner_id is None and waits else ""
    at = _running(timeline) if run.owner_id is not None else ""
    return _and(said, more, waiting, at)


# -- suspended -------------------------------------------------------------------------------------


def _suspended(timeline: Timeline) -> SafeString:
    waits = timeline.suspended_on
    if not waits:
        return _plain(_("Suspended."))
    others = len(waits) - 1
    more = ngettext("It has %d more open wait.", "It has %d more open waits.", others) % others if others > 0 else ""
    return _and(_wait(waits[0], timeline), _last_error(waits[0], timeline), more, _late(waits[0], timeline))


def _last_error(wait: OpenWait, timeline: Timeline) -> SafeString | str:
    """Say why the step is tried again."""
    failing = timeline.failing(wait)
    if failing is None or failing.error is None:
        return ""
    return format_html(_("Last error: {}"), words.failure(failing.error, _LINE))


def _late(wait: OpenWait, timeline: Timeline) -> SafeString | str:
    """Say that a timer is late: workers fire one within a second or so, so perhaps none is running."""
    if (
        wait.due_at is None
        or (timeline.now - wait.due_at).total_seconds() < _PATIENCE
        or not serving.unserved(timeline.run.queue)
    ):
        return ""
    return format_html(_("No live worker serves the queue {}."), fragments.name(timeline.run.queue))


def _wait(wait: OpenWait, timeline: Timeline) -> SafeString:
    step, due = fragments.name(wait.step), fragments.due_in_full(wait.due_at, timeline.now)
    match wait.kind:
        case Kind.START:
            return format_html(_("A delayed start: starts {}."), due)
        case Kind.SLEEP:
            return format_html(_("Sleeps in {} and wakes {}."), step, due)
        case Kind.RETRY:
            return format_html(_("The step {} failed; attempt {} comes {}."), step, _attempt(wait, timeline), due)
        case Kind.OUTAGE:
            return format_html(_("Tried again {}. {}"), due, printable(timeline.run.reason))
        case Kind.CALL:
            return format_html(_("Waits in {} for the end of its child {}."), step, printable(str(wait.child)))
    awaited = fragments.name(wait.event or "")
    if wait.key is not None:
        awaited = format_html(_("{} with the key {}"), awaited, fragments.name(wait.key))
    if wait.due_at is None:
        return format_html(_("Waits in {} for the event {}, without a limit."), step, awaited)
    return format_html(_("Waits in {} for the event {}; gives up {}."), step, awaited, due)


def _attempt(wait: OpenWait, timeline: Timeline) -> int:
    failing = timeline.failing(wait)
    return failing.attempt if failing is not None else 1


def _paused(timeline: Timeline) -> SafeString:
    return _and(_plain(_("Starts no step until it is resumed. Its timers keep their moments.")), _held(timeline))


def _parked(timeline: Timeline) -> SafeString:
    said = format_html(_("Cannot go on until someone acts: {}."), printable(timeline.run.reason).rstrip("."))
    return _and(said, _held(timeline))


def _held(timeline: Timeline) -> SafeString | str:
    due = [wait for wait in timeline.suspended_on if wait.due_at is not None]
    if not due:
        return ""
    return format_html(_("The next one, {}, is due {}."), _of(due[0]), fragments.due(due[0].due_at, timeline.now))


def _of(wait: OpenWait) -> SafeString | str:
    return fragments.name(wait.step) if wait.step else str(words.KINDS.get(wait.kind, wait.kind))


# -- ended -----------------------------------------------------------------------------------------


def _completed(timeline: Timeline) -> SafeString:
    run = timeline.run
    took = words.took(reading.duration(run, timeline.now))
    ended = fragments.moment_in_full(run.finished_at, timeline.now)
    return format_html(_("Ended {}, after {}."), ended, took) if took else format_html(_("Ended {}."), ended)


def _failed(timeline: Timeline) -> SafeString:
    error, ended = timeline.error, fragments.moment_in_full(timeline.run.finished_at, timeline.now)
    if error is not None and error.steps:
        steps = format_html_join(", ", "{}", ((fragments.name(step),) for step in error.steps))
        count = len(error.steps)
        said = ngettext("Ended {}: the step {} failed for good.", "Ended {}: the steps {} failed for good.", count)
        return format_html(said, ended, steps)
    return format_html(_("Ended {}: {}."), ended, printable(timeline.run.reason))


def _cancelled(timeline: Timeline) -> SafeString:
    run, ended = timeline.run, fragments.moment_in_full(timeline.run.finished_at, timeline.now)
    said = format_html(_("Ended {}."), ended)
    if run.control == "cancel" and run.control_by:
        said = format_html(_("Ended {}, cancelled by {}."), ended, printable(run.control_by))
    return _and(said, format_html(_("Reason: {}"), printable(run.reason)) if run.reason else "")


def _plain(sentence: str) -> SafeString:
    return format_html("{}", sentence)


def _and(*sentences: SafeString | str) -> SafeString:
    return format_html_join(" ", "{}", ((sentence,) for sentence in sentences if sentence))


_SAID: dict[str, Callable[[Timeline], SafeString]] = {
    states.PENDING: _pending,
    states.RUNNING: _running,
    states.STOPPING: _stopping,
    states.SLEEPING: _suspended,
    states.WAITING: _suspended,
    states.RETRYING: _suspended,
    states.PAUSED: _paused,
    states.PARKED: _parked,
    states.COMPLETED: _completed,
    states.FAILED: _failed,
    states.CANCELLED: _cancelled,
}
