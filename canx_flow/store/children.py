"""What hangs on a run's start and end because it has a parent, or children.

Called by `transitions` at every end, by `writes` for what an activation starts and gives up, and by the verbs. Nothing
here locks the row of another run: a parent is told by an event, and a child is stopped by a timer that is due at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from django.db import connections
from django.db.models import QuerySet

from ..core import clock, codec, naming
from ..core.changes import Change, Start, Wait
from ..exceptions import RunTimedOut
from ..models import Event, StepRecord, Timer, WorkflowRun
from ..models.conditions import of_runs
from ..states import CANCELLED, COMPLETED, ENDED, FAILED, SLEEPING, STOPPING, UNFINISHED, Kind, RecordState
from . import attributes
from .db.databases import session_of
from .db.portable import Portable

#: Runs, or children of runs, in one statement.
_AT_ONCE = 500
#: Why a child was cancelled that a worker has stopped.
PARENT_STOPPED = "its parent was stopped, or goes on without it"
#: Runs that go on, and whose end is not decided.
GOING = tuple(state for state in UNFINISHED if state != STOPPING)


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class End:
    """The end of a child, for its parent: its state, and the text of its result, error or reason."""

    child: UUID
    parent: UUID
    state: str
    text: str


# -- their start -----------------------------------------------------------------------------------


def start(session: Portable, changes: Sequence[Change]) -> None:
    """Store the children that begin with these changes, many in one statement."""
    alike: dict[tuple[object, ...], list[Start]] = defaultdict(list)
    for change in changes:
        for begun in change.starts:
            alike[change.run_id, *begun.alike].append(begun)
    for starts in alike.values():
        for some in batches(starts):
            _insert(session, some)


def _insert(session: Portable, starts: Sequence[Start]) -> None:
    pattern, run_at = starts[0].run, starts[0].run_at
    if run_at is not None:
        pattern.state, pattern.ready = SLEEPING, False
    ids = [each.run.id for each in starts]
    session.insert_runs(pattern, ids, [each.run.arguments for each in starts])
    attributes.note(session, ids, pattern.attributes)
    if run_at is not None:
        session.insert_timers([(each.run.id, Wait("", Kind.START, run_at), False) for each in starts])


# -- their end -------------------------------------------------------------------------------------


def have_ended(alias: str, run_ids: Sequence[UUID]) -> None:
    """Tell the parents of these runs, which have ended in this transaction; stop the children of those cut short."""
    for some in batches(run_ids):
        ended = have_stopped(alias, some)
        born = [run.id for run in ended if run.parent_id is not None]
        told = WorkflowRun.objects.using(alias).filter(id__in=born) if born else ()
        tell(session_of(connections[alias]), [_end(child) for child in told])


def have_stopped(alias: str, run_ids: Sequence[UUID]) -> Sequence[WorkflowRun]:
    """Stop the children of those of these runs whose end was decided by a cancel or a deadline; return the runs."""
    runs = WorkflowRun.objects.using(alias).filter(id__in=run_ids)
    stopped = list(runs.only("id", "parent", "state", "ending", "reason"))
    stop_of(alias, [run.id for run in stopped if _is_cut_short(run)])
    return stopped


def _is_cut_short(run: WorkflowRun) -> bool:
    return CANCELLED in (run.state, run.ending) or run.reason == RunTimedOut.__name__


def _end(run: WorkflowRun) -> End:
    texts = {COMPLETED: run.result, FAILED: run.error, CANCELLED: codec.dumps_plain(run.reason)}
    assert run.parent_id is not None
    return End(run.id, run.parent_id, run.state, texts[run.state] or "null")


def tell(session: Portable, ends: Sequence[End]) -> None:
    """Store for each parent, and its forks, that its child has ended. They are woken after the commit."""
    if not ends:
        return
    alias = session.connection.alias
    listeners = _listeners(alias, {end.parent for end in ends})
    _send(alias, [(listener, end) for end in ends for listener in listeners[end.parent]])


def _send(alias: str, told: Sequence[tuple[UUID, End]]) -> None:
    now = clock.now()
    Event.objects.using(alias).bulk_create(
        Event(run_id=listener, name=naming.end_of(end.child), payload=_payload(end), created_at=now)
        for listener, end in told
    )


def _listeners(alias: str, parents: Collection[UUID]) -> dict[UUID, list[UUID]]:
    """Return who reads of the ends of each parent's children: itself, and forks that were given records of a call.

    All forks of one run, and forks of forks, have the same seed. None that reads no more; a failed one may be retried.
    """
    runs = WorkflowRun.objects.using(alias)
    roots, reading = {parent: parent for parent in parents}, set[UUID]()
    for run_id, seed, state, ending in runs.filter(id__in=parents).values_list("id", "seed", "state", "ending"):
        roots[run_id] = seed or run_id
        if state != COMPLETED and ending != CANCELLED:
            reading.add(run_id)
    forks: dict[UUID | None, set[UUID]] = defaultdict(set)
    seeded = runs.filter(seed__in=set(roots.values())).exclude(state=COMPLETED).exclude(ending=CANCELLED)
    for fork, seed in seeded.values_list("id", "seed"):
        forks[seed].add(fork)
    return {parent: sorted(forks[root] | (reading & {parent})) for parent, root in roots.items()}


def _payload(end: End) -> str:
    """Put the texts, which are JSON already, together as JSON: large results need not be quoted."""
    return f'["{end.state}",{end.text}]'


def read_payload(payload: str) -> tuple[str, str]:
    """Return the state and the text of an end."""
    state, _, text = payload[2:-1].partition('",')
    return state, text


def ends_of(alias: str, run_id: UUID, events: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Return which of these ends a run has not read yet: by the event's name its id and payload."""
    found: dict[str, tuple[int, str]] = {}
    for some in batches(events):
        unread = _unread(alias, run_id, some).order_by("-id")  # Of two it is the first that a wait reads.
        found |= {name: (event_id, text) for event_id, name, text in unread.values_list("id", "name", "payload")}
    return found


