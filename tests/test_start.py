"""Starting runs: keys, delays, subjects, priorities, and what a start means inside a transaction or a step."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from freezegun import freeze_time

from canx_flow import (
    AlreadyStarted,
    AsyncContext,
    Context,
    NotSerializable,
    Retry,
    RunNotFound,
    client,
    current_step,
    send_event,
    workflow,
)
from canx_flow.core import registry
from canx_flow.models import Event, Timer, WorkflowRun
from canx_flow.testing import advance, run_until_idle

from .elsewhere import elsewhere
from .models import Effect

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@workflow("start.echo")
def echo(ctx: Context, value: Any = None, **more: Any) -> Any:
    """Give back what it was started with."""
    return [value, more] if more else value


@workflow("start.one-step")
def one_step(ctx: Context, label: str) -> str:
    """One step, counted by its test."""
    return ctx.step("note", note, label)


noted: list[str] = []


def note(label: str) -> str:
    """What the step of `one_step` does."""
    noted.append(label)
    return label


@pytest.fixture(autouse=True)
def _nothing_noted() -> Iterator[None]:
    yield
    noted.clear()


class _Crash(KeyboardInterrupt):
    """Ends an inline worker in the middle of what it does, as a kill would."""


# -- the start itself ------------------------------------------------------------------------------


def test_a_start_is_one_insert() -> None:
    """A plain start asks the database for exactly one INSERT, and returns a UUID of version 7."""
    with CaptureQueriesContext(connection) as queries:
        run_id = echo.start(7)
    assert [query["sql"].split()[0] for query in queries] == ["INSERT"]
    assert isinstance(run_id, UUID)
    assert run_id.version == 7


@pytest.mark.once
def test_ids_are_ordered_by_time() -> None:
    """Of two runs of one process, the one started later has the larger id, within one millisecond too."""
    ids = [echo.start() for _ in range(50)]
    assert ids == sorted(ids)
    assert type(ids[0]) is UUID


def test_arguments_arrive_as_they_were_given() -> None:
    """Positional and keyword arguments reach the body with their types kept."""
    given = (Decimal("1.50"), {"when": START}), {"tags": {"a", "b"}, "raw": b"\x00\xff"}
    run_id = echo.start(*given[0][:1], **given[1])
    second = echo.start(given[0][1])
    run_until_idle()
    assert echo.status(run_id).result == [Decimal("1.50"), {"tags": {"a", "b"}, "raw": b"\x00\xff"}]
    assert echo.status(second).result == {"when": START}


def test_p1_a_workflow_that_returns_none_completes() -> None:
    """`None` is a result like any other: the run completes with it."""
    run_id = echo.start()
    run_until_idle()
    status = echo.status(run_id)
    assert (status.state, status.result, status.error) == ("completed", None, None)
    assert echo.result(run_id) is None


@pytest.mark.once
def test_a_new_run_is_pending_until_a_worker_takes_it() -> None:
    """Right after the start a run is pending, and has neither begun nor ended."""
    status = echo.status(echo.start())
    assert (status.state, status.step, status.waits) == ("pending", None, ())
    assert (status.started_at, status.finished_at) == (None, None)


# -- keys ------------------------------------------------------------------------------------------


def test_c001_one_key_makes_one_run() -> None:
    """Started twice with one key, there is one run, and both callers get its id."""
    first = one_step.using(key="order-7").start("first")
    second = one_step.using(key="order-7").start("second")
    assert first == second
    assert WorkflowRun.objects.count() == 1
    run_until_idle()
    assert noted == ["first"]


@pytest.mark.django_db(transaction=True)
def test_c001_two_callers_at_once_get_one_run() -> None:
    """Two connections that start with one key at the same moment get the same run."""
    barrier = threading.Barrier(2, timeout=30)

    def start(label: str) -> UUID:
        barrier.wait()
        return one_step.using(key="order-7").start(label)

    for _ in range(20):
        WorkflowRun.objects.all().delete()
        calls = [elsewhere(lambda label=label: start(label)) for label in ("a", "b")]
        ids = {call.result(60) for call in calls}
        assert ids == set(WorkflowRun.objects.values_list("id", flat=True))
        assert len(ids) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("commits", [True, False])
def test_c001_a_key_waits_for_a_rival_s_transaction(commits: bool) -> None:
    """While the run with the key is not committed, a second start waits: for that run, or for its own."""
    begun, go = threading.Event(), threading.Event()

    def rival() -> UUID:
        with transaction.atomic():
            run_id = one_step.using(key="order-7").start("rival")
            begun.set()
            go.wait(30)
            transaction.set_rollback(not commits)
        return run_id

    def mine() -> UUID:
        begun.wait(30)
        go.set()
        return one_step.using(key="order-7").start("mine")

    theirs, ours = elsewhere(rival), elsewhere(mine)
    assert (theirs.result(60) == ours.result(60)) is commits
    assert [run.id for run in WorkflowRun.objects.all()] == [ours.result()]


@pytest.mark.django_db(transaction=True)
def test_c001_a_key_is_seen_though_the_caller_s_snapshot_is_older(tier: str) -> None:
    """A transaction that began to read before the rival's commit still gets the rival's run."""
    if tier == "sqlite":
        pytest.skip("on SQLite a transaction keeps every other writer out: there is no rival")
    with transaction.atomic():
        assert WorkflowRun.objects.count() == 0  # On MariaDB this fixes what the transaction sees.
        theirs = elsewhere(lambda: one_step.using(key="order-7").start("rival")).result(60)
        assert one_step.using(key="order-7").start("mine") == theirs
        with pytest.raises(AlreadyStarted):
            one_step.using(key="order-7", on_conflict="reject").start("mine")


def test_c002_a_finished_run_is_returned_and_not_run_again() -> None:
    """A key belongs to its run also after that has ended: it is returned, and its body not called again."""
    first = one_step.using(key="order-7").start("first")
    run_until_idle()
    assert one_step.using(key="order-7").start("again") == first
    assert run_until_idle() == 0
    assert noted == ["first"]
    assert one_step.result(first) == "first"


def test_c003_reject_names_the_run_that_has_the_key() -> None:
    """With `on_conflict="reject"` a key in use raises AlreadyStarted, which carries the run's id and state."""
    run_id = one_step.using(key="order-7").start("first")
    with pytest.raises(
        AlreadyStarted, match=f"run {run_id} was already started with this key; it is pending"
    ) as caught:
        one_step.using(key="order-7", on_conflict="reject").start("second")
    assert (caught.value.run_id, caught.value.state) == (run_id, "pending")
    run_until_idle()
    with pytest.raises(AlreadyStarted) as caught:
        one_step.using(key="order-7", on_conflict="reject").start("third")
    assert (caught.value.run_id, caught.value.state) == (run_id, "completed")
    assert WorkflowRun.objects.count() == 1


