"""Forking a run: a new run that is given what another has stored before one of its steps, and runs the rest again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from asgiref.sync import async_to_sync
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from freezegun import freeze_time

from canx_flow import (
    AsyncContext,
    Context,
    NotSerializable,
    OutsideStep,
    Retry,
    RunNotFound,
    StepFailed,
    WaitTimeout,
    client,
    current_step,
    send_event,
    signals,
    workflow,
)
from canx_flow.client import forking
from canx_flow.core import codec, registry
from canx_flow.models import Event, RunKey, StepRecord, Timer, WorkflowRun
from canx_flow.store import claims, leases, pruning
from canx_flow.testing import advance, run_until_idle

from .elsewhere import elsewhere
from .kinds import awaited, each_kind, plain
from .models import Effect
from .store.locking import locked_runs

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ONCE = Retry(max_attempts=1)
calls: list[Any] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


def note(*what: Any) -> str:
    """What a step of these tests does."""
    calls.append(what)
    return "-".join(map(str, what))


@workflow("fork.order")
def order(ctx: Context, item: str = "tea", number: int = 1) -> list[str]:
    """Four steps, and what they returned."""
    return [ctx.step(name, note, name, item, number) for name in ("reserve", "charge", "ship", "tell")]


@workflow("fork.aorder")
async def aorder(ctx: AsyncContext, item: str = "tea", number: int = 1) -> list[str]:
    """The same, async."""
    return [await ctx.step(name, note, name, item, number) for name in ("reserve", "charge", "ship", "tell")]


BOTH = pytest.mark.parametrize("flow", [order, aorder], ids=["def", "async def"])


def row(run_id: UUID) -> WorkflowRun:
    """The run as it is stored."""
    return WorkflowRun.objects.get(id=run_id)


def names(run_id: UUID) -> list[str]:
    """The names of its records, in their order."""
    return list(StepRecord.objects.filter(run_id=run_id).order_by("seq").values_list("name", flat=True))


def stored(run_id: UUID) -> dict[str, list[dict[str, Any]]]:
    """Everything that is stored of a run."""
    tables: Any = {"records": StepRecord, "timers": Timer, "events": Event, "keys": RunKey}
    found = {name: list(table.objects.filter(run_id=run_id).order_by("pk").values()) for name, table in tables.items()}
    return {**found, "run": list(WorkflowRun.objects.filter(id=run_id).values())}


# -- what is copied, and what runs again -----------------------------------------------------------


@BOTH
def test_c091_earlier_steps_are_copied_and_the_rest_runs(flow: Any) -> None:
    """C091: a new id, the steps before the chosen one copied, that and all after it run again."""
    run_id = flow.start()
    run_until_idle()
    before = stored(run_id)
    calls.clear()
    fork_id = flow.fork(run_id, "ship")
    assert fork_id != run_id
    assert names(fork_id) == ["reserve", "charge"]
    run_until_idle()
    assert calls == [("ship", "tea", 1), ("tell", "tea", 1)]
    assert flow.status(fork_id).result == flow.status(run_id).result
    assert stored(run_id) == before


@BOTH
@pytest.mark.parametrize(("step", "again"), [("reserve", 4), ("charge", 3), ("ship", 2), ("tell", 1)])
def test_c091_from_each_step(flow: Any, step: str, again: int) -> None:
    """C091: whichever it is, as many steps run again as there are from it on."""
    run_id = flow.start()
    run_until_idle()
    calls.clear()
    fork_id = flow.fork(run_id, step)
    run_until_idle()
    assert len(calls) == again
    assert names(fork_id) == names(run_id)


@BOTH
def test_c091_both_runs_lead_to_each_other(flow: Any) -> None:
    """C091: the fork says where it comes from and at which step; the run has its forks."""
    run_id = flow.start()
    run_until_idle()
    first, second = flow.fork(run_id, "charge"), flow.fork(run_id, "ship")
    assert (row(first).forked_from, row(first).forked_at) == (row(run_id), "charge")
    assert [fork.id for fork in row(run_id).forks.order_by("id")] == [first, second]
    assert row(run_id).forked_from is None
    assert row(run_id).forked_at == ""


def test_copied_records_are_as_they_were() -> None:
    """Results, failures, attempts and moments, in the same order; what made them is not asked again."""
    tries: list[int] = []

    def flaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("not yet")
        return "at last"

    def broken() -> None:
        raise ValueError("never")

    @workflow("fork.records")
    def flow(ctx: Context) -> list[Any]:
        got: list[Any] = [ctx.now(), ctx.step("flaky", flaky, retry=Retry(initial=0))]
        try:
            ctx.step("broken", broken, retry=ONCE)
        except StepFailed as error:
            got.append((error.step, error.attempts, [each["message"] for each in error.errors]))
        ctx.sleep("nap", 1)
        try:
            ctx.wait_for("late", "never", timeout=0)
        except WaitTimeout as error:
            got.append(type(error).__name__)
        ctx.step("last", note, "last")
        return got

    run_id = flow.start()
    run_until_idle()
    advance(1)
    fork_id = flow.fork(run_id, "last")
    columns = [field.attname for field in StepRecord._meta.fields if field.attname not in ("id", "run_id", "epoch")]
    of = [list(StepRecord.objects.filter(run_id=each).order_by("seq").values(*columns)) for each in (run_id, fork_id)]
    assert of[1] == of[0][:-1]
    assert len(of[1]) == 5
    run_until_idle()
    assert flow.status(fork_id).result == flow.status(run_id).result
    assert len(tries) == 3


@BOTH
def test_a_failed_run_is_forked_from_the_step_that_failed(flow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all attempts anew; the failed run stays failed."""

    def refuses() -> None:
        calls.append("refused")
        if len(calls) == 1:
            raise ValueError("no")

    def failing(ctx: Any) -> Any:
        return ctx.step("refuses", refuses, retry=ONCE)

    async def afailing(ctx: Any) -> Any:
        return await ctx.step("refuses", refuses, retry=ONCE)

    made = workflow(f"{flow.name}.failing", afailing if flow is aorder else failing)
    run_id = made.start()
    run_until_idle()
    fork_id = made.fork(run_id, "refuses")
    run_until_idle()
    assert (made.status(run_id).state, made.status(fork_id).state) == ("failed", "completed")
    assert StepRecord.objects.get(run_id=fork_id).attempts == 1


