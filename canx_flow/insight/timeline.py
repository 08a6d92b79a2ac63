"""One run as people follow it: what it did and when, what it waits for, what was sent to it.

`load` asks the database a constant number of times. Called by `flow show`, the admin and the demo, which draw it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any
from uuid import UUID

from .. import conf
from ..core import clock, codec
from ..core.durations import UNITS, span
from ..core.options import Progress
from ..exceptions import NotDecodable, RunNotFound
from ..models import Event, StepRecord, Timer, WorkflowRun
from ..states import ENDED, RUNNING, STOPPING, Kind, RecordState, WorkerState
from ..store import cutoffs, host
from ..store.cutoffs import CutOff
from ..store.timers import FORSAKEN
from . import display
from .display import Shown, ShownError

#: Rows of a timeline: a workflow that loops for months has more, and its last ones are what matters.
MOST_ROWS = 1000

# What a row says of itself beside the words of RecordState. For people, so "timed out" is two words.
SLEEPING, WAITING, RETRYING = "sleeping", "waiting", "retrying"
CALLED, INTERRUPTED, DUE, TIMED_OUT, UNFINISHED = "running", "interrupted", "due", "timed out", "unfinished"

_OPEN = {Kind.SLEEP: SLEEPING, Kind.WAIT: WAITING, Kind.STEP: RETRYING}


@dataclass(frozen=True, slots=True)
class OpenWait:
    """An open timer. `held`: its run is paused, parked or has failed, so it does not act until that goes on."""

    step: str
    kind: str
    event: str | None
    key: str | None
    due_at: datetime | None
    held: bool

    def words(self, now: datetime, attempt: int = 0, most: int | None = None) -> str:
        """What it is for and when it acts: "wakes in 2 h 14 min"; of another attempt, which of how many it is."""
        of = f" of {most}" if most is not None else ""
        if self.kind == Kind.WAIT:
            words = f'waits for event "{self.event}"' + (f' with key "{self.key}"' if self.key is not None else "")
            words += f", times out {when(self.due_at, now)}" if self.due_at is not None else ""
        else:
            said = {
                Kind.SLEEP: "wakes", Kind.START: "starts", Kind.DEADLINE: "deadline",
                Kind.RETRY: f"attempt {attempt}{of}" if attempt else "next attempt", Kind.OUTAGE: "tried again",
            }  # fmt: skip
            words = f"{said.get(self.kind, self.kind)} {when(self.due_at, now) if self.due_at else ''}".rstrip()
        return f"{words} (held)" if self.held else words


@dataclass(frozen=True, slots=True)
class Row:
    """A step, sleep or wait of the run, or (kind `now`) a moment it has asked for.

    `state`: completed, failed, timed out, running, interrupted, retrying, sleeping, waiting, due, or unfinished where
    the run has ended before it. `began` of a step is its first attempt's. `errors`: its failed attempts, oldest first.
    """

    name: str
    kind: str
    state: str
    attempts: int
    began: datetime | None
    ended: datetime | None
    errors: tuple[ShownError, ...] = ()
    wait: OpenWait | None = None
    #: Stored text; `result` shows it. Not loaded unless `load` was asked for results.
    stored: str | None = field(default=None, repr=False)

    @property
    def result(self) -> Shown | None:
        """What it returned, or the payload that the wait has read."""
        return display.shown(self.stored, self.name)


@dataclass(frozen=True, slots=True)
class Message:
    """An event: sent to this run, or a broadcast that it has read."""

    name: str
    key: str | None
    sent_at: datetime
    broadcast: bool
    consumed_by: str | None
    consumed_at: datetime | None
    workflow: str
    stored: str = field(repr=False)

    @property
    def payload(self) -> Shown:
        return display.payload(self.stored, self.name, self.consumed_by, self.workflow)


@dataclass(frozen=True, slots=True)
class Activity:
    """What the run's worker last said: the step being called, and since when, up to one heartbeat late.

    `blocks`: where the code stands that keeps the worker's event loop from turning, if this run's does.
    """

    step: str | None = None
    attempt: int = 1
    since: datetime | None = None
    timeout: float | None = None
    blocks: str = ""


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run at the moment `now`. `left_out`: older rows that were not loaded, `unread_left_out`: unread events."""

    run: WorkflowRun
    now: datetime
    rows: tuple[Row, ...]
    waits: tuple[OpenWait, ...]
    messages: tuple[Message, ...]
    activity: Activity | None
    progress: Progress | None
    left_out: int = 0
    unread_left_out: int = 0
    #: Calls since its last stored record that ended with their worker, as far as their step is known.
    cut_off: tuple[CutOff, ...] = ()

    @property
    def label(self) -> str:
        """`name`, or `name@version`."""
        return f"{self.run.workflow}@{self.run.version}" if self.run.version else self.run.workflow

    @property
    def ends(self) -> datetime:
        """Its end, or now."""
        return self.run.finished_at or self.now

    @property
    def error(self) -> ShownError | None:
        return display.run_error(self.run.error, self.run.workflow)

    @property
    def arguments(self) -> Shown:
        return display.arguments(self.run.arguments, self.run.workflow)

    @property
    def result(self) -> Shown | None:
        return display.shown(self.run.result, self.run.workflow)

    @property
    def silent_for(self) -> float | None:
        """Seconds for which the run's worker was not heard of, if that is longer than its lease; infinite if its
        process is known to have ended."""
        worker = self.run.owner
        if self.run.owner_id is None:
            return None
        if worker is None or worker.state != WorkerState.ALIVE or host.is_gone(worker):
            return float("inf")
        silent = (self.now - worker.beat_at).total_seconds()
        return silent if silent > conf.get().lease_seconds else None


