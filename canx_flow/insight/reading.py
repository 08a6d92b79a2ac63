"""What is stored of runs and workers, read in one place for every view of it.

Open waits, failing steps, what workers report with their heartbeats, how long workers are silent and runs have taken.
`status()`, the timeline, the lists of admin and terminal, and `flowhealth` call these; none reads those columns itself.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.models import F, QuerySet

from .. import conf
from ..core import codec, naming
from ..core.durations import when
from ..core.limits import FULL, bucket_of
from ..core.options import Progress
from ..exceptions import NotDecodable
from ..models import StepRecord, Timer, Worker, WorkflowRun
from ..models.conditions import of_runs
from ..states import FAILED, NO_WAITS, RUNNING, STOPPING, Kind, RecordState, WorkerState
from ..store.timers import FORSAKEN
from . import display
from .display import ShownError

_IDS = 500  # in one statement


# -- failing steps ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failing:
    """A step that has failed and is tried again. `attempt`: the next one; `most`: of how many, if that is limited."""

    step: str
    attempt: int
    most: int | None
    error: ShownError | None


def failing_step(name: str, attempts: int, error: ShownError | None) -> Failing:
    """Return what is known of a step with so many failed attempts, the last of which ended with `error`."""
    return Failing(name, attempts + 1, error.max_attempts if error is not None else None, error)


def failing_record(record: StepRecord, *, concealed: bool = False) -> Failing:
    """Return the same from the step's record, as `open_steps` reads it; `concealed`: without what the error says."""
    workflow: str = record.of_workflow  # type: ignore[attr-defined]
    error = display.last_error(record.errors, workflow, record.name, concealed=concealed)
    return failing_step(record.name, record.attempts, error)


def failing(alias: str, waits: Mapping[UUID, OpenWait], *, concealed: bool = False) -> dict[UUID, Failing]:
    """Read the failing step of each of these runs that waits for another attempt of one; for lists."""
    steps = {run_id: wait.step for run_id, wait in waits.items() if wait.kind == Kind.RETRY}
    ids = list(steps)
    found: dict[UUID, Failing] = {}
    for start in range(0, len(ids), _IDS):
        # Rows come a few at a time, because the errors of a single step may be megabytes.
        for record in open_steps(alias, ids[start : start + _IDS]).iterator(chunk_size=20):
            if steps[record.run_id] == record.name:
                found[record.run_id] = failing_record(record, concealed=concealed)
    return found


def open_steps(alias: str, run_ids: Collection[UUID]) -> QuerySet[StepRecord]:
    """Return the records of the steps of these runs that have failed and are tried again."""
    tried_again = {"kind__in": (Kind.STEP, Kind.UNDO, Kind.DELEGATE), "state": RecordState.OPEN}
    records = StepRecord.objects.using(alias).filter(of_runs(run_ids), **tried_again)
    return records.only("run_id", "name", "attempts", "errors", "started_at").annotate(of_workflow=F("run__workflow"))


def age(since: datetime, now: datetime) -> float:
    """Return for how many seconds something is so."""
    return max((now - since).total_seconds(), 0.0)


def next_attempt(run: WorkflowRun, step: str) -> int:
    """Return the number of the attempt of this step that comes next."""
    records = StepRecord.objects.using(run._state.db).filter(run_id=run.id, name=step)
    return 1 + (records.values_list("attempts", flat=True).first() or 0)