def has_end_of(alias: str, run_id: UUID, events: Sequence[str]) -> bool:
    """Return whether there is one of these ends that a run has not read yet."""
    return any(_unread(alias, run_id, some).exists() for some in batches(events))


def _unread(alias: str, run_id: UUID, events: Sequence[str]) -> QuerySet[Event]:
    return Event.objects.using(alias).filter(run_id=run_id, consumed_at=None, name__in=events)


# -- they are stopped, or go on --------------------------------------------------------------------


def stop_of(alias: str, run_ids: Sequence[UUID]) -> None:
    """Have the children of these runs cancelled, but for those that are to go on alone."""
    for some in batches(run_ids):
        stop(alias, list(_going(alias, some).values_list("id", flat=True)))


def stop(alias: str, run_ids: Sequence[UUID]) -> None:
    """Have these runs cancelled: by a timer, which a worker fires at once, and which waits for none of their locks."""
    now = clock.now()
    for some in batches(run_ids):
        Timer.objects.using(alias).bulk_create(
            [Timer(run_id=run_id, kind=Kind.CANCEL, due_at=now) for run_id in some], ignore_conflicts=True
        )


def going_of(alias: str, run_ids: Sequence[UUID]) -> Iterator[list[UUID]]:
    """Yield the children that would be cancelled with these runs, some hundreds at a time."""
    for some in batches(run_ids):
        yield from map(list, batches(list(_going(alias, some).order_by("id").values_list("id", flat=True))))


def _going(alias: str, parents: Sequence[UUID]) -> QuerySet[WorkflowRun]:
    children = WorkflowRun.objects.using(alias).filter(parent_id__in=parents, state__in=GOING)
    return children.exclude(abandoned=True)


def forget_ends(alias: str, runs: Sequence[WorkflowRun]) -> None:
    """Take back that these runs, which are retried, have failed, where their parents have not read it."""
    names: dict[UUID, list[str]] = defaultdict(list)
    for run in runs:
        if run.parent_id is not None:
            names[run.parent_id].append(naming.end_of(run.id))
    for parent, listeners in _listeners(alias, names.keys()).items():
        for listener in listeners:
            _unread(alias, listener, names[parent]).delete()


@dataclass(frozen=True, slots=True)
class Call:
    """The record of a call that waits for its child, or has failed with it."""

    id: int
    run_id: UUID
    step: str
    child: UUID
    has_failed: bool


def calls_of(alias: str, run_ids: Sequence[UUID]) -> list[Call]:
    """Return the calls of these runs whose children have not completed, as far as the runs have read."""
    records = StepRecord.objects.using(alias).filter(of_runs(run_ids), kind=Kind.CALL)
    rows = records.exclude(state=RecordState.COMPLETED).values_list("id", "run_id", "name", "result", "state")
    return [
        Call(key, run_id, name, codec.loads(child), state == RecordState.FAILED)
        for key, run_id, name, child, state in rows
        if child is not None
    ]


def open_again(alias: str, calls: Collection[int]) -> None:
    """Have calls that have failed wait for their children once more."""
    records = StepRecord.objects.using(alias).filter(id__in=calls)
    records.update(state=RecordState.DUE, finished_at=None, errors=None, event_id=None)


def forget_call(alias: str, call: Call) -> None:
    """Delete all that a call has stored in its run, the start of its child included."""
    started = naming.started_by(call.step)
    StepRecord.objects.using(alias).filter(run_id=call.run_id, name__in={call.step, started}, kind=Kind.CALL).delete()
    Timer.objects.using(alias).filter(run_id=call.run_id, kind=Kind.CALL, step=call.step).delete()
    _unread(alias, call.run_id, [naming.end_of(call.child)]).delete()


def pass_on(alias: str, run_id: UUID, child_ids: Sequence[UUID]) -> set[UUID]:
    """Tell this run of the ends of these children of another run, in the transaction that makes it that run's fork.

    Their rows stay locked until then: whichever ends later finds the fork. Returns those that there still are.
    """
    there: set[UUID] = set()
    for some in batches(sorted(child_ids)):
        children = WorkflowRun.objects.using(alias).filter(id__in=some).order_by("id")
        if connections[alias].features.has_select_for_update:
            children = children.select_for_update(no_key=connections[alias].features.has_select_for_no_key_update)
        found = list(children.only("id", "state", "parent", "reason", "result", "error"))
        there.update(child.id for child in found)
        _send(alias, [(run_id, _end(child)) for child in found if child.state in ENDED])
    return there


def batches(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    return (rows[at : at + _AT_ONCE] for at in range(0, len(rows), _AT_ONCE))