@BOTH
@pytest.mark.parametrize(
    "state",
    ["pending", "sleeping", "waiting", "retrying", "paused", "parked", "failed", "cancelled", "completed", "stopping"],
)
def test_it_is_possible_in_any_state(flow: Any, state: str) -> None:
    """Whatever has become of the run, its records are what they are."""
    run_id = flow.start()
    run_until_idle()
    WorkflowRun.objects.filter(id=run_id).update(state=state, ready=False)
    fork_id = flow.fork(run_id, "ship")
    assert flow.status(run_id).state == state
    run_until_idle()
    assert flow.status(fork_id).state == "completed"


@each_kind
def test_it_is_possible_while_the_run_goes_on(kind: Any) -> None:
    """A running run keeps its owner and goes on undisturbed; the fork begins with what was stored by then."""

    async def body(ctx: Any, first: bool = True) -> str:
        await ctx.step("one", note, "one")
        await ctx.step("two", note, "two")
        if first:
            return str(await ctx.step("fork", lambda: itself.fork(current_step().run_id, "two", arguments=(False,))))
        return "forked"

    itself: Any = workflow(f"fork.itself.{kind.__name__}", kind(body))
    run_id = itself.start()
    run_until_idle()
    fork_id = UUID(itself.status(run_id).result)
    assert itself.status(fork_id).result == "forked"
    assert calls == [("one",), ("two",), ("two",)]


def test_what_was_not_over_begins_anew() -> None:
    """A sleep, a wait or a retry that was open before the step is not copied: the fork makes its own, and ends."""
    run_id = order.start()
    run_until_idle()
    for number, (kind, state) in enumerate([("step", "open"), ("sleep", "open"), ("wait", "due"), ("step", "started")]):
        StepRecord.objects.create(
            run_id=run_id, seq=-number, name=f"other-{number}", kind=kind, state=state, started_at=START
        )
    fork_id = order.fork(run_id, "charge")
    assert names(fork_id) == ["reserve"]
    assert not Timer.objects.exists()
    run_until_idle()
    assert order.status(fork_id).state == "completed"


def test_an_open_retry_is_forked_with_all_its_attempts() -> None:
    """The step that is being tried again begins with its first attempt."""

    def fails() -> None:
        calls.append(current_step().attempt)
        if len(calls) < 3:
            raise ValueError("twice")

    @workflow("fork.retried")
    def retried(ctx: Context) -> None:
        ctx.step("before", lambda: None)
        ctx.step("fails", fails, retry=Retry(initial=60, jitter=0))

    run_id = retried.start()
    run_until_idle()
    advance(60)
    assert retried.status(run_id).state == "retrying"
    fork_id = retried.fork(run_id, "fails")
    assert names(fork_id) == ["before"]
    run_until_idle()
    assert retried.status(fork_id).state == "completed"
    assert retried.status(run_id).state == "retrying"
    assert calls == [1, 2, 1]