# -- open waits ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenWait:
    """An open timer. `held`: its run is paused, parked or has failed, so it does not act until that goes on.

    Of one for a limit `event` is the limit's name, and without `due_at` that has no place for it.
    """

    step: str
    kind: str
    event: str | None
    key: str | None
    due_at: datetime | None
    held: bool

    @property
    def child(self) -> UUID | None:
        """The child whose end it waits for."""
        return naming.child_of(self.event)

    def words(self, now: datetime, failing: Failing | None = None) -> str:
        """Return what it is for and when it acts: "wakes in 2 h 14 min"; with `failing`, which attempt of how many."""
        if self.kind == Kind.CANCEL_ON:
            # Also while it is held.
            return f'cancelled by event "{self.event}"' + (f' with key "{self.key}"' if self.key is not None else "")
        if self.kind == Kind.START and self.child is not None:
            words = f"starts once run {self.child} has ended"
        elif self.kind == Kind.CALL:
            words = f"waits for child {self.child}"
        elif self.kind == Kind.DELEGATE:
            words = f"waits for {self.key}"
        elif self.kind == Kind.WAIT:
            words = f'waits for event "{self.event}"' + (f' with key "{self.key}"' if self.key is not None else "")
            words += f", times out {when(self.due_at, now)}" if self.due_at is not None else ""
        elif self.kind == Kind.LIMIT:
            words = f'waits for limit "{self.event}"' + (f' with key "{self.key}"' if self.key is not None else "")
            words += f", begins {when(self.due_at, now)}" if self.due_at is not None else ", which is full"
        else:
            of = f" of {failing.most}" if failing is not None and failing.most is not None else ""
            words = {
                Kind.SLEEP: "wakes", Kind.START: "starts", Kind.DEADLINE: "deadline", Kind.OUTAGE: "tried again",
                Kind.CANCEL: "its parent was stopped: cancelled", Kind.EXPIRE: "cancelled, unless it has started,",
                Kind.RETRY: f"attempt {failing.attempt}{of}" if failing is not None else "next attempt",
            }.get(self.kind, self.kind)  # fmt: skip
            words = f"{words} {when(self.due_at, now) if self.due_at else ''}".rstrip()
        return f"{words} (held)" if self.held else words


def waits(run: WorkflowRun) -> tuple[OpenWait, ...]:
    """Read the open waits of a run, its deadline included, the one that is due first first."""
    timers = _timers(run._state.db, [run.id])
    return tuple(sorted(map(_open_wait, timers), key=_due_first))


def open_waits(alias: str, run_ids: Sequence[UUID]) -> dict[UUID, list[OpenWait]]:
    """Read the open waits of each of these runs, as `waits` does of one; one query."""
    found: dict[UUID, list[OpenWait]] = {}
    for timer in _timers(alias, run_ids) if run_ids else ():
        found.setdefault(timer.run_id, []).append(_open_wait(timer))
    return {run_id: sorted(waits, key=_due_first) for run_id, waits in found.items()}


def first_waits(alias: str, run_ids: Sequence[UUID]) -> dict[UUID, OpenWait]:
    """Read the wait of each of these runs that is due first, deadlines aside; for lists."""
    found: dict[UUID, OpenWait] = {}
    for timer in _timers(alias, run_ids).exclude(kind__in=NO_WAITS):
        wait = _open_wait(timer)
        known = found.get(timer.run_id)
        if known is None or _due_first(wait) < _due_first(known):
            found[timer.run_id] = wait
    return found


def _timers(alias: str | None, run_ids: Collection[UUID]) -> QuerySet[Timer]:
    return Timer.objects.using(alias).filter(of_runs(run_ids)).exclude(FORSAKEN).exclude(kind=Kind.FREED).order_by("id")


def _open_wait(timer: Timer) -> OpenWait:
    if timer.kind == Kind.LIMIT:
        name, key = bucket_of(timer.event, timer.key) or ("", "")
        # Until when it asks for itself is nothing to be told.
        due_at = None if (timer.event or "").startswith(FULL) else timer.due_at
        return OpenWait(timer.step, timer.kind, name, key or None, due_at, timer.held)
    return OpenWait(timer.step, timer.kind, timer.event, timer.key, timer.due_at, timer.held)


def _due_first(wait: OpenWait) -> tuple[bool, datetime]:
    return wait.due_at is None, wait.due_at or datetime.max.replace(tzinfo=UTC)