def test_c003_reject_starts_a_run_with_a_free_key() -> None:
    """`on_conflict="reject"` and a key nobody has: a run like any other."""
    run_id = one_step.using(key="order-7", on_conflict="reject").start("first")
    assert one_step.status(run_id).state == "pending"


@pytest.mark.django_db(transaction=True)
def test_c003_a_conflict_does_not_break_the_caller_s_transaction() -> None:
    """After a key that was taken, returned or rejected, the caller's transaction goes on and commits."""
    one_step.using(key="order-7").start("first")
    with transaction.atomic():
        one_step.using(key="order-7").start("second")
        with pytest.raises(AlreadyStarted):
            one_step.using(key="order-7", on_conflict="reject").start("third")
        Effect.objects.create(name="after")
    assert Effect.objects.filter(name="after").count() == 1


def test_a_key_is_unique_per_workflow() -> None:
    """Two workflows may use one key for a run each."""
    assert one_step.using(key="order-7").start("a") != echo.using(key="order-7").start("a")


def test_a_key_is_free_once_its_run_is_gone() -> None:
    """A key is taken while its run is kept; with the run deleted it may be used again."""
    first = one_step.using(key="order-7").start("a")
    WorkflowRun.objects.filter(id=first).delete()
    assert one_step.using(key="order-7").start("a") != first


def test_without_a_key_every_start_is_a_run() -> None:
    """Runs without a key are never taken for one another."""
    assert one_step.start("a") != one_step.start("a")


def test_a_conflict_ignores_the_other_options() -> None:
    """The run that has the key stays as it is, whatever the second start asked for."""
    run_id = one_step.using(key="order-7", priority=3).start("a")
    assert one_step.using(key="order-7", priority=9, delay=HOUR, attributes={"x": 1}).start("b") == run_id
    run = WorkflowRun.objects.get()
    assert (run.priority, run.state, run.attributes) == (3, "pending", {})
    assert not Timer.objects.exists()


# -- inside a transaction --------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_c006_a_start_is_part_of_the_caller_s_transaction(tier: str) -> None:
    """Before the commit nobody else sees the run and no worker takes it; after it, the run is there and runs."""
    with transaction.atomic():
        run_id = one_step.start("committed")
        assert elsewhere(WorkflowRun.objects.count).result(60) == 0
        if tier != "sqlite":  # There a worker's turn waits for this transaction.
            assert elsewhere(run_until_idle).result(60) == 0
        assert noted == []
    run_until_idle()
    assert one_step.status(run_id).state == "completed"
    assert noted == ["committed"]


@pytest.mark.django_db(transaction=True)
def test_c006_after_a_rollback_the_run_never_existed() -> None:
    """A start that is rolled back leaves nothing: no run, no timer, no key."""

    def start() -> None:
        one_step.start("a")
        one_step.using(key="order-7", delay=HOUR).start("b")
        one_step.start_many([("c",), ("d",)])
        raise LookupError("the caller changed its mind")

    with pytest.raises(LookupError), transaction.atomic():
        start()
    assert not WorkflowRun.objects.exists()
    assert not Timer.objects.exists()
    assert run_until_idle() == 0
    assert one_step.using(key="order-7", on_conflict="reject").start("b")


def test_c006_a_savepoint_takes_its_starts_with_it() -> None:
    """A start inside a nested `atomic()` that fails is gone; the one around it stays."""
    outer = one_step.start("outer")
    with transaction.atomic():
        one_step.start("inner")
        transaction.set_rollback(True)
    assert [run.id for run in WorkflowRun.objects.all()] == [outer]


