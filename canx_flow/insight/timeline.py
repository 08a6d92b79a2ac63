"""One run as people follow it: what it did and when, what it waits for, what was sent to it.

`load` makes a constant number of queries. Called by `flow show`, the admin and the demo, which draw it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from .. import conf
from ..core import clock, naming
from ..core.naming import label
from ..core.options import Progress
from ..exceptions import RunNotFound
from ..models import StepRecord, WorkflowRun
from ..states import ENDED, Kind, RecordState, WorkerState
from ..store import host
from . import cutoffs, display, messages, reading, stored
from .cutoffs import CutOff
from .display import Shown, ShownError
from .messages import Message
from .reading import Failing, OpenWait, Report
from .stored import Stored

#: Rows of a timeline: a workflow that loops for months has more, and its last ones are what matters.
MOST_ROWS = 1000
#: Forks of a run that are named.
MOST_FORKS = 20
MOST_CHILDREN = 20

# What a row says of itself beside the words of RecordState. For people, so "timed out" is two words.
SLEEPING, WAITING, RETRYING = "sleeping", "waiting", "retrying"
CALLED, INTERRUPTED, DUE, TIMED_OUT, UNFINISHED = "running", "interrupted", "due", "timed out", "unfinished"

_OPEN = {
    Kind.SLEEP: SLEEPING, Kind.WAIT: WAITING, Kind.CALL: WAITING, Kind.STEP: RETRYING, Kind.UNDO: RETRYING,
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
    #: `result` shows it. Not loaded unless `load` was asked for results.
    stored: Stored | None = field(default=None, repr=False)

    @property
    def result(self) -> Shown | None:
        """What it returned, or the payload that the wait has read."""
        return display.excerpt(self.stored, self.name)

    def duration(self, until: datetime | None = None) -> float | None:
        """Return the seconds from its first attempt to its end, else to `until`; `None` if there is neither."""
        ended = self.ended or until
        return None if self.began is None or ended is None else max((ended - self.began).total_seconds(), 0.0)


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run at the moment `now`. `left_out`: older rows that were not loaded, `unread_left_out`: unread events."""

    run: WorkflowRun
    now: datetime
    rows: tuple[Row, ...]
    waits: tuple[OpenWait, ...]
    messages: tuple[Message, ...]
    report: Report | None
    progress: Progress | None
    left_out: int = 0
    unread_left_out: int = 0
    #: The last children, newest first, and one more if there are more.
    born: tuple[WorkflowRun, ...] = ()
    #: Calls since its last stored record that ended with their worker, as far as their step is known.
    cut_off: tuple[CutOff, ...] = ()
    #: The runs that were forked from it, the newest first; of many the last ones.
    forks: tuple[UUID, ...] = ()

    @property
    def label(self) -> str:
        """`name`, or `name@version`."""
        return label(self.run.workflow, self.run.version)

    @property
    def ends(self) -> datetime:
        """Its end, or now."""
        return self.run.finished_at or self.now

    @property
    def children(self) -> tuple[WorkflowRun, ...]:
        """Its last children, oldest first."""
        return self.born[:MOST_CHILDREN][::-1]

    @property
    def children_left_out(self) -> bool:
        """Whether there are older ones."""
        return len(self.born) > MOST_CHILDREN

    @property
    def suspended_on(self) -> tuple[OpenWait, ...]:
        """Its open waits without the deadline, the one that is due first first."""
        return tuple(wait for wait in self.waits if wait.kind != Kind.DEADLINE)

    @property
    def undo_left(self) -> int:
        """How many undo steps a run has left whose end is decided; the one under way is one of them."""
        over = (RecordState.COMPLETED, RecordState.FAILED)
        left = sum(row.kind == Kind.UNDO and row.state not in over for row in self.rows)
        return left if self.run.ending and self.run.state not in ENDED else 0

    @property
    def error(self) -> ShownError | None:
        """Why it has failed, or is parked."""
        return display.run_error(self.run.error, self.run.workflow)

    @property
    def arguments(self) -> Shown:
        """What it was started with."""
        return display.arguments(self.run.arguments, self.run.workflow)

    @property
    def result(self) -> Shown | None:
        """What the workflow returned."""
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
        return reading.heartbeat_age(worker, self.now) if reading.is_silent(worker, self.now) else None

    def failing(self, wait: OpenWait) -> Failing | None:
        """Return the failing step that waits for its next attempt."""
        row = next((row for row in self.rows if row.name == wait.step), None)
        if wait.kind != Kind.RETRY or row is None:
            return None
        return reading.failing_step(row.name, row.attempts, row.errors[-1] if row.errors else None)


