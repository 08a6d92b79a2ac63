"""What the admin says: states, spans of time and failures, in the reader's language. Called by what draws."""

from __future__ import annotations

import re

from django.utils.text import Truncator
from django.utils.translation import pgettext_lazy

from ..core.pretty import printable
from ..insight import rows, speech
from ..insight.display import ShownError
from ..insight.speech import Text
from ..states import Kind, RecordState, WorkerState

#: How the message of a step's failure begins, after the step; its cause comes next.
_ATTEMPTS = re.compile(r"^failed after \d+ attempts?: ")

RUN_STATES = speech.RUN_STATES
#: What a row of a run's timeline says. Of a step and of a run some languages say the same differently.
ROW_STATES: dict[str, Text] = {
    rows.CALLED: pgettext_lazy("state of a step", "running"),
    rows.SLEEPING: pgettext_lazy("state of a step", "sleeping"),
    rows.WAITING: pgettext_lazy("state of a step", "waiting"),
    rows.RETRYING: pgettext_lazy("state of a step", "retrying"),
    rows.INTERRUPTED: pgettext_lazy("state of a step", "interrupted"),
    rows.DUE: pgettext_lazy("state of a step", "due"),
    rows.TIMED_OUT: pgettext_lazy("state of a step", "timed out"),
    rows.UNFINISHED: pgettext_lazy("state of a step", "unfinished"),
    RecordState.OPEN: pgettext_lazy("state of a step", "open"),
    RecordState.STARTED: pgettext_lazy("state of a step", "started"),
    RecordState.CLOSED: pgettext_lazy("state of a step", "closed"),
    RecordState.COMPLETED: pgettext_lazy("state of a step", "completed"),
    RecordState.FAILED: pgettext_lazy("state of a step", "failed"),
}
SILENT = "silent"
WORKER_STATES: dict[str, Text] = {
    WorkerState.ALIVE: pgettext_lazy("state of a worker", "alive"),
    SILENT: pgettext_lazy("state of a worker", "silent"),
    WorkerState.STOPPED: pgettext_lazy("state of a worker", "stopped"),
    WorkerState.DEAD: pgettext_lazy("state of a worker", "dead"),
}
#: What a record or a timer is, each as a noun.
KINDS: dict[str, Text] = {
    Kind.STEP: pgettext_lazy("kind of record", "step"),
    Kind.SLEEP: pgettext_lazy("kind of record", "sleep"),
    Kind.WAIT: pgettext_lazy("kind of record", "wait"),
    Kind.NOW: pgettext_lazy("kind of record", "moment"),
    Kind.CALL: pgettext_lazy("kind of record", "call"),
    Kind.DELEGATE: pgettext_lazy("kind of record", "delegated step"),
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
    Kind.LIMIT: pgettext_lazy("kind of timer", "limit"),
    Kind.EXPIRE: pgettext_lazy("kind of timer", "expires unless started"),
    Kind.CANCEL_ON: pgettext_lazy("kind of timer", "cancelled by an event"),
}


when, due = speech.when, speech.due


def took(seconds: float | None, *, briefly: bool = False) -> str:
    """Say how long something took; nothing if it has not begun or not ended."""
    return "" if seconds is None else speech.span(seconds, briefly=briefly)


def failure(error: ShownError, limit: int) -> str:
    """Say what failed and why, on one line of so many characters: `refund: ValueError: no account of grace`."""
    said = error.summary
    if error.steps and error.message:
        cause = _ATTEMPTS.sub("", error.message.removeprefix(f"step {error.step!r} "), count=1)
        cause = cause if error.is_step_s else said
        said = printable(f"{', '.join(error.steps)}: {' '.join(cause.split())}")
    return Truncator(said).chars(limit)