# -- delays ----------------------------------------------------------------------------------------


def test_c007_a_delayed_run_is_not_claimed_before_its_time() -> None:
    """A delayed start sleeps, without a step, until its time, and then runs."""
    with freeze_time(START):
        run_id = one_step.using(delay=HOUR).start("a")
        status = one_step.status(run_id)
        assert (status.state, status.step, status.resume_at) == ("sleeping", None, START + HOUR)
        assert [(wait.kind, wait.step) for wait in status.waits] == [("start", None)]
        advance(HOUR - timedelta(seconds=1))
        assert noted == []
        advance(1)
        assert noted == ["a"]
        assert one_step.status(run_id).started_at == START + HOUR


def test_c007_a_delay_may_be_a_number_or_a_moment() -> None:
    """`delay` takes seconds or a timedelta, `run_at` an aware datetime of any zone."""
    with freeze_time(START):
        ids = [
            one_step.using(delay=90).start("seconds"),
            one_step.using(delay=timedelta(seconds=90)).start("timedelta"),
            one_step.using(run_at=datetime.fromisoformat("2026-03-01T13:01:30+01:00")).start("moment"),
        ]
        assert {one_step.status(run_id).resume_at for run_id in ids} == {START + timedelta(seconds=90)}
        advance(90)
    assert sorted(noted) == ["moment", "seconds", "timedelta"]


@pytest.mark.parametrize("options", [{"delay": 0}, {"delay": timedelta(0)}, {"run_at": START - HOUR}])
def test_c007_a_delay_that_is_over_is_none(options: dict[str, Any]) -> None:
    """No delay, or a moment that has passed: the run is pending at once."""
    with freeze_time(START):
        run_id = one_step.using(**options).start("a")
        assert one_step.status(run_id).state == "pending"
        assert not Timer.objects.exists()


def test_c007_a_delay_can_be_shortened() -> None:
    """`wake` lets a delayed run begin now."""
    with freeze_time(START):
        run_id = one_step.using(delay=HOUR).start("a")
        assert one_step.wake(run_id)
        run_until_idle()
        assert noted == ["a"]
        assert not one_step.wake(run_id)


def test_c007_a_delayed_run_can_be_cancelled() -> None:
    """Cancelled while it is delayed, a run never begins, and leaves no timer."""
    with freeze_time(START):
        run_id = one_step.using(delay=HOUR).start("a")
        assert one_step.cancel(run_id)
        assert one_step.status(run_id).state == "cancelled"
        assert not Timer.objects.exists()
        advance(2 * HOUR)
    assert noted == []


def test_c007_a_delayed_run_keeps_its_key() -> None:
    """A delay and a key go together: the second start gets the delayed run, and no second timer."""
    first = one_step.using(key="order-7", delay=HOUR).start("a")
    assert one_step.using(key="order-7", delay=HOUR).start("b") == first
    assert Timer.objects.count() == 1


# -- runs that nobody knows ------------------------------------------------------------------------


def test_c009_an_unknown_workflow_is_parked_and_goes_on_when_it_is_known() -> None:
    """A run whose workflow no worker knows is parked with the reason, blocks nobody, and runs once it is known."""
    assert registry.get("start.c009") is None

    @workflow("start.c009")
    def late(ctx: Context) -> str:
        return "at last"

    run_id = late.start()
    registry.forget("start.c009")
    neighbour = one_step.start("neighbour")
    run_until_idle()
    status = client.get_run(run_id)
    assert (status.state, status.error, status.finished_at) == ("parked", None, None)
    assert status.reason.startswith("UnknownWorkflow: no worker knows 'start.c009'")
    assert one_step.status(neighbour).state == "completed"
    run_until_idle()
    assert client.get_run(run_id).state == "parked"
    registry.add(late)
    run_until_idle()
    assert late.result(run_id) == "at last"


def test_c009_an_unknown_version_is_parked_too() -> None:
    """Another version of the same name does not run it: the reason names the version that is missing."""

    @workflow("start.c009-version", version="1")
    def old(ctx: Context) -> str:
        return "old"

    @workflow("start.c009-version", version="2")
    def new(ctx: Context) -> str:
        return "new"

    run_id = old.start()
    registry.forget("start.c009-version", "1")
    run_until_idle()
    assert new.status(run_id).state == "parked"
    assert "'start.c009-version@1'" in new.status(run_id).reason
    registry.add(old)
    run_until_idle()
    assert new.result(run_id) == "old"


# -- arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [object(), float("nan"), {1: "a"}, [1, {"deep": (object(),)}], lambda: None])
def test_c010_p5_arguments_that_cannot_be_stored_leave_no_row(value: Any) -> None:
    """NotSerializable in the caller, naming the workflow; no run exists afterwards."""
    with pytest.raises(NotSerializable, match=r"the arguments of workflow 'start\.echo' cannot be stored"):
        echo.start(value)
    with pytest.raises(NotSerializable):
        echo.using(key="order-7", delay=HOUR).start(kept=value)
    assert not WorkflowRun.objects.exists()
    assert not Timer.objects.exists()
    assert echo.using(key="order-7", on_conflict="reject").start()


