"""One run as people follow it: what it did and when, what it waits for, what was sent to it.

`load` makes a constant number of queries. Called by `flow show`, the admin and the demo, which draw it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from .. import conf
from ..core import clock, naming
from ..core.naming import label
from ..core.options import Progress
from ..exceptions import RunNotFound
from ..models import StepRecord, WorkflowRun
from ..states import COMPLETED, ENDED, NO_WAITS, Kind, RecordState, WorkerState
from ..store import host
from . import cutoffs, display, history, messages, names, reading, stored, windows
from . import rows as making
from .cutoffs import CutOff
from .display import Shown, ShownError
from .history import Entry
from .messages import Message
from .names import RunNames
from .reading import Failing, OpenWait, Report
from .rows import Row
from .why import Why, why
from .windows import Wanted, Window

#: Rows of a timeline: a workflow that loops for months has more, and its last ones are what matters.
MOST_ROWS = 1000
#: Forks and children of a run that are named.
MOST_FORKS = MOST_CHILDREN = 20


@dataclass(frozen=True, slots=True)
class Relatives:
    """The runs that have come of this one."""

    #: The last children, newest first, and one more if there are more.
    born: tuple[WorkflowRun, ...] = ()
    #: The runs that were forked from it, the newest first; of many the last ones.
    forks: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run at the moment `now`. `window`: which of its rows these are; `unread_left_out`: events not loaded.

    What came from the run's code is read through this, never from `run`: so it has gone through `REDACT`, and is
    hidden from those who may not see payloads.
    """

    run: WorkflowRun
    now: datetime
    rows: tuple[Row, ...]
    waits: tuple[OpenWait, ...]
    messages: tuple[Message, ...]
    report: Report | None
    why: Why
    window: Window
    unread_left_out: int = 0
    relatives: Relatives = Relatives()
    #: Calls since its last stored record that ended with their worker, as far as their step is known.
    cut_off: tuple[CutOff, ...] = ()
    #: What was done to it, newest first, and one more if there is more.
    history: tuple[Entry, ...] = ()
    #: Whether values, errors, attributes and progress may be seen.
    payloads: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """`name`, or `name@version`."""
        return label(self.run.workflow, self.run.version)

    @property
    def ends(self) -> datetime:
        """Its end, or now."""
        return self.run.finished_at or self.now

    @property
    def left_out(self) -> int:
        """How many older rows were not loaded."""
        return self.window.first - 1

    @property
    def forks(self) -> tuple[UUID, ...]:
        """The runs that were forked from it, the newest first; of many the last ones."""
        return self.relatives.forks

    @property
    def children(self) -> tuple[WorkflowRun, ...]:
        """Its last children, oldest first."""
        return self.relatives.born[:MOST_CHILDREN][::-1]

    @property
    def children_left_out(self) -> bool:
        """Whether there are older ones."""
        return len(self.relatives.born) > MOST_CHILDREN

    @property
    def suspended_on(self) -> tuple[OpenWait, ...]:
        """Its open waits without the deadline, the one that is due first first."""
        return tuple(wait for wait in self.waits if wait.kind not in NO_WAITS)

    @property
    def undo_left(self) -> int:
        """How many undo steps a run has left whose end is decided; the one under way is one of them."""
        over = (RecordState.COMPLETED, RecordState.FAILED)
        left = sum(row.kind == Kind.UNDO and row.state not in over for row in self.rows)
        return left if self.run.ending and self.run.state not in ENDED else 0

    @property
    def progress(self) -> Progress | None:
        """How far it is; what a completed run has said of that is over."""
        if self.run.state == COMPLETED:
            return None
        return display.progress(reading.progress(self.run, self.report), self.names.progress)

    @property
    def error(self) -> ShownError | None:
        """Why it has failed, or is parked."""
        return display.run_error(self.run.error, self.run.workflow, concealed=not self.payloads)

    @property
    def names(self) -> RunNames:
        """The names under which `REDACT` is asked for the run's own values."""
        return RunNames(self.run.workflow, concealed=not self.payloads)

    @property
    def arguments(self) -> Shown:
        """What it was started with."""
        return display.arguments(self.run.arguments, self.names.arguments)

    @property
    def result(self) -> Shown | None:
        """What the workflow returned."""
        return display.shown(self.run.result, self.names.result)

    @property
    def attributes(self) -> Shown | None:
        """What the workflow has tagged itself with."""
        return display.value(self.run.attributes, self.names.attributes) if self.run.attributes else None

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


class ConcealedTimeline(Timeline):
    """The same for those who may not see payloads."""

    __slots__ = ()
    payloads = False


def load(
    run_id: UUID,
    *,
    results: bool = False,
    characters: int | None = None,
    most: int = MOST_ROWS,
    actor: str = "",
    wanted: Wanted | None = None,
    payloads: bool = True,
) -> Timeline:
    """Read the timeline of a run, as of now; RunNotFound if there is none. `results`: with what its steps returned.

    `characters`: of each result and payload no more than so many, and the rest once it is asked for. `actor`: whose
    entries of the history, `people` or `engine`; all without. `wanted`: one page of its steps, in place of the last
    `most`, and what their results begin with. Without `payloads`, no value, error, attribute or progress of the run can
    be had from it.
    """
    alias = conf.get().database
    run = WorkflowRun.objects.using(alias).select_related("owner").filter(id=run_id).first()
    if run is None:
        raise RunNotFound(f"there is no run {run_id}")
    if wanted is not None:
        window = windows.read(alias, run, wanted, characters or display.LIMIT)
    else:
        window = windows.last(_records(alias, run_id, results, characters, most), most)
    records, large = window.records, stored.LARGE if wanted is not None else None
    waits = reading.waits(run)
    events, unread_left_out = messages.events(alias, run, records, characters, most, large)
    called = {key: child for key, event in events.items() if (child := naming.child_of(event.name)) is not None}
    whose = RunNames(run.workflow, not payloads, events, names.workflows_of(alias, set(called.values())))
    report, cut_off = reading.report(run), cutoffs.of(run)
    said = why(run, waits=waits, cut_off=cut_off)
    told = messages.of(records, events, whose)
    done = history.whole(run, told, actor)
    return (Timeline if payloads else ConcealedTimeline)(
        run=run, now=clock.now(), waits=waits,
        rows=tuple(making.make(run, records, waits, report, cut_off, called, whose)),
        messages=told, report=report, why=said if payloads else said.without_payloads(),
        unread_left_out=unread_left_out, cut_off=cut_off,
        relatives=Relatives(tuple(reading.children(run, MOST_CHILDREN + 1)), tuple(reading.forks(run, MOST_FORKS))),
        history=done if payloads else history.without_reasons(done), window=window,
    )  # fmt: skip


def _records(alias: str, run_id: UUID, results: bool, characters: int | None, most: int) -> Sequence[StepRecord]:
    records = StepRecord.objects.using(alias).filter(run_id=run_id).order_by("-seq")
    if not results:
        records = records.defer("result")
    elif characters is not None:
        records = stored.beginnings(records, "result", characters)
    return list(records[:most])[::-1]
