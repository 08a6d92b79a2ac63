"""What an owner writes is stored whole, and only while it is the owner."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from types import FrameType
from typing import Any
from uuid import UUID

import pytest
from django.db import connections
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from canx_flow import Context, workflow
from canx_flow.core import clock, registry
from canx_flow.core.changes import Chain, Change, Children, Outcome, Record, Settle, Start, Suspension, Wait, Waits
from canx_flow.core.claimed import ClaimedRun
from canx_flow.models import StepRecord, Timer, WorkflowRun
from canx_flow.states import COMPLETED, PENDING, RUNNING, SLEEPING, STOPPING, Kind, RecordState
from canx_flow.store import claims, leases, unclear, writes
from canx_flow.store.db import engine

pytestmark = pytest.mark.django_db


@workflow("writes.any")
def anything(ctx: Context) -> None:
    """Never run here: its runs are written by hand."""


def _owned() -> tuple[UUID, ClaimedRun]:
    anything.start()
    owner = leases.register(host="here", pid=1, workflows=registry.identities()).id
    (run,) = claims.claim(connections["default"], owner, 1, registry.identities())
    return owner, run


def _record(run: ClaimedRun, name: str, state: str = RecordState.COMPLETED, kind: str = Kind.STEP) -> Record:
    now = clock.now()
    return Record(1, name, kind, state, 1, run.epoch, "1", started_at=now, finished_at=now)


def _suspension(run: ClaimedRun) -> Change:
    wait = Wait("nap", Kind.SLEEP, clock.now() + timedelta(hours=1))
    settle = Settle(SLEEPING, suspension=Suspension((wait,)))
    nap = _record(run, "nap", RecordState.OPEN, Kind.SLEEP)
    return Change(run.id, run.epoch, inserts=[nap], waits=Waits(opens=(wait,)), settle=settle)


def _completion(run: ClaimedRun) -> Change:
    return Change(run.id, run.epoch, inserts=[_record(run, "last")], settle=Settle(COMPLETED, result="1"))


def _checkpoint(run: ClaimedRun) -> Change:
    return Change(run.id, run.epoch, inserts=[_record(run, "step")])


def _calls(do: Callable[[], object]) -> Counter[str]:
    """Return which functions in Python are called how often meanwhile. Comprehensions are calls until 3.11."""
    seen: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and not frame.f_code.co_name.endswith("comp>"):
            seen[frame.f_code.co_qualname] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        do()
    finally:
        sys.setprofile(before)
    return seen


def test_what_a_step_has_come_to_is_stored_though_a_change_before_it_is_refused() -> None:
    """Of a run that is stopping no child starts, and nothing goes on from there; a step in flight is called no more."""
    owner, run = _owned()
    WorkflowRun.objects.filter(id=run.id).update(state=STOPPING)
    call, nap = _record(run, "ship", RecordState.OPEN, Kind.CALL), _record(run, "nap", RecordState.OPEN, Kind.SLEEP)
    chain = Chain()
    batch = [
        Change(run.id, run.epoch, inserts=[call], children=Children((Start(None, None, ()),)), chain=chain),
        Change(run.id, run.epoch, inserts=[_record(run, "charge")], chain=chain),
        Change(run.id, run.epoch, waits=Waits(releases=((("places", ""), "charge"),)), chain=chain),
        Change(run.id, run.epoch, inserts=[nap], chain=chain),
        Change(run.id, run.epoch, inserts=[_record(run, "nap#2")], settle=Settle(COMPLETED), chain=chain),
        Change(run.id, run.epoch, chain=chain),
    ]
    outcomes = writes.write(connections["default"], owner, batch)
    assert [outcome.stored for outcome in outcomes] == [False, True, True, False, False, False]
    assert all(outcome.awake for outcome in outcomes if not outcome.stored)
    assert list(StepRecord.objects.values_list("name", flat=True)) == ["charge"]


@pytest.mark.parametrize("make", [_suspension, _completion, _checkpoint])
@pytest.mark.parametrize(
    "taken",
    [{"epoch": F("epoch") + 1}, {"owner": None}, {"state": "completed", "owner": None}, {"state": "cancelled"}],
    ids=["recovered", "without owner", "completed", "cancelled"],
)
def test_c031_c084_c108_a_stale_owner_stores_nothing_at_all(make: Any, taken: dict[str, Any]) -> None:
    """Record, timer and state come together or not at all, and for a stale owner not at all."""
    owner, run = _owned()
    WorkflowRun.objects.filter(id=run.id).update(**taken)
    before = WorkflowRun.objects.filter(id=run.id).values().get()

    (outcome,) = writes.write(connections["default"], owner, [make(run)])

    assert (outcome.stored, outcome.busy) == (False, False)
    assert not StepRecord.objects.exists()
    assert not Timer.objects.exists()
    assert WorkflowRun.objects.filter(id=run.id).values().get() == before


@pytest.mark.parametrize("make", [_suspension, _completion, _checkpoint])
def test_c108_an_owner_stores_everything_of_a_change(make: Any) -> None:
    """The record, its timer and the run's state are there together."""
    owner, run = _owned()
    change = make(run)

    (outcome,) = writes.write(connections["default"], owner, [change])

    row = WorkflowRun.objects.get(id=run.id)
    assert outcome.stored
    assert row.state == outcome.state == (change.settle.state if change.settle else RUNNING)
    assert list(StepRecord.objects.values_list("name", flat=True)) == [change.inserts[0].name]
    assert Timer.objects.count() == len(change.waits.opens)
    assert (row.owner_id is None) == (change.settle is not None)