@pytest.mark.once
def test_c010_the_message_leads_to_the_value() -> None:
    """The error names the path to what cannot be stored, and says what to do instead."""
    with pytest.raises(NotSerializable, match=r"at \[0\]\[0\]\['order'\]: .*return effect\.pk"):
        echo.start({"order": Effect(name="x")})
    with pytest.raises(NotSerializable, match=r"at \[1\]\['more'\]"):
        echo.start(more=object())


def test_c011_arguments_that_no_longer_decode_fail_the_run_at_once() -> None:
    """A run whose stored arguments cannot be read fails in one activation, and its neighbours run."""
    run_id = one_step.start("broken")
    WorkflowRun.objects.filter(id=run_id).update(arguments='[[{"$no-such-tag":1}],{}]')
    neighbour = one_step.start("neighbour")
    assert run_until_idle() == 2
    status = one_step.status(run_id)
    assert (status.state, status.reason) == ("failed", "NotDecodable")
    assert status.error is not None
    assert status.error["type"] == "canx_flow.exceptions.NotDecodable"
    assert f"the arguments of run {run_id} cannot be read" in status.error["message"]
    assert "$no-such-tag" in status.error["message"]
    assert one_step.status(neighbour).state == "completed"
    assert run_until_idle() == 0
    assert noted == ["neighbour"]


@pytest.mark.once
def test_arguments_that_do_not_fit_the_function_park_the_run() -> None:
    """A signature that has changed since the start parks the run, with what does not fit; nothing loops."""
    run_id = one_step.start("a")
    WorkflowRun.objects.filter(id=run_id).update(arguments='[["a","b"],{}]')
    assert run_until_idle() == 1
    status = one_step.status(run_id)
    assert status.state == "parked"
    assert "too many positional arguments" in status.reason
    assert run_until_idle() == 0


@workflow("start.signature")
def signature(ctx: Context, a: int, /, b: int, *, c: int, d: int = 4) -> list[int]:
    """Takes arguments of every kind but the starred ones."""
    return [a, b, c, d]


@workflow("start.own-names")
def own_names(ctx: Context, self: int, workflow: int = 0, loop: int = 0, func: int = 0, options: int = 0) -> list[int]:
    """Takes keywords that the verbs have names like."""
    return [self, workflow, loop, func, options]


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "keywords", "says"),
    [
        ((), {}, "missing a required"),
        ((1, 2), {}, "missing a required"),
        ((1, 2, 3), {"c": 3}, "too many positional arguments"),
        ((1, 2), {"c": 3, "e": 5}, "unexpected keyword argument 'e'"),
        ((1, 2), {"c": 3, "b": 2}, "multiple values for argument 'b'"),
        ((1, 2), {"c": 3, "ctx": 2}, "'ctx'"),
        ((1,), {"a": 1, "c": 3}, "missing a required argument: 'b'"),
    ],
)
def test_arguments_that_do_not_fit_the_signature_are_refused_at_the_call(
    arguments: tuple[Any, ...], keywords: dict[str, Any], says: str
) -> None:
    """TypeError names the workflow, what it takes and the problem, however a run is started; nothing is stored."""
    for start in (signature.start, signature.using(priority=1, key="k").start, async_to_sync(signature.astart)):
        with pytest.raises(TypeError, match=r"workflow 'start\.signature': it takes") as caught:
            start(*arguments, **keywords)
        assert says in str(caught.value)
        assert "(a, /, b, *, c, d=4)" in str(caught.value)
    assert not WorkflowRun.objects.exists()


@pytest.mark.once
def test_start_many_refuses_arguments_that_do_not_fit_and_starts_none() -> None:
    """One tuple that does not fit keeps all of them from starting, and breaks no transaction of the caller's."""
    with transaction.atomic():
        with pytest.raises(TypeError, match="too many positional arguments"):
            one_step.start_many([("a",), ("b", "c")])  # one tuple does not fit
        assert not WorkflowRun.objects.exists()
    assert len(one_step.start_many([("a",), ("b",)])) == 2


@pytest.mark.once
def test_arguments_that_fit_reach_the_function() -> None:
    """Of every kind; also those that are named as arguments of the verbs themselves are."""
    first = signature.start(1, b=2, c=3)
    others = [own_names.start(self=1, workflow=2, loop=3, func=4, options=5)]
    others.append(own_names.using(priority=1).start(self=1, workflow=2, loop=3, func=4, options=5))
    others.append(async_to_sync(partial(own_names.astart, self=1, workflow=2, loop=3, func=4, options=5))())
    run_until_idle()
    assert signature.status(first).result == [1, 2, 3, 4]
    assert [own_names.status(run_id).result for run_id in others] == [[1, 2, 3, 4, 5]] * 3


# -- options ---------------------------------------------------------------------------------------


def test_options_are_those_of_one_start() -> None:
    """`using` sets queue, priority, timeout and attributes for the next start, and changes no workflow."""
    starter = one_step.using(queue="slow", priority=-7, timeout=timedelta(minutes=1), attributes={"customer": 7})
    run = WorkflowRun.objects.get(id=starter.start("a"))
    assert (run.queue, run.priority, run.timeout, run.attributes) == ("slow", -7, 60.0, {"customer": 7})
    plain = WorkflowRun.objects.get(id=one_step.start("b"))
    assert (plain.queue, plain.priority, plain.timeout, plain.attributes) == ("default", 0, None, {})


