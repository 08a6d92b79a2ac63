"""What becomes of a parent in the transaction that stores the end of its child."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from django.db import connections, transaction
from django.db.models import F

from canx_flow import Context, workflow
from canx_flow.client import starting
from canx_flow.core import clock, codec, definition, registry
from canx_flow.core.changes import Change, Children, Outcome, Record, Settle, Start, Suspension, Wait, Waits
from canx_flow.core.claimed import ClaimedRun
from canx_flow.core.naming import end_of
from canx_flow.models import Event, WorkflowRun
from canx_flow.states import COMPLETED, PENDING, RUNNING, WAITING, Kind, RecordState
from canx_flow.store import claims, events, leases, writes
from canx_flow.store.children import End
from canx_flow.store.db import engine
from canx_flow.store.db.databases import session_for
from canx_flow.store.db.postgresql import session
from canx_flow.store.db.postgresql.libpq import Statement
from canx_flow.store.db.postgresql.statements import PLAIN_AND_TELL
from canx_flow.store.parents import Told, told_at_once

from ..elsewhere import elsewhere
from ..waiting import wait_until

pytestmark = pytest.mark.django_db


@workflow("parents.any")
def anything(ctx: Context) -> None:
    """Never run here: its runs are written by hand."""


@pytest.fixture(
    params=["in a caller's transaction", pytest.param("by itself", marks=pytest.mark.django_db(transaction=True))]
)
def connection(request: Any) -> Iterator[Any]:
    """What the owner writes on: PostgreSQL has a statement for what commits by itself."""
    if request.param != "by itself":
        yield connections["default"]
        return
    own = engine.open_connection("default")
    try:
        yield own
    finally:
        engine.reset(own)


def _registered(pid: int = 1) -> UUID:
    return leases.register(host="here", pid=pid, workflows=registry.identities()).id


def _claimed(owner: UUID, number: int = 1) -> list[ClaimedRun]:
    return claims.claim(connections["default"], owner, number, registry.identities())


def _call(run: ClaimedRun, key: str, start: Start) -> tuple[Record, Wait]:
    text = codec.dumps(start.run.id, "an id")
    record = Record(1, key, Kind.CALL, RecordState.OPEN, 0, run.epoch, text, started_at=clock.now())
    return record, Wait(key, Kind.CALL, event=end_of(start.run.id))


class Family:
    """A parent that has called some children, and waits for one of them."""

    def __init__(self, children: int = 1, *, suspended: bool = True) -> None:
        self.owner = _registered()
        anything.start()
        [self.parent] = _claimed(self.owner)
        planned = definition.planned(anything, "a test")
        starts = [starting.child(self.parent.id, planned.definition, (), {}, planned.options) for _ in range(children)]
        record, wait = _call(self.parent, "call", starts[0])
        settle = Settle(WAITING, suspension=Suspension((wait,))) if suspended else None
        self.write(Change(
            self.parent.id, self.parent.epoch, inserts=[record], waits=Waits(opens=(wait,)),
            children=Children(starts=tuple(starts)), settle=settle,
        ))  # fmt: skip
        #: In the order of their starts; the parent waits for the first one.
        self.children = sorted(_claimed(self.owner, children), key=lambda run: run.id)

    def write(self, *changes: Change, on: Any = None) -> list[Outcome]:
        """Store what the owner has."""
        return writes.write(on or connections["default"], self.owner, changes)

    def end(self, *children: ClaimedRun, on: Any) -> list[Outcome]:
        """Have these children complete."""
        settles = [Settle(COMPLETED, result="1", parent=self.parent.id) for _ in children]
        return self.write(
            *(Change(run.id, run.epoch, settle=settle) for run, settle in zip(children, settles, strict=True)), on=on
        )

    @property
    def state(self) -> str:
        """How the parent stands."""
        return WorkflowRun.objects.get(id=self.parent.id).state


def _told() -> Sequence[tuple[str, bool]]:
    return list(Event.objects.order_by("id").values_list("name", "delivered"))


def _say(outcomes: Sequence[Outcome]) -> list[tuple[bool, bool, int]]:
    return [(outcome.stored, outcome.heard, outcome.woke) for outcome in outcomes]


def test_a_parent_is_pending_with_the_end_it_waits_for(connection: Any) -> None:
    """Nothing is left to be delivered, and the worker is told once that a run is ready."""
    family = Family(3)
    outcomes = family.end(*family.children, on=connection)
    assert all(outcome.stored and outcome.heard for outcome in outcomes)
    assert sum(outcome.woke for outcome in outcomes) == 1
    assert family.state == PENDING
    assert _told() == [(end_of(child.id), True) for child in family.children]
    assert events.deliver_all_directed("default") == 0


def test_an_end_that_a_parent_does_not_wait_for_yet_is_kept_for_it(connection: Any) -> None:
    """It stays suspended; there is nothing to be delivered, for it looks before it is suspended again."""
    family = Family(2)
    assert _say(family.end(family.children[1], on=connection)) == [(True, True, 0)]
    assert family.state == WAITING
    assert _told() == [(end_of(family.children[1].id), True)]


def test_a_running_parent_of_the_same_worker_is_told(connection: Any) -> None:
    """It goes on, and finds the end when it would be suspended."""
    family = Family(suspended=False)
    assert _say(family.end(*family.children, on=connection)) == [(True, True, 0)]
    assert family.state == RUNNING
    wait = Wait("call", Kind.CALL, event=end_of(family.children[0].id))
    settle = Settle(WAITING, suspension=Suspension((wait,)))
    [outcome] = family.write(Change(family.parent.id, family.parent.epoch, settle=settle))
    assert outcome.awake


def test_the_event_for_another_workers_parent_is_left_to_be_delivered(connection: Any) -> None:
    """Its row is not locked: it may be about to be suspended, and whoever is second sees the other."""
    family = Family(suspended=False)
    WorkflowRun.objects.filter(id=family.parent.id).update(owner=_registered(2), epoch=F("epoch") + 1)
    assert _say(family.end(*family.children, on=connection)) == [(True, False, 0)]
    assert _told() == [(end_of(family.children[0].id), False)]


def test_a_parent_that_reads_no_more_is_told_nothing(connection: Any) -> None:
    """It was cancelled, or pruned."""
    family = Family()
    WorkflowRun.objects.filter(id=family.parent.id).update(state="cancelled", ending="cancelled", owner=None)
    assert _say(family.end(*family.children, on=connection)) == [(True, True, 0)]
    assert _told() == []


def test_forks_are_woken_like_their_parent(connection: Any) -> None:
    """Each that waits for the child; of those that others have, the event is left."""
    family = Family()
    row = WorkflowRun.objects.get(id=family.parent.id)
    fork = WorkflowRun.objects.create(
        workflow=row.workflow, state="paused", ready=False, seed=row.id, forked_from_id=row.id
    )
    assert _say(family.end(*family.children, on=connection)) == [(True, False, 1)]
    told = Event.objects.values_list("run_id", "delivered")
    assert dict(told) == {family.parent.id: True, fork.id: False}


def _forked(origin: UUID, seed: UUID, state: str = "paused") -> UUID:
    row = WorkflowRun.objects.create(workflow="parents.any", state=state, ready=False, seed=seed, forked_from_id=origin)
    return row.id


def test_forks_are_told_whatever_lies_between_was_pruned(connection: Any) -> None:
    """A child goes on after its parent has completed; who waits for it may be a fork of that, or a fork of a fork."""
    family = Family()
    parent = family.parent.id
    first = _forked(parent, parent)
    second = _forked(first, parent)
    WorkflowRun.objects.filter(id__in=[parent, first]).delete()
    [outcome] = family.end(*family.children, on=connection)
    assert outcome.stored
    assert list(Event.objects.values_list("run_id", "name")) == [(second, end_of(family.children[0].id))]


def test_a_fork_is_told_of_its_own_child_once(connection: Any) -> None:
    """It stands among the forks of its origin, too."""
    family = Family()
    other = WorkflowRun.objects.create(workflow="parents.any", state="completed", ready=False).id
    WorkflowRun.objects.filter(id=family.parent.id).update(seed=other, forked_from_id=other)
    assert _say(family.end(*family.children, on=connection)) == [(True, True, 1)]
    assert _told() == [(end_of(family.children[0].id), True)]


def test_a_parent_that_changes_while_it_is_looked_for_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork is looked for by its id, and among the forks of its origin: it may be claimed between the two."""
    family = Family()
    parent = family.parent.id
    other = WorkflowRun.objects.create(workflow="parents.any", state="completed", ready=False).id
    WorkflowRun.objects.filter(id=parent).update(seed=other, forked_from_id=other)
    ours = session_for("default")
    fetch_of, looks = ours.fetch_of, itertools.count()

    def claimed_after_the_first(*arguments: Any, **named: Any) -> Any:
        found = fetch_of(*arguments, **named)
        if next(looks) == 0:
            WorkflowRun.objects.filter(id=parent).update(state=RUNNING, owner=family.owner)
        return found

    monkeypatch.setattr(ours, "fetch_of", claimed_after_the_first)
    told = told_at_once(ours, family.owner, [End(family.children[0].id, parent, COMPLETED, "1")])
    assert told == Told(True, 0)
    assert _told() == [(end_of(family.children[0].id), True)]