@freeze_time(START)
def test_a_sleep_that_runs_again_sleeps_as_long_as_at_first() -> None:
    """Forked from a sleep that is over, or from one that is open, it is a new sleep."""

    @workflow("fork.sleeps")
    def sleeps(ctx: Context) -> None:
        ctx.step("before", note, "before")
        ctx.sleep("nap", HOUR)

    run_id = sleeps.start()
    run_until_idle()
    advance(HOUR / 2)
    early = sleeps.fork(run_id, "nap")
    advance(HOUR)
    late = sleeps.fork(run_id, "nap")
    run_until_idle()
    assert sleeps.status(early).state == "completed" or Timer.objects.filter(run_id=early).exists()
    assert Timer.objects.get(run_id=late).due_at == START + HOUR * 2.5
    advance(HOUR)
    assert {sleeps.status(each).state for each in (run_id, early, late)} == {"completed"}


# -- events ----------------------------------------------------------------------------------------


@workflow("fork.reads")
def reads(ctx: Context) -> list[Any]:
    """Reads an event of its own and a broadcast, twice."""
    got = [ctx.wait_for("mine", "mine"), ctx.wait_for("all", "all")]
    ctx.step("between", note, "between")
    return [*got, ctx.wait_for("mine", "mine"), ctx.wait_for("all", "all")]


@workflow("fork.areads")
async def areads(ctx: AsyncContext) -> list[Any]:
    """The same, async."""
    got = [await ctx.wait_for("mine", "mine"), await ctx.wait_for("all", "all")]
    await ctx.step("between", note, "between")
    return [*got, await ctx.wait_for("mine", "mine"), await ctx.wait_for("all", "all")]


def _forked_reader(reads: Any = reads) -> tuple[UUID, UUID]:
    run_id = reads.start()
    reads.send(run_id, "mine", 1, dedup_id="a")
    send_event("all", 2)
    run_until_idle()
    reads.send(run_id, "other", "unread")
    return run_id, reads.fork(run_id, "between")


@pytest.mark.parametrize("reads", [reads, areads], ids=["def", "async def"])
def test_events_that_were_read_are_not_read_again_and_unread_ones_stay(reads: Any) -> None:
    """What the copied waits have returned is returned again; the next waits wait for events of the fork's own."""
    run_id, fork_id = _forked_reader(reads)
    assert not Event.objects.filter(run_id=fork_id).exists()
    run_until_idle()
    assert reads.status(fork_id).step == "mine#2"
    assert reads.send(fork_id, "mine", 3, dedup_id="a")
    send_event("all", 4)
    run_until_idle()
    assert reads.status(fork_id).result == [1, 2, 3, 4]
    assert reads.status(run_id).step == "mine#2"


@freeze_time(START)
def test_a_broadcast_that_was_read_stays_read_though_the_fork_began_at_its_moment() -> None:
    """Copied waits say which broadcasts they have read."""
    _, fork_id = _forked_reader()
    reads.send(fork_id, "mine", 3)
    run_until_idle()
    assert reads.status(fork_id).step == "all#2"


def test_a_pruned_fork_takes_nothing_of_the_other_run_along() -> None:
    """The event that was sent to the other run is that one's: it still knows its dedup id."""
    run_id, fork_id = _forked_reader()
    run_until_idle()
    reads.cancel(fork_id)
    old = pruning.Old(datetime(2100, 1, 1, tzinfo=UTC))
    assert pruning.prune("default", old, 100, lambda _: None) == 1
    assert not reads.send(run_id, "mine", 1, dedup_id="a")
    assert not StepRecord.objects.filter(run_id=fork_id).exists()


# -- children --------------------------------------------------------------------------------------


@workflow("fork.child")
def child(ctx: Context, what: str = "") -> str:
    """Waits for a word, and returns it."""
    calls.append(("child", what))
    return f"{what} {ctx.wait_for('word', 'word')}"


@workflow("fork.parent")
def parent(ctx: Context) -> list[Any]:
    """Calls a child, spawns another, and reads that one's end after a step."""
    called = ctx.call("called", child, "called")
    handle = ctx.spawn("spawned", child, "spawned")
    ctx.step("between", note, "between")
    ctx.wait_for("go", "go")
    return [called, handle.result(), ctx.step("last", note, "last")]


@workflow("fork.aparent")
async def aparent(ctx: AsyncContext) -> list[Any]:
    """The same, async."""
    called = await ctx.call("called", child, "called")
    handle = await ctx.spawn("spawned", child, "spawned")
    await ctx.step("between", note, "between")
    await ctx.wait_for("go", "go")
    return [called, await handle.result(), await ctx.step("last", note, "last")]


PARENTS = pytest.mark.parametrize("flow", [parent, aparent], ids=["def", "async def"])


def _family(flow: Any) -> tuple[UUID, UUID]:
    """A parent whose called child has ended, and the child that it has spawned."""
    run_id = flow.start()
    run_until_idle()
    child.send(WorkflowRun.objects.get(parent=run_id).id, "word", "one")
    run_until_idle()
    return run_id, WorkflowRun.objects.filter(parent=run_id).latest("id").id