@pytest.mark.once
def test_options_add_up() -> None:
    """`using` on what `using` returned adds to it; the later word counts."""
    starter = one_step.using(queue="slow", priority=1).using(priority=2, key="k")
    run = WorkflowRun.objects.get(id=starter.start("a"))
    assert (run.queue, run.priority, run.key) == ("slow", 2, "k")


@pytest.mark.once
def test_priority_zero_counts_against_the_workflow_s_own() -> None:
    """A priority of 0 is a priority: it replaces that of the declaration."""

    @workflow("start.urgent", priority=50)
    def urgent(ctx: Context) -> None:
        pass

    assert WorkflowRun.objects.get(id=urgent.using(priority=0).start()).priority == 0


def test_attributes_are_published_from_the_start() -> None:
    """Attributes given at the start are shown by `status()` and found by queries before anything has run."""
    run_id = one_step.using(attributes={"customer": 7, "tags": ["a"], "paid": None}).start("a")
    other = one_step.using(attributes={"customer": 8}).start("b")
    assert one_step.status(run_id).attributes == {"customer": 7, "tags": ["a"], "paid": None}
    assert list(one_step.runs.with_attributes(customer=7)) == [WorkflowRun.objects.get(id=run_id)]
    assert list(one_step.runs.with_attributes(customer=8)) == [WorkflowRun.objects.get(id=other)]


def test_rerun_begins_with_the_first_attributes() -> None:
    """What the body has published since is not part of a run's input."""

    @workflow("start.attributes")
    def flow(ctx: Context) -> None:
        ctx.set_attributes(phase="done", customer=9)

    run_id = flow.using(attributes={"customer": 7}).start()
    run_until_idle()
    assert flow.status(run_id).attributes == {"customer": 9, "phase": "done"}
    assert flow.status(flow.rerun(run_id)).attributes == {"customer": 7}


def test_rerun_takes_everything_but_the_key() -> None:
    """`rerun` starts a new run with the same input, queue, priority, subject and timeout, and without the key."""
    subject = Effect.objects.create(name="order")
    options = {"queue": "slow", "priority": 4, "timeout": 60, "subject": subject}
    run_id = one_step.using(key="order-7", **options).start("again")
    run_until_idle()
    new = WorkflowRun.objects.get(id=one_step.rerun(run_id))
    assert new.id != run_id
    assert (new.queue, new.priority, new.timeout, new.subject, new.key) == ("slow", 4, 60.0, subject, None)
    run_until_idle()
    assert one_step.result(new.id) == "again"
    assert noted == ["again", "again"]


# -- subjects --------------------------------------------------------------------------------------


def test_a_run_is_linked_to_its_subject() -> None:
    """`subject` links a run to any saved object; `for_subject` finds the runs of one."""
    mine, other = Effect.objects.create(name="mine"), Effect.objects.create(name="other")
    run_id = one_step.using(subject=mine).start("a")
    one_step.using(subject=other).start("b")
    one_step.start("c")
    assert [run.id for run in WorkflowRun.objects.for_subject(mine)] == [run_id]
    assert WorkflowRun.objects.get(id=run_id).subject == mine


def test_a_subject_may_have_any_primary_key() -> None:
    """An object whose key is a UUID is found again as one whose key is a number is."""
    subject = WorkflowRun.objects.get(id=one_step.start("subject"))
    run_id = one_step.using(subject=subject).start("a")
    assert WorkflowRun.objects.get(id=run_id).subject == subject
    assert [run.id for run in one_step.runs.for_subject(subject)] == [run_id]


def test_a_deleted_subject_leaves_the_run() -> None:
    """Deleting the subject deletes no run: it runs on, and its subject is `None`."""
    subject = Effect.objects.create(name="order")
    run_id = one_step.using(subject=subject).start("a")
    subject.delete()
    run_until_idle()
    run = WorkflowRun.objects.get(id=run_id)
    assert (run.state, run.subject) == ("completed", None)


# -- many at once ----------------------------------------------------------------------------------


def test_start_many_starts_one_run_per_tuple() -> None:
    """Ids come back in the order of the arguments, and each run has its own."""
    ids = one_step.start_many((label,) for label in ("a", "b", "c"))
    run_until_idle()
    assert [one_step.result(run_id) for run_id in ids] == ["a", "b", "c"]
    assert ids == sorted(ids)


def test_start_many_asks_the_database_in_bulk() -> None:
    """A thousand runs take a handful of statements, not a thousand."""
    with CaptureQueriesContext(connection) as queries:
        ids = one_step.start_many((str(number),) for number in range(1000))
    assert len(set(ids)) == WorkflowRun.objects.count() == 1000
    # SQLite limits the parameters of one statement, so Django cuts the rows in pieces.
    assert len(queries) < 100


def test_start_many_of_nothing_is_nothing() -> None:
    """No arguments, no runs."""
    assert one_step.start_many([]) == []
    assert not WorkflowRun.objects.exists()


