"""The rows of a timeline: what each of a run's records says, and what its worker does now. Called by `timeline`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from ..models import StepRecord, WorkflowRun
from ..states import ENDED, Kind, RecordState
from . import display, reading, stored
from .cutoffs import CutOff
from .display import Shown, ShownError
from .names import RunNames
from .reading import OpenWait, Report
from .redaction import Names
from .stored import Stored

# What a row says of itself beside the words of RecordState. For people, so "timed out" is two words.
SLEEPING, WAITING, RETRYING = "sleeping", "waiting", "retrying"
CALLED, INTERRUPTED, DUE, TIMED_OUT, UNFINISHED = "running", "interrupted", "due", "timed out", "unfinished"

_OPEN = {
    Kind.SLEEP: SLEEPING, Kind.WAIT: WAITING, Kind.CALL: WAITING, Kind.STEP: RETRYING, Kind.UNDO: RETRYING,
    Kind.DELEGATE: WAITING,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """A step, sleep, wait or call of the run; a moment that `ctx.now` has recorded (kind `now`), a True that
    `ctx.patched` has (`patch`); or what was decided over branches (`gather`, `race`) or the items of a `map`.

    `state`: completed, failed, timed out, running, interrupted, retrying, sleeping, waiting, due, unfinished where the
    run has ended before it, open (a map whose items are not over), closed (its branch has lost). `began` of a step is
    its first attempt's. `errors`: its failed attempts, oldest first.
    """

    name: str
    kind: str
    state: str
    attempts: int
    began: datetime | None
    ended: datetime | None
    errors: tuple[ShownError, ...] = ()
    wait: OpenWait | None = None
    #: The run that a call waits for, or has waited for.
    child: UUID | None = None
    #: The number of its record, if it has one.
    id: int | None = None
    #: `result` shows it. Not loaded unless `load` was asked for results.
    stored: Stored | None = field(default=None, repr=False)
    #: Under which `REDACT` is asked for it.
    names: Names | None = None

    @property
    def result(self) -> Shown | None:
        """What it returned, or the payload that the wait has read."""
        return display.excerpt(self.stored, self.names)

    def duration(self, until: datetime | None = None) -> float | None:
        """Return the seconds from its first attempt to its end, else to `until`; `None` if there is neither."""
        ended = self.ended or until
        return None if self.began is None or ended is None else max((ended - self.began).total_seconds(), 0.0)


def rows_of(run: WorkflowRun, records: Sequence[StepRecord]) -> Sequence[Row]:
    """Return the rows of some records of a run of which nothing else was read."""
    return list(make(run, records, (), None, (), {}, RunNames(run.workflow, concealed=True)))


def make(
    run: WorkflowRun,
    records: Sequence[StepRecord],
    waits: Sequence[OpenWait],
    report: Report | None,
    cut_off: Sequence[CutOff],
    called_children: Mapping[int, UUID],
    whose: RunNames,
) -> Iterator[Row]:
    open_waits = {wait.step: wait for wait in waits if wait.step}
    called = report.step if report is not None else None
    began: datetime | None
    undone_at: datetime | None = None
    # An undo that is done has a newer number than those that are left, and was called before them.
    for record in sorted(records, key=lambda record: record.kind == Kind.UNDO and record.finished_at is None):
        began = record.started_at
        if record.kind == Kind.UNDO:  # Made with all others; called when the one before has ended.
            began = max(filter(None, (began, undone_at)), default=None)
            undone_at = record.finished_at
        wait = open_waits.get(record.name) if record.state == RecordState.OPEN else None
        yield Row(
            id=record.id, name=record.name, kind=record.kind, state=_state(run, record, called, wait),
            attempts=record.attempts, began=began, ended=record.finished_at, wait=wait,
            errors=tuple(display.step_errors(record.errors, run.workflow, record.name, concealed=whose.concealed)),
            child=wait.child if wait is not None else called_children.get(record.event_id or 0),
            # Of a call that is not completed it names the child.
            stored=stored.of_row(record, "result") if record.state == RecordState.COMPLETED else None,
            names=whose.of_record(record),
        )  # fmt: skip
    yield from _unrecorded({record.name for record in records}, report, cut_off)


def _unrecorded(recorded: Collection[str], report: Report | None, cut_off: Sequence[CutOff]) -> Iterator[Row]:
    """Yield a row for the step that is being called, and for each that was cut off, where they have no record."""
    called = report.step if report is not None else None
    if report is not None and called is not None and called not in recorded:
        yield Row(called, Kind.STEP, CALLED, report.attempt, report.since, None)
    for step, cut in {cut.step: cut for cut in cut_off}.items():
        if step != called and step not in recorded:
            yield Row(step, Kind.STEP, INTERRUPTED, cut.attempt, cut.since or cut.at, cut.at)


def _state(run: WorkflowRun, record: StepRecord, called: str | None, wait: OpenWait | None) -> str:
    if record.state == RecordState.COMPLETED:
        return RecordState.COMPLETED
    if record.state == RecordState.FAILED:
        return TIMED_OUT if record.kind == Kind.WAIT else RecordState.FAILED
    if record.state == RecordState.CLOSED:
        return RecordState.CLOSED
    if record.name == called:
        return CALLED
    if run.state in ENDED:
        return UNFINISHED
    if record.kind == Kind.MAP:
        return RecordState.OPEN
    if record.state == RecordState.STARTED:
        return CALLED if reading.is_owned(run) else INTERRUPTED
    if wait is not None and wait.kind == Kind.LIMIT:
        return WAITING
    if wait is not None and wait.kind == Kind.RETRY:
        return RETRYING
    return DUE if record.state == RecordState.DUE else _OPEN.get(record.kind, record.state)