@PARENTS
@pytest.mark.parametrize("ended", ["before", "after"])
def test_a_copied_spawn_refers_to_the_same_child(flow: Any, ended: str) -> None:
    """Whether that has ended before the fork or ends after it: both read its end, and no child is started again."""
    run_id, spawned = _family(flow)
    if ended == "before":
        child.send(spawned, "word", "two")
        run_until_idle()
    fork_id = flow.fork(run_id, "between")
    run_until_idle()
    for each in (run_id, fork_id):
        flow.send(each, "go")
    run_until_idle()
    if ended == "after":
        assert {flow.status(each).state for each in (run_id, fork_id)} == {"waiting"}
        child.send(spawned, "word", "two")
        run_until_idle()
    assert flow.status(fork_id).result == flow.status(run_id).result == ["called one", "spawned two", "last"]
    assert WorkflowRun.objects.filter(workflow="fork.child").count() == 2
    assert child.status(spawned).parent_id == run_id


@PARENTS
@pytest.mark.parametrize("gone", [False, True], ids=["there", "pruned"])
def test_a_fork_of_a_fork_reads_the_end_of_the_child_that_neither_has_started(flow: Any, gone: bool) -> None:
    """Though the run that has started it has ended before, and the fork between them is gone."""
    run_id, spawned = _family(flow)
    first = flow.fork(run_id, "between")
    run_until_idle()
    second = flow.fork(first, "between")
    run_until_idle()
    flow.cancel(first)
    WorkflowRun.objects.filter(id=run_id).update(state="completed")
    if gone:
        WorkflowRun.objects.filter(id=first).delete()
    flow.send(second, "go")
    run_until_idle()
    child.send(spawned, "word", "two")
    run_until_idle()
    assert flow.status(second).result == ["called one", "spawned two", "last"]
    assert not Event.objects.filter(run_id=first, name__startswith="#end:").exists()


@PARENTS
def test_an_end_that_was_read_is_not_told_again(flow: Any) -> None:
    """Forked from a step behind it, the fork returns what was read, and no event is left to it."""
    run_id, spawned = _family(flow)
    flow.send(run_id, "go")
    child.send(spawned, "word", "two")
    run_until_idle()
    fork_id = flow.fork(run_id, "last")
    assert not Event.objects.filter(run_id=fork_id).exists()
    run_until_idle()
    assert flow.status(fork_id).result == flow.status(run_id).result
    assert WorkflowRun.objects.filter(workflow="fork.child").count() == 2


@PARENTS
def test_a_child_of_which_nothing_is_left_is_spawned_anew(flow: Any) -> None:
    """It was pruned: the fork would wait for its end for ever."""
    run_id, spawned = _family(flow)
    WorkflowRun.objects.filter(id=spawned).delete()
    fork_id = flow.fork(run_id, "between")
    assert names(fork_id) == ["called"]
    run_until_idle()
    flow.send(fork_id, "go")
    anew = WorkflowRun.objects.get(parent=fork_id)
    child.send(anew.id, "word", "two")
    run_until_idle()
    assert flow.status(fork_id).result == ["called one", "spawned two", "last"]


@PARENTS
def test_from_a_call_another_child_is_started(flow: Any) -> None:
    """That step and all after it run again: the fork's children are its own, and cancelled with it."""
    run_id, _ = _family(flow)
    fork_id = flow.fork(run_id, "called")
    run_until_idle()
    own = WorkflowRun.objects.get(parent=fork_id)
    assert own.state == "waiting"
    flow.cancel(fork_id)
    run_until_idle()
    assert child.status(own.id).state == "cancelled"
    assert flow.status(run_id).state == "waiting"
    assert WorkflowRun.objects.filter(parent=run_id, state="cancelled").count() == 0


def test_a_pruned_fork_takes_no_end_of_the_other_run_along() -> None:
    """The event by which the other run has read the end of a child stays with it."""
    run_id, _ = _family(parent)
    fork_id = parent.fork(run_id, "between")
    parent.cancel(fork_id)
    read = Event.objects.filter(run_id=run_id, consumed_at__isnull=False).count()
    assert read == 1
    old = pruning.Old(datetime(2100, 1, 1, tzinfo=UTC), workflows=["fork.parent"])
    assert pruning.prune("default", old, 100, lambda _: None) == 1
    assert Event.objects.filter(run_id=run_id, consumed_at__isnull=False).count() == 1


# -- what is published, and what is derived --------------------------------------------------------


@workflow("fork.publishes")
def publishes(ctx: Context) -> None:
    """Sets attributes between its steps."""
    ctx.set_attributes(stage="begun", first=1)
    ctx.step("one", note, "one")
    ctx.set_attributes(stage="one", one=True)
    ctx.step("two", note, "two")
    ctx.set_attributes(stage="two", two=True)
    ctx.wait_for("go", "go")
    ctx.set_attributes(stage="gone")
    ctx.step("three", note, "three")