def test_start_many_is_all_or_nothing() -> None:
    """One argument that cannot be stored, however late it comes, and none of the runs exists."""
    with pytest.raises(NotSerializable, match=r"the arguments of workflow 'start\.echo'"):
        echo.start_many([(1,), (2,), (object(),)])
    with pytest.raises(NotSerializable):
        echo.start_many((number,) if number < 2500 else (object(),) for number in range(2501))
    assert not WorkflowRun.objects.exists()


@pytest.mark.once
@pytest.mark.parametrize("item", ["ab", 7, ["a"], {"label": "a"}, None])
def test_start_many_takes_tuples_only(item: Any) -> None:
    """A string is no tuple of characters: anything but a tuple is refused, and nothing is started."""
    with pytest.raises(TypeError, match=f"start_many takes tuples of arguments, not {type(item).__name__}"):
        one_step.start_many([("a",), item])
    assert not WorkflowRun.objects.exists()


@pytest.mark.once
def test_start_many_uses_the_declaration_s_defaults() -> None:
    """Version, queue, priority and timeout are those of the workflow."""

    @workflow("start.many", version="3", queue="bulk", priority=-1, timeout=5)
    def flow(ctx: Context) -> None:
        pass

    run = WorkflowRun.objects.get(id=flow.start_many([()])[0])
    assert (run.version, run.queue, run.priority, run.timeout) == ("3", "bulk", -1, 5.0)


# -- order -----------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_c112_larger_priorities_go_first_and_the_oldest_within_one() -> None:
    """Runs are taken by priority, larger first; within one the oldest goes first; unset is 0."""
    started = [("low", -10), ("unset", None), ("zero", 0), ("high", 10), ("top", 100), ("high again", 10)]
    for label, priority in started:
        one_step.using(priority=priority).start(label)
    run_until_idle()
    assert noted == ["top", "high", "high again", "unset", "zero", "low"]


@pytest.mark.django_db(transaction=True)
def test_c112_runs_under_way_precede_a_backlog() -> None:
    """Within a priority a run that wakes goes before all that were started after it."""

    @workflow("start.under-way")
    def older(ctx: Context) -> None:
        ctx.sleep("nap", HOUR)
        ctx.step("note", note, "older")

    older.start()
    run_until_idle()
    for number in range(3):
        one_step.using(delay=HOUR).start(f"backlog {number}")
    advance(2 * HOUR)
    assert noted == ["older", "backlog 0", "backlog 1", "backlog 2"]


# -- async twins -----------------------------------------------------------------------------------


def test_the_async_twins_start_too() -> None:
    """`astart` and `astart_many`, with options too, do what their plain twins do."""

    async def start() -> tuple[UUID, UUID, list[UUID]]:
        one = await one_step.astart("one")
        two = await one_step.using(key="two", priority=5).astart("two")
        assert await one_step.using(key="two").astart("two") == two
        assert (await one_step.astatus(one)).state == "pending"
        return one, two, await one_step.astart_many([("three",), ("four",)])

    one, two, many = async_to_sync(start)()
    run_until_idle()
    assert [one_step.result(run_id) for run_id in (one, two, *many)] == ["one", "two", "three", "four"]


def test_every_call_about_a_run_has_an_async_twin() -> None:
    """Control calls and events from async code, through the workflow and through `canx_flow.client`."""

    @workflow("start.twins")
    def flow(ctx: Context) -> Any:
        return ctx.wait_for("answer", "answer", timeout=HOUR)

    async def ask(run_id: UUID) -> None:
        assert await flow.apause(run_id)
        assert (await client.aget_run(str(run_id))).state == "paused"
        assert await flow.aresume(run_id)
        assert await client.apause(run_id)
        assert await client.aresume(run_id)
        assert await flow.asend(run_id, "answer", 42, dedup_id="1")
        assert not await client.asend(run_id, "answer", 42, dedup_id="1")
        assert await client.asend_event("news")

    async def after(run_id: UUID) -> UUID:
        assert await flow.aresult(run_id) == 42
        again = await flow.arerun(run_id)
        other = await client.arerun(run_id)
        assert await flow.acancel(again, "enough")
        assert await client.acancel(other)
        assert not await flow.awake(again)
        assert not await client.awake(other)
        with pytest.raises(RunNotFound):
            await client.aget_run("no uuid")
        return again

    run_id = flow.start()
    run_until_idle()
    async_to_sync(ask)(run_id)
    run_until_idle()
    again = async_to_sync(after)(run_id)
    assert flow.status(again).reason == "enough"


# -- inside a step ---------------------------------------------------------------------------------


