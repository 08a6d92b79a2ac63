"""What hangs on a run's start and end because it has a parent, or children.

Called by `transitions` at every end, by `writes` for what an activation starts and gives up, and by the verbs. Nothing
here locks the row of another run: a parent is told by an event, and a child is stopped by a timer that is due at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from django.db import connections
from django.db.models import F, QuerySet

from ..core import clock, codec, naming, policies
from ..core.changes import Change, Start, Wait
from ..exceptions import RunTimedOut
from ..models import Event, StepRecord, Timer, WorkflowRun
from ..states import CANCELLED, COMPLETED, ENDED, FAILED, SLEEPING, STOPPING, UNFINISHED, Kind, RecordState
from . import attributes, delegations
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
        for begun in change.children.starts:
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
    waits = waits_of(policies.read(pattern.policies), run_at)
    session.insert_timers([(run_id, wait, False) for run_id in ids for wait in waits])


def waits_of(given: policies.Policies, run_at: datetime | None, behind: UUID | None = None) -> list[Wait]:
    """Return the timers with which a run is stored: of its delayed start, and of its policies.

    `behind`: the run for whose end it waits before it starts; then the moment of its start stands as the key.
    """
    waits: list[Wait] = []
    if behind is not None:
        waits.append(Wait("", Kind.START, None, naming.end_of(behind), None if run_at is None else run_at.isoformat()))
    elif run_at is not None:
        waits.append(Wait("", Kind.START, run_at))
    if given.expires_at is not None:
        waits.append(Wait("", Kind.EXPIRE, given.expires_at))
    if given.cancel_on is not None:
        waits.append(Wait("", Kind.CANCEL_ON, None, *given.cancel_on))
    return waits


# -- their end -------------------------------------------------------------------------------------


def have_ended(alias: str, run_ids: Sequence[UUID]) -> list[WorkflowRun]:
    """Tell the parents of these runs, which have ended in this transaction; stop the children of those cut short.

    Returns the runs.
    """
    every: list[WorkflowRun] = []
    for some in batches(run_ids):
        ended = have_stopped(alias, some)
        every += ended
        born = [run.id for run in ended if run.parent_id is not None]
        told = WorkflowRun.objects.using(alias).filter(id__in=born) if born else ()
        tell(session_of(connections[alias]), [_end(child) for child in told])
    return every


def have_stopped(alias: str, run_ids: Sequence[UUID]) -> Sequence[WorkflowRun]:
    """Stop what those of these runs have begun whose end was decided by a cancel or a deadline; return the runs."""
    runs = WorkflowRun.objects.using(alias).filter(id__in=run_ids)
    stopped = list(runs.only("id", "parent", "state", "ending", "reason", "policies"))
    cut_short = [run.id for run in stopped if _is_cut_short(run)]
    stop_of(alias, cut_short)
    delegations.withdraw(alias, cut_short)
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
    told = [(listener, end) for end in ends for listener in listeners[end.parent]]
    # Of one that has completed this is asked when its cancel, which came too late, is due.
    given_up = _given_up(alias, [(listener, end.child) for listener, end in told if end.state != COMPLETED])
    _send(alias, [(listener, end) for listener, end in told if (listener, end.child) not in given_up])


def _given_up(alias: str, told: Collection[tuple[UUID, UUID]]) -> set[tuple[UUID, UUID]]:
    """Return which of these runs have given up which child: their branches have lost, and nothing reads its end."""
    if not told:
        return set()
    texts = {codec.dumps(child, "a child's id"): child for _run, child in told}
    calls = StepRecord.objects.using(alias).filter(run_id__in={run for run, _child in told}, kind=Kind.CALL)
    found = calls.filter(state=RecordState.CLOSED, result__in=texts).values_list("run_id", "name", "result")
    return {(run_id, texts[text]) for run_id, name, text in found if text and naming.started_by(name) == name}


def take_back(alias: str, run_ids: Sequence[UUID]) -> None:
    """Forget the ends of these runs, which have ended before their cancel was due, where they were given up."""
    runs = WorkflowRun.objects.using(alias).filter(id__in=run_ids, parent__isnull=False) if run_ids else ()
    for parent, child in _given_up(alias, [(run.parent_id, run.id) for run in runs if run.parent_id]):
        unread(alias, parent, [naming.end_of(child)]).delete()


def _send(alias: str, told: Sequence[tuple[UUID, End]]) -> None:
    now = clock.now()
    Event.objects.using(alias).bulk_create(
        Event(run_id=listener, name=naming.end_of(end.child), payload=payload(end), created_at=now)
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
        if reads(state, ending):
            reading.add(run_id)
    forks: dict[UUID | None, set[UUID]] = defaultdict(set)
    seeded = runs.filter(seed__in=set(roots.values())).exclude(state=COMPLETED).exclude(ending=CANCELLED)
    for fork, seed in seeded.values_list("id", "seed"):
        forks[seed].add(fork)
    return {parent: sorted(forks[root] | (reading & {parent})) for parent, root in roots.items()}


def reads(state: str, ending: str) -> bool:
    """Return whether a run in this state, with this decision on its end, may still read of its children's ends."""
    return state != COMPLETED and ending != CANCELLED


def payload(end: End) -> str:
    """Put the texts, which are JSON already, together as JSON: large results need not be quoted."""
    return f'["{end.state}",{end.text}]'


def read_payload(payload: str) -> tuple[str, str]:
    """Return the state and the text of an end."""
    state, _, text = payload[2:-1].partition('",')
    return state, text


def ends_of(alias: str, run_id: UUID, events: Sequence[str]) -> dict[str, tuple[int, datetime, str]]:
    """Return which of these ends a run has not read yet: by the event's name its id, its moment and its payload."""
    found: dict[str, tuple[int, datetime, str]] = {}
    for some in batches(events):
        events_of = unread(alias, run_id, some).order_by("-id")  # Of two it is the first that a wait reads.
        rows = events_of.values_list("id", "name", "created_at", "payload")
        found |= {name: (event_id, at, text) for event_id, name, at, text in rows}
    return found


def has_end_of(alias: str, run_id: UUID, events: Sequence[str]) -> bool:
    """Return whether there is one of these ends that a run has not read yet."""
    return any(unread(alias, run_id, some).exists() for some in batches(events))


def unread(alias: str, run_id: UUID, events: Sequence[str]) -> QuerySet[Event]:
    """Return those of these ends that a run has not read yet."""
    return Event.objects.using(alias).filter(run_id=run_id, consumed_at=None, name__in=events)


# -- they are stopped, or go on --------------------------------------------------------------------


def give_up(alias: str, changes: Sequence[Change]) -> None:
    """Have the children cancelled that these changes give up. Nothing reads how they end, or have ended already."""
    for change in changes:
        if change.children.stops:
            stop(alias, change.children.stops)
            unread(alias, change.run_id, [naming.end_of(child) for child in change.children.stops]).delete()


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
            unread(alias, listener, names[parent]).delete()


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
        if session_of(connections[alias]).writes_at_once:
            # As they are: a statement that has seen their rows before this, and locks them after it, finds that out.
            WorkflowRun.objects.using(alias).filter(id__in=some).exclude(state__in=ENDED).update(seed=F("seed"))
    return there


def batches(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    return (rows[at : at + _AT_ONCE] for at in range(0, len(rows), _AT_ONCE))