@workflow("fork.apublishes")
async def apublishes(ctx: AsyncContext) -> None:
    """The same, async."""
    ctx.set_attributes(stage="begun", first=1)
    await ctx.step("one", note, "one")
    ctx.set_attributes(stage="one", one=True)
    await ctx.step("two", note, "two")
    ctx.set_attributes(stage="two", two=True)
    await ctx.wait_for("go", "go")
    ctx.set_attributes(stage="gone")
    await ctx.step("three", note, "three")


@pytest.mark.parametrize("flow", [publishes, apublishes], ids=["def", "async def"])
def test_c092_published_values_are_those_at_the_step(flow: Any) -> None:
    """C092: none that the run has set later; with the fork's first record all that the body had set up to there."""
    run_id = flow.using(attributes={"plan": "pro"}).start()
    run_until_idle()
    flow.send(run_id, "go")
    run_until_idle()
    assert flow.status(run_id).attributes == {"plan": "pro", "stage": "gone", "first": 1, "one": True, "two": True}
    fork_id = flow.fork(run_id, "go")
    assert flow.status(fork_id).attributes == {"plan": "pro"}
    run_until_idle()
    status = flow.status(fork_id)
    assert status.state == "waiting"
    assert status.attributes == {"plan": "pro", "stage": "two", "first": 1, "one": True, "two": True}


@each_kind
def test_c092_a_step_sees_what_was_published_before_it(kind: Any) -> None:
    """C092: when the first step that runs again is stored, the attributes are those that it had the first time."""
    seen: list[Any] = []

    async def body(ctx: Any) -> None:
        ctx.set_attributes(stage="one")
        await ctx.step("one", note, "one")
        ctx.set_attributes(stage="two")
        await ctx.step("two", note, "two")
        await ctx.step("look", lambda: seen.append(client.get_run(current_step().run_id).attributes))
        ctx.set_attributes(stage="three")

    flow: Any = workflow(f"fork.seen.{kind.__name__}", kind(body))
    run_id = flow.start()
    run_until_idle()
    flow.fork(run_id, "two")
    run_until_idle()
    assert seen == [{"stage": "two"}] * 2


def test_what_the_run_derived_is_derived_again() -> None:
    """UUIDs and random numbers decide what a body does: in a fork they are the same; its idempotency keys are not."""
    keys: list[str] = []

    def pay() -> None:
        keys.append(current_step().idempotency_key)

    @workflow("fork.derives")
    def derives(ctx: Context) -> list[Any]:
        found = [ctx.uuid("order"), ctx.random.random()]
        for number in range(ctx.random.randint(2, 50)):
            ctx.step(f"part-{number}", note, number)
        ctx.step("pay", pay)
        return [*found, ctx.uuid("late"), ctx.random.random()]

    run_id = derives.start()
    run_until_idle()
    steps = len(calls)
    fork_id = derives.fork(run_id, "pay")
    fork_of_fork = derives.fork(fork_id, "part-1")
    run_until_idle()
    assert derives.status(fork_id).result == derives.status(run_id).result
    assert derives.status(fork_of_fork).result == derives.status(run_id).result
    assert len(calls) == steps + steps - 1
    assert len(set(keys)) == 3
    again = derives.fork(fork_id, "pay")
    run_until_idle()
    assert derives.status(again).result == derives.status(run_id).result
    assert row(again).forked_from_id == fork_id