def _crash_once(crashed: list[int]) -> None:
    """The worker dies here, the first time."""
    if not crashed:
        crashed.append(1)
        raise _Crash


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_repeated_step_neither_starts_nor_sends_twice(asynchronous: bool) -> None:
    """Inside a step, starts and events have keys of the step's own: after a crash they are the same runs and events."""
    crashed: list[int] = []
    receiver = echo.using(delay=HOUR).start()

    def work() -> list[Any]:
        made: list[Any] = [one_step.start("a"), one_step.start("a"), *one_step.start_many([("b",), ("c",)])]
        made.append(one_step.rerun(made[0]))
        sent = [echo.send(receiver, "news"), echo.send(receiver, "news"), send_event("news"), send_event("news")]
        _crash_once(crashed)
        return [made, sent]

    @workflow("start.in-step")
    def plain(ctx: Context) -> Any:
        return ctx.step("work", work)

    @workflow("start.in-step-async")
    async def awaited(ctx: AsyncContext) -> Any:
        return await ctx.step("work", work)

    flow: Any = awaited if asynchronous else plain
    run_id = flow.start()
    with pytest.raises(_Crash):
        run_until_idle()
    before = set(one_step.runs.values_list("id", flat=True))
    assert len(before) == 5
    assert Event.objects.count() == 4
    run_until_idle()
    made, sent = flow.result(run_id)
    assert set(made) == before == set(one_step.runs.values_list("id", flat=True))
    assert sent == [False, False, False, False]
    assert Event.objects.count() == 4
    assert sorted(noted) == ["a", "a", "a", "b", "c"]


def test_a_retried_step_starts_nothing_twice() -> None:
    """The keys of a step's starts are those of every attempt, not of one."""

    def work() -> UUID:
        run_id = one_step.start("child")
        step = current_step()
        if step.attempt < 3:
            raise ConnectionError("after the start")
        return run_id

    @workflow("start.retried")
    def flow(ctx: Context) -> Any:
        return ctx.step("work", work, retry=Retry(initial=1, jitter=0))

    run_id = flow.start()
    advance(HOUR)
    assert one_step.runs.count() == 1
    assert flow.result(run_id) == one_step.runs.get().id
    assert noted == ["child"]


@pytest.mark.once
def test_the_default_key_of_a_step_says_what_is_called_and_how_often() -> None:
    """`<idempotency_key>:<content>:<n>`, for keys and dedup ids alike, n counting the calls of that content."""
    seen: list[str] = []
    receiver = echo.using(delay=HOUR).start()

    def work() -> None:
        step = current_step()
        seen.append(step.idempotency_key)
        for _ in range(2):
            one_step.start("a")
            echo.send(receiver, "news")
        one_step.start("b")

    @workflow("start.default-key")
    def flow(ctx: Context) -> None:
        ctx.step("work", work)

    flow.start()
    run_until_idle()
    keys = [key.split(":") for key in one_step.runs.order_by("id").values_list("key", flat=True) if key]
    dedup_ids = [text.split(":") for text in Event.objects.order_by("id").values_list("dedup_id", flat=True) if text]
    assert {own for own, _, _ in keys + dedup_ids} == {seen[0]}
    assert [count for _, _, count in keys] == ["1", "2", "1"]
    assert [count for _, _, count in dedup_ids] == ["1", "2"]
    assert [content == keys[0][1] for _, content, _ in keys] == [True, True, False]


def test_a_repeated_step_that_asks_what_is_left_loses_nothing() -> None:
    """What it has done before the crash is not done twice, and nothing else is taken for that."""
    left = ["a", "b", "c"]
    receiver = echo.using(delay=HOUR).start()
    crashed: list[int] = []

    def work() -> list[Any]:
        made: list[Any] = []
        for label in list(left):
            made.append([one_step.start(label), echo.send(receiver, "label", label), send_event("label", label)])
            if label == "b":
                _crash_once(crashed)  # "b" is done, and not noted as done.
            left.remove(label)
        return made

    @workflow("start.what-is-left")
    def flow(ctx: Context) -> Any:
        return ctx.step("work", work)

    run_id = flow.start()
    with pytest.raises(_Crash):
        run_until_idle()
    run_until_idle()
    again, first = flow.result(run_id)
    assert again[1:] == [False, False]
    assert first[1:] == [True, True]
    assert sorted(noted) == ["a", "b", "c"]
    assert Event.objects.count() == 6


@pytest.mark.parametrize(
    ("one", "other", "runs"),
    [
        ({"queue": "north"}, {"queue": "south"}, 2),
        ({"attributes": {"tenant": 7, "plan": "pro"}}, {"attributes": {"tenant": 8, "plan": "pro"}}, 2),
        ({"attributes": {"tenant": 7, "plan": "pro"}}, {"attributes": {"plan": "pro", "tenant": 7}}, 1),
        ({"delay": HOUR}, {"delay": HOUR / 2}, 1),
        ({"run_at": START + HOUR}, {"run_at": START + 2 * HOUR}, 1),
        ({"priority": 1, "timeout": 5}, {"priority": 2}, 1),
    ],
)
def test_what_a_run_is_about_and_where_it_runs_tell_starts_apart(
    one: dict[str, Any], other: dict[str, Any], runs: int
) -> None:
    """Other options are another start; another moment is not, as a repeated step may have reckoned it anew."""
    options = [one, other]

    def work() -> None:
        one_step.using(**options.pop(0)).start("a")
        if options:
            raise ConnectionError("after the start")

    @workflow("start.options-in-step")
    def flow(ctx: Context) -> Any:
        return ctx.step("work", work, retry=Retry(initial=1, jitter=0))

    flow.start()
    run_until_idle()
    advance(1)
    assert not options
    assert one_step.runs.count() == runs