def test_an_end_without_a_result_is_told_as_null(connection: Any) -> None:
    """One such end does not keep the others of its batch from being stored."""
    family = Family(2)
    settles = [Settle(COMPLETED, result=result, parent=family.parent.id) for result in (None, "1")]
    changes = [Change(run.id, run.epoch, settle=s) for run, s in zip(family.children, settles, strict=True)]
    assert all(outcome.stored for outcome in family.write(*changes, on=connection))
    payloads = set(Event.objects.values_list("payload", flat=True))
    assert payloads == {'["completed",null]', '["completed",1]'}


@pytest.mark.django_db(transaction=True)
def test_a_fork_that_is_made_while_a_child_ends_is_told(tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The statement that stores the end has begun before the fork is there, and finds the child's row free after it."""
    if tier != "postgresql":
        pytest.skip("there the rows are locked by a statement of their own, and what comes after sees the fork")
    family = Family(suspended=False)
    [child] = family.children
    now, parent = clock.now(), family.parent
    spawned = Record(2, "spawn", Kind.CALL, RecordState.COMPLETED, 1, parent.epoch, codec.dumps(child.id, "an id"))
    spawned.started_at = spawned.finished_at = now
    after = replace(spawned, seq=3, name="after", kind=Kind.STEP, result="1")
    family.write(Change(parent.id, parent.epoch, inserts=[spawned, after]))
    monkeypatch.setattr(session, "PLAIN_AND_TELL", _held_up(PLAIN_AND_TELL))

    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_GATE])
        try:
            with transaction.atomic():
                fork = anything.fork(parent.id, "after")
                ending = elsewhere(lambda: _ended_by_itself(family))
                wait_until(_is_held_up)
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_GATE])
    first, *_, last = ending.result(30)

    assert (first.stored, first.busy, last.stored) == (False, True, True)
    assert set(Event.objects.values_list("run_id", flat=True)) == {parent.id, fork}