# -- arguments, version, queue ---------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("cups",), "ship-cups-1"),
        (("cups", 2), "ship-cups-2"),
        ((("cups",), {"number": 3}), "ship-cups-3"),
        (((), {"number": 4}), "ship-tea-4"),
        ((), "ship-tea-1"),
    ],
)
def test_arguments_take_the_place_of_the_runs_own(flow: Any, given: tuple[Any, ...], expected: str) -> None:
    """A tuple, or a tuple and a dict; the steps before still have what they had then."""
    run_id = flow.start("pot", 9)
    run_until_idle()
    fork_id = flow.fork(run_id, "ship", arguments=given)
    run_until_idle()
    assert flow.status(fork_id).result[:3] == ["reserve-pot-9", "charge-pot-9", expected]


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (("a", 1, "more"), TypeError, "fork.order"),
        (((), {"size": 1}), TypeError, "fork.order"),
        (["a"], TypeError, "arguments must be a tuple, or a tuple and a dict, not list"),
        ("ab", TypeError, "not str"),
        ((object(),), NotSerializable, "the arguments of a fork of 'fork.order'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_at_the_call(given: Any, error: type[Exception], said: str) -> None:
    """And nothing is stored."""
    run_id = order.start()
    run_until_idle()
    with pytest.raises(error, match=said):
        order.fork(run_id, "ship", arguments=given)
    assert WorkflowRun.objects.count() == 1


def _versions(kind: Any, name: str) -> tuple[Any, Any, Any]:
    """The first code, the next one, and code that takes another argument."""

    async def first(ctx: Any, item: str) -> str:
        await ctx.step("one", note, "one")
        return str(await ctx.step("two", note, "old", item))

    async def second(ctx: Any, item: str) -> str:
        await ctx.step("one", note, "one")
        return str(await ctx.step("two", note, "new", item))

    async def third(ctx: Any, item: str, number: int) -> str:
        return str(await ctx.step("two", note, "newest", item, number))

    one, two, three = (workflow(name, kind(body), version=str(n)) for n, body in enumerate((first, second, third), 1))
    return one, two, three


VERSIONS = [_versions(plain, "fork.versions")[0], _versions(awaited, "fork.aversions")[0]]
each_first_version = pytest.mark.parametrize("version1", VERSIONS, ids=["def", "async def"])


@each_first_version
def test_c093_it_runs_where_it_is_told_to(version1: Any) -> None:
    """C093: another version's code, in another queue; what is not given is the run's own."""
    run_id = version1.using(queue="slow", priority=7).start("tea")
    run_until_idle()
    newer, same = version1.fork(run_id, "two", version="2", queue="quick"), version1.fork(run_id, "two")
    run_until_idle()
    assert (row(newer).version, row(newer).queue, row(newer).priority) == ("2", "quick", 7)
    assert (row(same).version, row(same).queue, row(same).priority) == ("1", "slow", 7)
    assert [version1.status(each).result for each in (run_id, newer, same)] == ["old-tea", "new-tea", "old-tea"]
    assert calls.count(("one",)) == 1


@each_first_version
def test_c093_the_arguments_must_fit_the_other_version(version1: Any) -> None:
    """C093: the run's own are checked, too, where another version is to take them."""
    run_id = version1.start("tea")
    run_until_idle()
    with pytest.raises(TypeError, match=rf"{version1.name}@3"):
        version1.fork(run_id, "two", version="3")
    fork_id = version1.fork(run_id, "two", version="3", arguments=("tea", 2))
    run_until_idle()
    assert version1.status(fork_id).result == "newest-tea-2"
    with pytest.raises(ValueError, match=rf"knows no workflow '{version1.name}@4'"):
        version1.fork(run_id, "two", version="4")
    with pytest.raises(ValueError, match=rf"knows no workflow '{version1.name}'"):
        version1.fork(run_id, "two", version="")
    assert WorkflowRun.objects.count() == 2


@each_first_version
def test_arguments_that_cannot_be_decoded_are_the_runs_own_matter(version1: Any) -> None:
    """The other version cannot be asked whether it takes them: so says the fork when it begins."""
    run_id = version1.start("tea")
    run_until_idle()
    WorkflowRun.objects.filter(id=run_id).update(arguments='[[{"$gone": 1}],{}]')
    with pytest.raises(codec.NotDecodable):
        codec.loads(row(run_id).arguments)
    fork_id = version1.fork(run_id, "two", version="2")
    run_until_idle()
    assert version1.status(fork_id).reason == "NotDecodable"


# -- what a fork has of the run, and what not ------------------------------------------------------


@freeze_time(START)
@each_kind
def test_key_deadline_and_control_are_not_copied(kind: Any) -> None:
    """The timeout is: the fork's deadline is counted from its own first activation."""

    async def body(ctx: Any) -> None:
        await ctx.step("one", note, "one")
        await ctx.sleep("nap", HOUR / 2)
        await ctx.step("two", note, "two")

    late: Any = workflow(f"fork.late.{kind.__name__}", kind(body), timeout=HOUR)
    effect = Effect.objects.create(name="subject")
    run_id = late.using(key="k", subject=effect, priority=3, attributes={"a": 1}).start()
    run_until_idle()
    late.pause(run_id, "for a while", by="root")
    fork_id = late.fork(run_id, "nap", "to see", by="ada")
    run = row(fork_id)
    assert (run.key, run.deadline_at, run.parent_id, run.subject, run.priority) == (None, None, None, effect, 3)
    assert (run.control, run.control_reason, run.control_by) == ("fork", "to see", "ada")
    assert (run.state, run.timeout, run.attributes) == ("pending", 3600.0, {"a": 1})
    advance(HOUR / 4)
    assert row(fork_id).deadline_at == START + HOUR
    advance(HOUR)
    assert late.status(fork_id).state == "completed"
    assert late.using(key="k").start() == run_id


def test_a_child_is_forked_without_its_parent() -> None:
    """Nobody waits for the fork's end."""
    run_id = order.start()
    run_until_idle()
    WorkflowRun.objects.filter(id=run_id).update(parent=uuid4())
    assert row(order.fork(run_id, "ship")).parent_id is None


def test_a_run_that_has_continued_is_forked_within_its_generation() -> None:
    """With that generation's arguments, and the attributes that it has begun with."""

    @workflow("fork.continues")
    def continues(ctx: Context, number: int = 0) -> Any:
        ctx.set_attributes(**{f"set-{number}": True})
        found = ctx.step("one", note, number)
        ctx.set_attributes(last=number)
        if number < 2:
            ctx.continue_as_new(number + 1)
        ctx.step("two", note, number)
        return [found, ctx.uuid("late")]

    run_id = continues.start()
    run_until_idle()
    fork_id = continues.fork(run_id, "two")
    assert row(fork_id).attributes == {"set-0": True, "set-1": True, "last": 1}
    run_until_idle()
    status = continues.status(fork_id)
    assert (status.result, status.generation) == (continues.status(run_id).result, 2)
    assert status.attributes == continues.status(run_id).attributes


def test_a_fork_that_continues_is_a_run_of_its_own_from_then_on() -> None:
    """Its next generation derives nothing from the run that it was forked from."""

    @workflow("fork.goes-on")
    def goes_on(ctx: Context, seen: list[UUID] | None = None) -> list[UUID]:
        found = [*(seen or []), ctx.uuid("order")]
        ctx.step("one", note, len(found))
        ctx.wait_for("go", "go")
        if len(found) < 2:
            ctx.continue_as_new(found)
        return found

    run_id = goes_on.start()
    run_until_idle()
    runs = [run_id, goes_on.fork(run_id, "one")]
    assert row(runs[1]).seed == run_id
    for _ in range(2):
        run_until_idle()
        for each in runs:
            goes_on.send(each, "go")
    run_until_idle()
    assert [(row(each).generation, row(each).seed) for each in runs] == [(1, None)] * 2
    first, second = zip(*(goes_on.status(each).result for each in runs), strict=True)
    assert first[0] == first[1]
    assert second[0] != second[1]


# -- its beginning ---------------------------------------------------------------------------------


def test_its_first_activation_starts_it() -> None:
    """`run_started` is sent for it, once, though it has records: fresh is who was never claimed."""
    heard: list[tuple[str, UUID]] = []

    def started(run_id: UUID, **_: Any) -> None:
        heard.append(("started", run_id))

    def resumed(run_id: UUID, **_: Any) -> None:
        heard.append(("resumed", run_id))

    signals.run_started.connect(started)
    signals.run_resumed.connect(resumed)
    try:
        run_id = publishes.start()
        run_until_idle()
        fork_id = publishes.fork(run_id, "two")
        run_until_idle()
        publishes.send(fork_id, "go")
        run_until_idle()
    finally:
        signals.run_started.disconnect(started)
        signals.run_resumed.disconnect(resumed)
    assert heard == [("started", run_id), ("started", fork_id), ("resumed", fork_id)]


def test_a_claim_knows_that_a_fork_has_records() -> None:
    """Beside a run that begins with nothing, for which none are loaded."""
    run_id = order.start()
    run_until_idle()
    fork_id, plain = order.fork(run_id, "ship"), order.start()
    owner = leases.register(host="here", pid=1, workflows=registry.identities()).id
    runs = {run.id: run for run in claims.claim(connections["default"], owner, 5, registry.identities())}
    assert {run.id: (run.fresh, run.blank, run.seed) for run in runs.values()} == {
        fork_id: (True, False, run_id),
        plain: (True, True, plain),
    }
    claims.load(connections["default"], list(runs.values()))
    assert sorted(runs[fork_id].journal.records) == ["charge", "reserve"]  # type: ignore[union-attr]
    assert runs[plain].journal is None


def test_results_pass_through_the_database_alone() -> None:
    """One statement copies the records, whatever their number, and no result is read."""

    @workflow("fork.large")
    def large(ctx: Context) -> None:
        for number in range(20):
            ctx.step(f"s{number}", lambda: "x" * 10_000)
        ctx.step("last", note, "last")

    run_id = large.start()
    run_until_idle()
    with CaptureQueriesContext(connections["default"]) as queries:
        fork_id = large.fork(run_id, "last")
    assert len(names(fork_id)) == 20
    assert sum("steprecord" in query["sql"] for query in queries) == 4
    assert not any("x" * 100 in query["sql"] for query in queries)
    assert len(queries) <= 12


# -- refused ---------------------------------------------------------------------------------------


def test_an_unknown_step_is_refused_and_those_there_are_are_named() -> None:
    """The nearest first."""
    run_id = order.start()
    run_until_idle()
    with pytest.raises(ValueError, match=r"has no step 'chrage': there are 'charge', 'reserve', 'ship', 'tell'$"):
        order.fork(run_id, "chrage")
    with pytest.raises(ValueError, match="has no step 'ship#2'"):
        order.fork(run_id, "ship#2")
    pending = order.start()
    with pytest.raises(ValueError, match="has no step 'ship': it has stored none yet"):
        order.fork(pending, "ship")
    assert WorkflowRun.objects.count() == 2


def test_of_many_steps_the_first_are_named() -> None:
    """Engine-owned records are none that anybody would ask for."""

    @workflow("fork.many")
    def many(ctx: Context) -> None:
        for _ in range(30):
            ctx.now()
            ctx.step("step", note, 1)

    run_id = many.start()
    run_until_idle()
    with pytest.raises(ValueError, match=r"'step#7'.*, and 10 more$") as error:
        many.fork(run_id, "step#77")
    assert "#now" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"from_step": ""}, ValueError, "from_step must not be empty"),
        ({"from_step": 7}, TypeError, "from_step must be a str"),
        ({"from_step": "ship", "queue": ""}, ValueError, "queue"),
        ({"from_step": "ship", "version": "x" * 101}, ValueError, "version"),
        ({"from_step": "ship", "version": 2}, TypeError, "version"),
        ({"from_step": "ship", "reason": 7}, TypeError, "reason"),
    ],
)
def test_bad_input_is_refused_by_name(arguments: dict[str, Any], error: type[Exception], said: str) -> None:
    """ValueError or TypeError, and nothing is stored."""
    run_id = order.start()
    run_until_idle()
    with pytest.raises(error, match=said):
        order.fork(run_id, **arguments)
    assert WorkflowRun.objects.count() == 1