@pytest.mark.parametrize(
    "together", [lambda *both: [both], lambda *both: [[one] for one in both]], ids=["in one change", "in two"]
)
def test_a_record_that_is_taken_further_twice_is_stored_as_it_was_last(together: Any) -> None:
    """A branch waits for its next attempt, and is closed before that is stored: both come together."""
    owner, run = _owned()
    connection = connections["default"]
    writes.write(connection, owner, [Change(run.id, run.epoch, inserts=[_record(run, "step", RecordState.DUE)])])
    opened, closed = _record(run, "step", RecordState.OPEN), _record(run, "step", RecordState.CLOSED)
    changes = [Change(run.id, run.epoch, updates=updates) for updates in together(opened, closed)]

    outcomes = writes.write(connection, owner, changes)

    assert all(outcome.stored for outcome in outcomes)
    assert StepRecord.objects.get().state == RecordState.CLOSED


def test_runs_that_are_left_alike_are_one_update() -> None:
    """A worker that leaves hands all its runs back by one statement, whatever their number."""
    owner, *runs = _owned()
    for _ in range(2):
        anything.start()
    runs += claims.claim(connections["default"], owner, 2, registry.identities())
    changes = [Change(run.id, run.epoch, settle=Settle(PENDING)) for run in runs]

    with CaptureQueriesContext(connections["default"]) as queries:
        outcomes = writes.write(connections["default"], owner, changes)

    assert [outcome.state for outcome in outcomes] == [PENDING] * 3
    assert set(WorkflowRun.objects.values_list("state", "ready", "owner_id")) == {(PENDING, True, None)}
    assert sum(query["sql"].startswith("UPDATE") for query in queries) == 1


@pytest.mark.django_db(transaction=True)
def test_a_batch_of_new_records_costs_few_calls_for_each(tier: str) -> None:
    """The runs of a worker wait while its committer computes; a UUID's hash and order are calls of Python code, too."""
    owner, *runs = _owned()
    for _ in range(33):
        anything.start()
    runs += claims.claim(connections["default"], owner, 33, registry.identities())
    changes = [_checkpoint(run) for run in runs]
    connection = engine.open_connection("default")
    try:
        writes.write(connection, owner, changes[:4])  # It connects, and prepares.
        few = _calls(lambda: writes.write(connection, owner, changes[4:14]))
        many = _calls(lambda: writes.write(connection, owner, changes[14:34]))
    finally:
        engine.reset(connection)
    each = {name: (count - few[name]) / 10 for name, count in many.items()}
    assert each.get("UUID.__hash__", 0.0) == each.get("UUID.__lt__", 0.0) == 0.0
    assert sum(each.values()) <= {"postgresql": 14, "sqlite": 18}.get(tier, 45)  # MySQL's driver quotes in Python.


def test_an_unclear_commit_is_repeated_without_a_second_record() -> None:
    """The same change again meets its own record, which is a success."""
    owner, run = _owned()

    for _ in range(2):
        assert unclear.write_alone(connections["default"], owner, _checkpoint(run)).stored

    assert StepRecord.objects.count() == 1


def test_a_record_of_another_attempt_is_never_overwritten() -> None:
    """The first stored result wins; the later one is told to look again."""
    owner, run = _owned()
    writes.write(connections["default"], owner, [_checkpoint(run)])
    late = _checkpoint(run)
    late.inserts[0].attempts, late.inserts[0].result = 2, "2"

    outcome = unclear.write_alone(connections["default"], owner, late)

    assert (outcome.stored, outcome.awake) == (False, True)
    assert StepRecord.objects.get().result == "1"


@pytest.mark.parametrize("make", [_suspension, _completion, _checkpoint])
@pytest.mark.parametrize("first", ["old", "new"])
def test_two_activations_of_a_run_in_one_batch_are_told_apart(make: Any, first: str) -> None:
    """What the earlier one left behind is refused, and the later one's is stored, whichever comes first."""
    owner, run = _owned()
    stale = make(run)
    WorkflowRun.objects.filter(id=run.id).update(epoch=run.epoch + 1)
    record = Record(1, "new", Kind.STEP, RecordState.COMPLETED, 1, run.epoch + 1, "1", started_at=clock.now())
    fresh = Change(run.id, run.epoch + 1, inserts=[record])
    batch = [stale, fresh] if first == "old" else [fresh, stale]
    outcomes = dict(zip(map(id, batch), writes.write(connections["default"], owner, batch), strict=True))
    assert outcomes[id(fresh)] == Outcome(True, RUNNING)
    assert not outcomes[id(stale)].stored
    assert not outcomes[id(stale)].busy
    assert list(StepRecord.objects.values_list("name", "epoch")) == [("new", run.epoch + 1)]
    assert WorkflowRun.objects.get(id=run.id).state == RUNNING


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("first", ["old", "new"])
def test_the_same_in_the_statement_of_an_engine_connection(first: str) -> None:
    """Outside a transaction PostgreSQL stores a batch in one statement: it tells them apart, too."""
    owner, run = _owned()
    stale = _completion(run)
    WorkflowRun.objects.filter(id=run.id).update(epoch=run.epoch + 1)
    fresh = Change(run.id, run.epoch + 1, inserts=[_record(run, "new")])
    batch = [stale, fresh] if first == "old" else [fresh, stale]
    connection = engine.open_connection("default")
    try:
        outcomes = dict(zip(map(id, batch), writes.write(connection, owner, batch), strict=True))
    finally:
        engine.reset(connection)
    assert (outcomes[id(fresh)].stored, outcomes[id(stale)].stored) == (True, False)
    assert list(StepRecord.objects.values_list("name", flat=True)) == ["new"]
    assert WorkflowRun.objects.get(id=run.id).state == RUNNING