def load(run_id: UUID, *, results: bool = False, most: int = MOST_ROWS) -> Timeline:
    """The timeline of a run, as of now; RunNotFound if there is none. `results`: with what its steps returned."""
    alias = conf.get().database
    run = WorkflowRun.objects.using(alias).select_related("owner").filter(id=run_id).first()
    if run is None:
        raise RunNotFound(f"there is no run {run_id}")
    records = _records(alias, run_id, results, most)
    waits = _waits(alias, run_id)
    messages, unread_left_out = _messages(alias, run, records, most)
    said = _said(run)
    activity, cut_off = _activity(said), cutoffs.of(run)
    left_out = records[0].seq - 1 if len(records) == most else 0
    return Timeline(
        run=run, now=clock.now(), rows=tuple(_rows(run, records, waits, activity, cut_off)), waits=waits,
        messages=messages, activity=activity, progress=said.get("progress") or _decoded(run.progress),
        left_out=left_out, unread_left_out=unread_left_out, cut_off=cut_off,
    )  # fmt: skip


def first_waits(alias: str, run_ids: Sequence[UUID]) -> dict[UUID, OpenWait]:
    """The wait of each of these runs that is due first, deadlines aside; for lists."""
    timers = Timer.objects.using(alias).filter(run_id__in=run_ids).exclude(FORSAKEN).exclude(kind=Kind.DEADLINE)
    found: dict[UUID, OpenWait] = {}
    for timer in timers.order_by("id"):
        wait = _open_wait(timer)
        known = found.get(timer.run_id)
        if known is None or _due_first(wait) < _due_first(known):
            found[timer.run_id] = wait
    return found


def _records(alias: str, run_id: UUID, results: bool, most: int) -> Sequence[StepRecord]:
    records = StepRecord.objects.using(alias).filter(run_id=run_id).order_by("-seq")
    return list(records if results else records.defer("result"))[:most][::-1]


def _waits(alias: str, run_id: UUID) -> tuple[OpenWait, ...]:
    timers = Timer.objects.using(alias).filter(run_id=run_id).exclude(FORSAKEN).order_by("id")
    return tuple(sorted(map(_open_wait, timers), key=_due_first))


def _open_wait(timer: Timer) -> OpenWait:
    return OpenWait(timer.step, timer.kind, timer.event, timer.key, timer.due_at, timer.held)


def _due_first(wait: OpenWait) -> tuple[bool, datetime]:
    return wait.due_at is None, wait.due_at or datetime.max.replace(tzinfo=UTC)