def test_a_run_of_another_workflow_is_not_found() -> None:
    """Nor one that does not exist; whatever their workflow, `client.fork` takes them."""
    run_id = order.start()
    run_until_idle()
    with pytest.raises(RunNotFound):
        aorder.fork(run_id, "ship")
    with pytest.raises(RunNotFound):
        order.fork(uuid4(), "ship")
    with pytest.raises(RunNotFound):
        order.fork("no id", "ship")
    assert client.fork(str(run_id), "ship") != run_id


def test_it_is_refused_in_a_body_outside_a_step() -> None:
    """There it would happen again at every replay."""

    @workflow("fork.body")
    def body(ctx: Context) -> None:
        with pytest.raises(OutsideStep):
            order.fork(ctx.run_id, "ship")

    run_id = body.start()
    run_until_idle()
    assert body.status(run_id).state == "completed"


# -- transactions, steps, rivals -------------------------------------------------------------------


def test_it_has_an_async_twin() -> None:
    """`afork`, as every call."""
    run_id = order.start()
    run_until_idle()
    fork_id = async_to_sync(order.afork)(run_id, "ship", arguments=("cups",))
    run_until_idle()
    assert order.status(fork_id).result[2] == "ship-cups-1"


@pytest.mark.django_db(transaction=True)
def test_it_is_part_of_the_callers_transaction() -> None:
    """Rolled back, there is neither the run nor a record of it."""
    run_id = order.start()
    run_until_idle()
    with transaction.atomic():
        fork_id = order.fork(run_id, "ship")
        assert names(fork_id) == ["reserve", "charge"]
        transaction.set_rollback(True)
    assert WorkflowRun.objects.count() == 1
    assert StepRecord.objects.count() == 4