# -- what workers report ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker last reported of a run: the step being called, and since when, up to one heartbeat late.

    `blocks_at`: where the code stands that keeps the worker's event loop from turning, if this run's does.
    """

    step: str | None = None
    attempt: int = 1
    since: datetime | None = None
    timeout: float | None = None
    blocks_at: str = ""
    blocks_since: datetime | None = None
    progress: Progress | None = None


def reports(worker: Worker) -> dict[UUID, Report]:
    """Return the last report of a worker on each of its runs."""
    return _reports(worker.activity)


def report(run: WorkflowRun) -> Report | None:
    """Return what the run's live worker last reported of it; the run is loaded with its owner."""
    if run.owner is None or run.owner.state != WorkerState.ALIVE or not is_owned(run):
        return None
    said = json.loads(run.owner.activity).get(str(run.id))
    return _report(said) if said is not None else None


def is_owned(run: WorkflowRun) -> bool:
    """Tell whether a worker has the run in hand, so that the worker's report says where it stands."""
    return run.state in (RUNNING, STOPPING) and run.owner_id is not None


def _reports(activity: str) -> dict[UUID, Report]:
    return {UUID(run_id): _report(said) for run_id, said in json.loads(activity).items()}


def _report(said: Mapping[str, Any]) -> Report:
    """Read one entry; workers of the version before, which go on during an update, leave some out."""
    blocks = said.get("blocks") or {}
    return Report(
        step=said.get("step"), attempt=said.get("attempt", 1), since=_moment(said.get("since")),
        timeout=said.get("timeout"), blocks_at=blocks.get("at", ""), blocks_since=_moment(blocks.get("since")),
        progress=said.get("progress"),
    )  # fmt: skip


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


# -- workers that are silent -----------------------------------------------------------------------


def heartbeat_age(worker: Worker, now: datetime) -> float:
    """Return for how many seconds the worker was not heard of."""
    return max(0.0, (now - worker.beat_at).total_seconds())


def is_silent(worker: Worker, now: datetime, allowed: float | None = None) -> bool:
    """Tell whether a worker that is said to be alive was silent for more than `allowed` seconds (LEASE_SECONDS)."""
    lease = conf.get().lease_seconds if allowed is None else allowed
    return worker.state == WorkerState.ALIVE and heartbeat_age(worker, now) > lease


# -- the run's own row -----------------------------------------------------------------------------


def children(run: WorkflowRun, most: int) -> list[WorkflowRun]:
    """Read the last children of a run, newest first."""
    born = WorkflowRun.objects.using(run._state.db).filter(parent_id=run.id).order_by("-id")
    return list(born.only("id", "workflow", "version", "state")[:most])


def forks(run: WorkflowRun, most: int) -> list[UUID]:
    """Read the last runs that were forked from a run, newest first."""
    made = WorkflowRun.objects.using(run._state.db).filter(forked_from_id=run.id).order_by("-id")
    return list(made.values_list("id", flat=True)[:most])


def duration(run: WorkflowRun, now: datetime) -> float | None:
    """Return the seconds from a run's first claim to its end, or until now; `None` if no worker has claimed it."""
    return None if run.started_at is None else max(((run.finished_at or now) - run.started_at).total_seconds(), 0.0)


def error(run: WorkflowRun, *, concealed: bool = False) -> ShownError | None:
    """Return what a failed run has failed with; `concealed`: without what the error says."""
    return display.run_error(run.error, run.workflow, concealed=concealed) if run.state == FAILED else None


def progress(run: WorkflowRun, reported: Report | None) -> Progress | None:
    """Return the run's progress: what its worker reported last, else what is stored."""
    if reported is not None and reported.progress:
        return reported.progress
    try:
        return codec.loads(run.progress) if run.progress else None
    except NotDecodable:
        return None  # Damaged. It is for people only: no reason to show nothing else.


def errors(alias: str, runs: Sequence[WorkflowRun], *, concealed: bool = False) -> dict[UUID, ShownError | None]:
    """Read what each of these failed runs has failed with, for lists that do not load it: it holds tracebacks."""
    workflows = {run.id: run.workflow for run in runs}
    if not workflows:
        return {}
    stored = WorkflowRun.objects.using(alias).filter(id__in=list(workflows)).values_list("id", "error")
    return {run_id: display.run_error(text, workflows[run_id], concealed=concealed) for run_id, text in stored}