def load(run_id: UUID, *, results: bool = False, characters: int | None = None, most: int = MOST_ROWS) -> Timeline:
    """Read the timeline of a run, as of now; RunNotFound if there is none. `results`: with what its steps returned.

    `characters`: of each result and payload no more than so many, and the rest once it is asked for.
    """
    alias = conf.get().database
    run = WorkflowRun.objects.using(alias).select_related("owner").filter(id=run_id).first()
    if run is None:
        raise RunNotFound(f"there is no run {run_id}")
    records = _records(alias, run_id, results, characters, most)
    waits = reading.waits(run)
    events, unread_left_out = messages.events(alias, run, records, characters, most)
    called = {key: child for key, event in events.items() if (child := naming.child_of(event.name)) is not None}
    report, cut_off = reading.report(run), cutoffs.of(run)
    left_out = records[0].seq - 1 if len(records) == most else 0
    return Timeline(
        run=run, now=clock.now(), rows=tuple(_rows(run, records, waits, report, cut_off, called)), waits=waits,
        messages=messages.of(run, records, events), report=report, progress=reading.progress(run, report),
        left_out=left_out, unread_left_out=unread_left_out, cut_off=cut_off, forks=tuple(_forks(alias, run)),
        born=tuple(reading.children(run, MOST_CHILDREN + 1)),
    )  # fmt: skip


def _forks(alias: str, run: WorkflowRun) -> Sequence[UUID]:
    forks = WorkflowRun.objects.using(alias).filter(forked_from_id=run.id).order_by("-id")
    return list(forks.values_list("id", flat=True)[:MOST_FORKS])


def _records(alias: str, run_id: UUID, results: bool, characters: int | None, most: int) -> Sequence[StepRecord]:
    records = StepRecord.objects.using(alias).filter(run_id=run_id).order_by("-seq")
    if not results:
        records = records.defer("result")
    elif characters is not None:
        records = stored.beginnings(records, "result", characters)
    return list(records[:most])[::-1]


# -- rows ------------------------------------------------------------------------------------------


def _rows(
    run: WorkflowRun,
    records: Sequence[StepRecord],
    waits: Sequence[OpenWait],
    report: Report | None,
    cut_off: Sequence[CutOff],
    called_children: Mapping[int, UUID],
) -> Iterator[Row]:
    open_waits = {wait.step: wait for wait in waits if wait.step}
    called = report.step if report is not None else None
    for record in records:
        wait = open_waits.get(record.name) if record.state == RecordState.OPEN else None
        yield Row(
            name=record.name, kind=record.kind, state=_state(run, record, called), attempts=record.attempts,
            began=record.started_at, ended=record.finished_at, wait=wait,
            errors=tuple(display.step_errors(record.errors, record.name)),
            child=wait.child if wait is not None else called_children.get(record.event_id or 0),
            # Of a call that is not completed it names the child.
            stored=stored.of_row(record, "result") if record.state == RecordState.COMPLETED else None,
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


def _state(run: WorkflowRun, record: StepRecord, called: str | None) -> str:
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
    return DUE if record.state == RecordState.DUE else _OPEN.get(record.kind, record.state)