def test_runs_about_two_objects_are_two() -> None:
    """The subject is part of what is started, also where no argument says it."""
    left = [Effect.objects.create(name="one"), Effect.objects.create(name="two")]

    def work() -> None:
        echo.using(subject=left.pop(0)).start()
        if left:
            raise ConnectionError("after the first")

    @workflow("start.subject-in-step")
    def flow(ctx: Context) -> Any:
        return ctx.step("work", work, retry=Retry(initial=1, jitter=0))

    flow.start()
    advance(HOUR)
    assert set(echo.runs.values_list("subject_id", flat=True)) == {str(row.pk) for row in Effect.objects.all()}


def test_calls_made_side_by_side_in_an_async_step_are_told_by_content() -> None:
    """In whatever order they are stored: called again in another order, they find the same runs."""
    labels = ["a", "b", "b", "c", "c", "c"]
    started: list[dict[str, set[UUID]]] = []

    async def work() -> None:
        made = await asyncio.gather(*(one_step.astart(label) for label in labels))
        by_label: dict[str, set[UUID]] = {}
        for label, run_id in zip(labels, made, strict=True):
            by_label.setdefault(label, set()).add(run_id)
        started.append(by_label)
        if len(started) == 1:
            labels.reverse()
            raise ConnectionError("after the starts")

    @workflow("start.side-by-side")
    async def flow(ctx: AsyncContext) -> Any:
        return await ctx.step("work", work, retry=Retry(initial=1, jitter=0))

    flow.start()
    advance(HOUR)
    assert one_step.runs.count() == len(labels)
    assert started[0] == started[1]
    assert {label: len(ids) for label, ids in started[0].items()} == {"a": 1, "b": 2, "c": 3}


def test_a_call_that_failed_is_not_counted() -> None:
    """A step may catch a database's error and call again: repeated without the error, it starts nothing twice."""
    attempts: list[UUID] = []

    def refuse(*_: Any) -> None:
        raise OperationalError("lock wait timeout")

    def work() -> None:
        if not attempts:
            with pytest.raises(OperationalError), connection.execute_wrapper(refuse):
                one_step.start("a")
        attempts.append(one_step.start("a"))
        if len(attempts) == 1:
            raise ConnectionError("after the start")

    @workflow("start.caught-in-step")
    def flow(ctx: Context) -> Any:
        return ctx.step("work", work, retry=Retry(initial=1, jitter=0))

    flow.start()
    advance(HOUR)
    assert len(attempts) == 2
    assert attempts[0] == attempts[1]
    assert one_step.runs.count() == 1


@pytest.mark.parametrize("value", [5, ["b", "a"], {"$dict": None}])
def test_attributes_of_a_start_in_a_step_may_have_any_name(value: Any) -> None:
    """They are plain JSON: a name that begins with a dollar is no tag, and a list's order says something."""

    def work() -> None:
        one_step.using(attributes={"$set": value}).start("a")
        one_step.using(attributes={"$set": ["a", "b"]}).start("a")

    @workflow("start.attributes-in-step")
    def flow(ctx: Context) -> Any:
        return ctx.step("work", work, retry=Retry(max_attempts=1))

    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "completed"
    assert [run.attributes["$set"] for run in one_step.runs.order_by("id")] == [value, ["a", "b"]]


def test_the_order_of_a_set_or_a_dict_tells_no_calls_apart() -> None:
    """Sets of text come in another order in each process: a step repeated by another worker makes the same call."""
    values = [{"sizes": {"a", "b"}, "of": 1}, {"of": 1, "sizes": {"b", "a"}}]

    def work() -> None:
        echo.start(values.pop(0))
        if values:
            raise ConnectionError("after the start")

    @workflow("start.set-in-step")
    def flow(ctx: Context) -> Any:
        return ctx.step("work", work, retry=Retry(initial=1, jitter=0))

    flow.start()
    advance(HOUR)
    assert echo.runs.count() == 1


def test_a_key_of_one_s_own_counts_in_a_step_too() -> None:
    """A key that is given is the key, in a step as elsewhere."""
    given = one_step.using(key="order-7").start("outside")

    @workflow("start.own-key")
    def flow(ctx: Context) -> Any:
        return ctx.step("work", lambda: one_step.using(key="order-7").start("inside"))

    run_id = flow.start()
    run_until_idle()
    assert flow.result(run_id) == given


def test_reject_is_about_keys_that_were_given() -> None:
    """A repeated step with `on_conflict="reject"` and no key of its own gets its run back; it was its own start."""
    crashed: list[int] = []

    def work() -> UUID:
        run_id = one_step.using(on_conflict="reject").start("a")
        _crash_once(crashed)
        return run_id

    @workflow("start.reject-in-step")
    def flow(ctx: Context) -> Any:
        return ctx.step("work", work)

    run_id = flow.start()
    with pytest.raises(_Crash):
        run_until_idle()
    run_until_idle()
    assert flow.result(run_id) == one_step.runs.get().id


@pytest.mark.once
def test_two_items_of_a_loop_start_two_runs() -> None:
    """Every use of a step's name is a step of its own, with starts of its own."""

    @workflow("start.loop")
    def flow(ctx: Context) -> Any:
        return [ctx.step("work", lambda: one_step.start("a")) for _ in range(3)]

    run_id = flow.start()
    run_until_idle()
    assert len(set(flow.result(run_id))) == one_step.runs.count() == 3