#: The number of the lock that holds the statement up.
_GATE = 20_261_129


def _held_up(statement: Statement) -> Statement:
    """Return the statement as it is when it has its snapshot and waits, before it looks at any row."""
    first = ") AS (n int, run_id uuid, epoch int, ends bool, result text, parent uuid)"
    assert statement.text.count(first) == 1
    gate = f"{first} WHERE pg_advisory_xact_lock({_GATE})::text IS NOT NULL"
    return Statement("held_up", statement.text.replace(first, gate))


def _is_held_up() -> bool:
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted", [_GATE]
        )
        return bool(cursor.fetchone()[0])


def _ended_by_itself(family: Family) -> list[Outcome]:
    """Store the end of the only child, again while its row is busy; return the outcomes."""
    own, outcomes = engine.open_connection("default"), list[Outcome]()
    try:
        while not outcomes or outcomes[-1].busy:
            outcomes += family.end(*family.children, on=own)
    finally:
        engine.reset(own)
    return outcomes


@pytest.mark.parametrize("reads", [2, 40])
def test_ends_are_read_once(reads: int) -> None:
    """However many a parent has come to since its last change: of what was read already, none is read again."""
    family = Family(suspended=False)
    now, parent = clock.now(), family.parent
    sent = [Event.objects.create(run_id=parent.id, name=f"end {n}", created_at=now).id for n in range(reads)]
    change = Change(parent.id, parent.epoch, waits=Waits(reads=tuple((event, f"call {event}") for event in sent)))
    [outcome] = family.write(change)
    assert outcome.stored
    assert dict(Event.objects.values_list("id", "consumed_by")) == {event: f"call {event}" for event in sent}
    with pytest.raises(writes.Conflict):
        family.write(change)