@pytest.mark.parametrize("flow", [order, aorder], ids=["def", "async def"])
def test_a_step_that_is_repeated_forks_once(flow: Any) -> None:
    """A default key of the step's own: another attempt finds the fork of the first one; another call makes another."""
    run_id = flow.start()
    run_until_idle()
    made: list[UUID] = []

    def forks() -> None:
        made.append(flow.fork(run_id, "ship"))
        made.append(flow.fork(run_id, "ship"))
        made.append(flow.fork(run_id, "charge", arguments=("cups",)))
        if len(made) == 3:
            raise ValueError("once more")

    @workflow(f"{flow.name}.forks")
    def repeated(ctx: Context) -> None:
        ctx.step("forks", forks, retry=Retry(initial=0))

    repeated.start()
    run_until_idle()
    assert len(made) == 6
    assert made[:3] == made[3:]
    assert len(set(made)) == 3
    assert row(run_id).forks.count() == 3
    assert {flow.status(each).state for each in made} == {"completed"}


@pytest.mark.django_db(transaction=True)
def test_the_other_runs_row_is_locked_meanwhile(tier: str) -> None:
    """Its owner could else begin a new generation between two statements, and the fork have half of one."""
    if tier == "sqlite":
        pytest.skip("one transaction at a time")
    run_id = order.start()
    run_until_idle()
    with locked_runs([run_id]):
        future = elsewhere(lambda: order.fork(run_id, "ship"))
        with pytest.raises(TimeoutError):
            future.result(timeout=0.3)
    assert names(future.result(timeout=10)) == ["reserve", "charge"]


# -- people ----------------------------------------------------------------------------------------


@pytest.mark.once
def test_the_longest_list_of_names_is_bounded() -> None:
    """An error is a line, not a page."""
    text = forking._unknown_step(uuid4(), "x", [f"step-{number}" for number in range(10_000)])
    assert len(text) < 1000
    assert text.endswith("and 9,980 more")