def _messages(
    alias: str, run: WorkflowRun, records: Sequence[StepRecord], most: int
) -> tuple[tuple[Message, ...], int]:
    """What it has read, and the last of what it has not; how many of those are left out.

    Each answered by an index: none has the events that a run has read, but its records name them.
    """
    events = Event.objects.using(alias)
    waiting = events.filter(run_id=run.id, consumed_at=None)
    unread = list(waiting.order_by("-id")[:most])
    left_out = waiting.count() - most if len(unread) == most else 0
    read_by = {record.event_id: record for record in records if record.event_id is not None}
    read = events.filter(id__in=list(read_by)) if read_by else ()
    found = {event.id: event for event in chain(unread, read)}
    return tuple(_message(found[key], read_by.get(key), run.workflow) for key in sorted(found)), max(left_out, 0)


def _message(event: Event, reader: StepRecord | None, workflow: str) -> Message:
    return Message(
        name=event.name, key=event.key, sent_at=event.created_at, broadcast=event.run_id is None,
        consumed_by=reader.name if reader is not None else None,
        consumed_at=reader.finished_at if reader is not None else None,
        workflow=workflow, stored=event.payload,
    )  # fmt: skip


# -- what the worker says --------------------------------------------------------------------------


def _said(run: WorkflowRun) -> dict[str, Any]:
    if run.owner is None or run.owner.state != WorkerState.ALIVE or run.state not in (RUNNING, STOPPING):
        return {}
    said: dict[str, Any] = json.loads(run.owner.activity).get(str(run.id), {})
    return said


def _activity(said: dict[str, Any]) -> Activity | None:
    blocks = (said.get("blocks") or {}).get("at", "")
    if not said.get("step") and not blocks:
        return None
    since = datetime.fromisoformat(said["since"]) if said.get("since") else None
    return Activity(said.get("step"), said.get("attempt", 1), since, said.get("timeout"), blocks)


def _decoded(progress: str | None) -> Progress | None:
    try:
        return codec.loads(progress) if progress else None
    except NotDecodable:
        return None


# -- rows ------------------------------------------------------------------------------------------


def _rows(
    run: WorkflowRun,
    records: Sequence[StepRecord],
    waits: Sequence[OpenWait],
    activity: Activity | None,
    cut_off: Sequence[CutOff],
) -> Iterator[Row]:
    open_waits = {wait.step: wait for wait in waits if wait.step}
    called = activity.step if activity is not None else None
    for record in records:
        wait = open_waits.get(record.name) if record.state == RecordState.OPEN else None
        yield Row(
            name=record.name, kind=record.kind, state=_state(run, record, called), attempts=record.attempts,
            began=record.started_at, ended=record.finished_at, wait=wait,
            errors=tuple(display.step_errors(record.errors, record.name)),
            stored=record.__dict__.get("result"),
        )  # fmt: skip
    if activity is not None and called is not None and all(record.name != called for record in records):
        yield Row(called, Kind.STEP, CALLED, activity.attempt, activity.since, None)
    for step, cut in {cut.step: cut for cut in cut_off}.items():
        if step != called and all(record.name != step for record in records):
            yield Row(step, Kind.STEP, INTERRUPTED, cut.attempt, cut.since or cut.at, cut.at)


def _state(run: WorkflowRun, record: StepRecord, called: str | None) -> str:
    if record.state == RecordState.COMPLETED:
        return RecordState.COMPLETED
    if record.state == RecordState.FAILED:
        return TIMED_OUT if record.kind == Kind.WAIT else RecordState.FAILED
    if record.name == called:
        return CALLED
    if run.state in ENDED:
        return UNFINISHED
    if record.state == RecordState.STARTED:
        return CALLED if run.state in (RUNNING, STOPPING) and run.owner_id is not None else INTERRUPTED
    return DUE if record.state == RecordState.DUE else _OPEN.get(record.kind, record.state)


# -- in words --------------------------------------------------------------------------------------


def when(moment: datetime, now: datetime) -> str:
    """`in 2 h 14 min`, `3 d 4 h ago`, `now`."""
    seconds = (moment - now).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"in {span(seconds)}" if seconds > 0 else f"{span(-seconds)} ago"


def ago(moment: datetime, now: datetime) -> str:
    """A moment that has passed, in one unit, for lists: `3 min ago`."""
    seconds = max((now - moment).total_seconds(), 0)
    for unit, size, _, _ in UNITS:
        if seconds >= size:
            return f"{int(seconds / size):,} {unit} ago"
    return f"{seconds:.0f} s ago"
