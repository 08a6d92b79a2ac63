"""What the admin says: states, spans of time and moments, in the reader's language. Called by everything that draws."""

from __future__ import annotations

import re
from datetime import datetime

from django.utils.functional import Promise
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from .. import states
from ..core import durations
from ..core.pretty import printable
from ..insight import timeline
from ..insight.display import ShownError
from ..states import Kind, RecordState, WorkerState

_State = str | Promise

#: How the message of a step's failure begins, after the step; its cause comes next.
_ATTEMPTS = re.compile(r"^failed after \d+ attempts?: ")

RUN_STATES: dict[str, _State] = {
    states.PENDING: gettext_lazy("pending"),
    states.RUNNING: gettext_lazy("running"),
    states.SLEEPING: gettext_lazy("sleeping"),
    states.WAITING: gettext_lazy("waiting"),
    states.RETRYING: gettext_lazy("retrying"),
    states.PAUSED: gettext_lazy("paused"),
    states.PARKED: gettext_lazy("parked"),
    states.STOPPING: gettext_lazy("stopping"),
    states.COMPLETED: gettext_lazy("completed"),
    states.FAILED: gettext_lazy("failed"),
    states.CANCELLED: gettext_lazy("cancelled"),
}
#: What a row of a run's timeline may say beside.
ROW_STATES: dict[str, _State] = RUN_STATES | {
    timeline.INTERRUPTED: gettext_lazy("interrupted"),
    timeline.DUE: gettext_lazy("due"),
    timeline.TIMED_OUT: gettext_lazy("timed out"),
    timeline.UNFINISHED: gettext_lazy("unfinished"),
    RecordState.OPEN: gettext_lazy("open"),
    RecordState.CLOSED: gettext_lazy("closed"),
}
SILENT = "silent"
WORKER_STATES: dict[str, _State] = {
    WorkerState.ALIVE: gettext_lazy("alive"),
    SILENT: gettext_lazy("silent"),
    WorkerState.STOPPED: gettext_lazy("stopped"),
    WorkerState.DEAD: gettext_lazy("dead"),
}
#: What a record or a timer is, each as a noun.
KINDS: dict[str, _State] = {
    Kind.STEP: pgettext_lazy("kind of record", "step"),
    Kind.SLEEP: pgettext_lazy("kind of record", "sleep"),
    Kind.WAIT: pgettext_lazy("kind of record", "wait"),
    Kind.NOW: pgettext_lazy("kind of record", "moment"),
    Kind.CALL: pgettext_lazy("kind of record", "call"),
    Kind.PATCH: pgettext_lazy("kind of record", "patch"),
    Kind.GATHER: pgettext_lazy("kind of record", "gather"),
    Kind.RACE: pgettext_lazy("kind of record", "race"),
    Kind.MAP: pgettext_lazy("kind of record", "map"),
    Kind.UNDO: pgettext_lazy("kind of record", "undo"),
    Kind.RETRY: pgettext_lazy("kind of timer", "retry"),
    Kind.START: pgettext_lazy("kind of timer", "delayed start"),
    Kind.DEADLINE: pgettext_lazy("kind of timer", "deadline"),
    Kind.OUTAGE: pgettext_lazy("kind of timer", "outage"),
    Kind.CANCEL: pgettext_lazy("kind of timer", "cancelled with its parent"),
}


def when(moment: datetime, now: datetime, *, briefly: bool = False) -> str:
    """Write `in 2 h 14 min`, `3 d 4 h ago`, `now`; briefly `in 2 h`, `3 d ago`."""
    seconds = (moment - now).total_seconds()
    if abs(seconds) < 1:
        return _("now")
    words = {"span": _span(abs(seconds), briefly)}
    return _("in %(span)s") % words if seconds > 0 else _("%(span)s ago") % words


def due(moment: datetime, now: datetime, *, briefly: bool = False) -> str:
    """Say how far away a moment to come is; it may be late."""
    said = when(moment, now, briefly=briefly)
    return said if (now - moment).total_seconds() < 1 else _("now, due %(when)s") % {"when": said}


def took(seconds: float | None, *, briefly: bool = False) -> str:
    """Say how long something took; nothing if it has not begun or not ended."""
    return "" if seconds is None else _span(seconds, briefly)


def _span(seconds: float, briefly: bool) -> str:
    span = durations.span(seconds)
    return " ".join(span.split()[:2]) if briefly else span


def failure(error: ShownError, limit: int) -> str:
    """Say what failed and why, on one line of so many characters: `refund: ValueError: no account of grace`."""
    said = error.summary
    if error.steps and error.message:
        cause = _ATTEMPTS.sub("", error.message.removeprefix(f"step {error.step!r} "), count=1)
        cause = cause if error.is_step_s else said
        said = printable(f"{', '.join(error.steps)}: {' '.join(cause.split())}")
    return Truncator(said).chars(limit)
