"""`ctx.continue_as_new`: the same run, called anew with other arguments and without a history."""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from freezegun import freeze_time

from canx_flow import (
    AsyncContext,
    Context,
    NotAwaited,
    NotSerializable,
    PayloadTooLarge,
    RunFailed,
    WrongContext,
    current_step,
    send_event,
    workflow,
)
from canx_flow.core import registry
from canx_flow.core.changes import Change, Generation, Record, Settle
from canx_flow.models import Event, StepRecord, Timer, WorkflowRun
from canx_flow.replay.branch import Branch
from canx_flow.states import PENDING, Kind, RecordState
from canx_flow.store import claims, forgetting, leases, remembered, writes
from canx_flow.testing import advance, run_until_idle

from .kinds import each_kind
from .lost import LostAnswer, worker
from .models import Effect
from .observe.keeping import kept_lines
from .waiting import wait_until

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
calls: list[Any] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


@workflow("again.counts")
def counts(ctx: Context, most: int, number: int = 0) -> int:
    """One step in each generation."""
    ctx.step("count", calls.append, number)
    if number < most:
        ctx.continue_as_new(most, number + 1)
    return number


@workflow("again.acounts")
async def acounts(ctx: AsyncContext, most: int, number: int = 0) -> int:
    """The same, async."""
    await ctx.step("count", calls.append, number)
    if number < most:
        ctx.continue_as_new(most, number + 1)
    return number


BOTH = pytest.mark.parametrize("flow", [counts, acounts], ids=["def", "async def"])


def row(run_id: UUID) -> WorkflowRun:
    """The run as it is stored."""
    return WorkflowRun.objects.get(id=run_id)


# -- the same run, with an empty history -----------------------------------------------------------


@BOTH
def test_c134_the_same_run_begins_anew(flow: Any) -> None:
    """C134: the same id and key, new arguments, one generation more, and nothing left of the history."""
    run_id = flow.using(key="subscription-7", attributes={"plan": "pro"}).start(3)
    assert run_until_idle() == 4
    status = flow.status(run_id)
    assert (status.state, status.result, status.generation) == ("completed", 3, 3)
    assert calls == [0, 1, 2, 3]
    assert [record.name for record in StepRecord.objects.all()] == ["count"]
    assert flow.using(key="subscription-7").start(3) == run_id
    assert status.attributes == {"plan": "pro"}
    assert (row(run_id).arguments, row(run_id).continued_at) == ("[[3,3],{}]", row(run_id).continued_at)
    assert row(run_id).continued_at is not None


@BOTH
def test_it_never_returns(flow: Any) -> None:
    """Nothing behind it is executed, and a body that swallows what it raises is left all the same."""

    def swallows(ctx: Any, number: int = 0) -> str:
        if number == 0:
            with suppress(BaseException):
                ctx.continue_as_new(1)
            calls.append("behind")
            ctx.set_attributes(never="set")
        return "new" if number else "old"

    async def aswallows(ctx: Any, number: int = 0) -> str:
        return swallows(ctx, number)

    made = workflow(f"{flow.name}.swallows", aswallows if flow is acounts else swallows)
    run_id = made.start()
    run_until_idle()
    assert (made.status(run_id).result, made.status(run_id).generation) == ("new", 1)
    assert calls == ["behind"]
    assert made.status(run_id).attributes == {}


def test_a_step_of_a_new_generation_has_another_idempotency_key() -> None:
    """It is another step: the old one's key, UUIDs and random numbers are not its own."""

    @workflow("again.keys")
    def keys(ctx: Context, seen: list[Any] | None = None) -> list[Any]:
        step = ctx.step("pay", lambda: (current_step().idempotency_key, current_step().generation))
        found = [*(seen or []), (*step, ctx.uuid("order"), ctx.random.random())]
        if len(found) < 3:
            ctx.continue_as_new(found)
        return found

    run_id = keys.start()
    run_until_idle()
    found = keys.result(run_id)
    assert [generation for _, generation, _, _ in found] == [0, 1, 2]
    assert all(len({each[part] for each in found}) == 3 for part in (0, 2, 3))


def test_attributes_stay_and_are_those_that_the_generation_begins_with() -> None:
    """What a body has set stays, a rerun of the run begins with what this generation has begun with."""

    @workflow("again.attributes")
    def attributes(ctx: Context, number: int = 0) -> None:
        ctx.set_attributes(**{f"set-{number}": True}, last=number)
        if number < 2:
            ctx.continue_as_new(number + 1)

    run_id = attributes.using(attributes={"plan": "pro"}).start()
    run_until_idle()
    assert attributes.status(run_id).attributes == {
        "plan": "pro", "set-0": True, "set-1": True, "set-2": True, "last": 2,
    }  # fmt: skip
    rerun = attributes.rerun(run_id)
    assert row(rerun).arguments == "[[2],{}]"
    assert row(rerun).attributes == {"plan": "pro", "set-0": True, "set-1": True, "last": 1}
    assert row(rerun).generation == 0


def test_attributes_set_while_replaying_go_along() -> None:
    """A body that ends so while there are records that it does not come to has still set what it has set."""

    @workflow("again.replays")
    def replays(ctx: Context, number: int = 0) -> None:
        if number == 0:
            with suppress(BaseException):  # Recorded, and on the next replay not come to.
                ctx.sleep("nap", 10)
            if calls:
                ctx.set_attributes(done=True)
                ctx.continue_as_new(1)
            calls.append("slept")

    run_id = replays.start()
    run_until_idle()
    advance(10)
    assert replays.status(run_id).attributes == {"done": True}
    assert replays.status(run_id).generation == 1


@BOTH
def test_c134_subject_parent_queue_and_priority_stay(flow: Any) -> None:
    """C134: all that the run was started with but its arguments."""
    effect = Effect.objects.create(name="subject")
    run_id = flow.using(subject=effect, queue="slow", priority=7).start(1)
    parent = flow.start(0)
    WorkflowRun.objects.filter(id=run_id).update(parent=parent)
    created_at = row(run_id).created_at
    run_until_idle()
    run = row(run_id)
    assert (run.subject, run.queue, run.priority, run.parent_id) == (effect, "slow", 7, parent)
    assert (run.created_at, run.generation) == (created_at, 1)


def test_progress_reason_and_recoveries_begin_anew() -> None:
    """They told of the old generation."""

    @workflow("again.progress")
    def progresses(ctx: Context, number: int = 0) -> None:
        if number == 0:
            ctx.progress(3, 10)
            ctx.step("one", calls.append, 1)
            ctx.progress(4, 10)
            ctx.continue_as_new(1)
        ctx.sleep("nap", 10)

    run_id = progresses.start()
    WorkflowRun.objects.filter(id=run_id).update(recoveries=2, outages=1, reason="HistoryMismatch: before")
    run_until_idle()
    run = row(run_id)
    assert (run.state, run.progress, run.recoveries, run.outages, run.reason) == ("sleeping", None, 0, 0, "")


# -- timers ----------------------------------------------------------------------------------------


@freeze_time(START)
@each_kind
def test_c134_the_deadline_starts_anew(kind: Any) -> None:
    """C134: each generation has the whole time, counted from its first activation; the last one fails by it."""

    async def body(ctx: Any, number: int = 0) -> None:
        await ctx.sleep("nap", HOUR * 0.9 if number < 3 else HOUR * 2)
        ctx.continue_as_new(number + 1)

    late: Any = workflow(f"again.late.{kind.__name__}", kind(body), timeout=HOUR)
    run_id = late.start()
    run_until_idle()
    assert row(run_id).deadline_at == START + HOUR
    advance(HOUR * 0.9)
    assert row(run_id).deadline_at == START + HOUR * 1.9
    assert Timer.objects.get(run_id=run_id, kind=Kind.DEADLINE).due_at == START + HOUR * 1.9
    advance(HOUR * 1.8)
    assert late.status(run_id).generation == 3
    advance(HOUR)
    assert (late.status(run_id).state, late.status(run_id).reason) == ("failed", "RunTimedOut")


@pytest.mark.once
def test_a_deadline_that_has_just_begun_is_not_the_next_generations() -> None:
    """A body that ends so with its first call has stored no deadline yet: the next one gets its own."""

    @workflow("again.at-once", timeout=HOUR)
    def at_once(ctx: Context, number: int = 0) -> None:
        if number < 2:
            ctx.continue_as_new(number + 1)

    with freeze_time(START) as frozen:
        run_id = at_once.start()
        frozen.tick(HOUR * 3)
        run_until_idle()
        assert at_once.status(run_id).state == "completed"
        assert not Timer.objects.exists()


def test_no_timer_of_the_old_generation_is_left() -> None:
    """Not even of a wait that the body has left behind."""

    @workflow("again.left")
    def left(ctx: Context, number: int = 0) -> str:
        if number == 0 and not calls:
            calls.append("waits")
            ctx.wait_for("answer", "answer", timeout=HOUR)
        if number == 0:
            ctx.sleep("nap", 1)  # Code that was changed: it does not come to the wait any more.
            ctx.continue_as_new(1)
        return ctx.wait_for("answer", "answer", timeout=HOUR * 2, default="too late")

    run_id = left.start()
    run_until_idle()
    WorkflowRun.objects.filter(id=run_id).update(state="pending", ready=True)
    run_until_idle()
    assert sorted(Timer.objects.values_list("step", flat=True)) == ["answer", "nap"]
    advance(1)
    (timer,) = Timer.objects.all()
    assert (timer.step, timer.kind, timer.held) == ("answer", Kind.WAIT, False)
    advance(HOUR * 2)
    assert left.status(run_id).result == "too late"


# -- events ----------------------------------------------------------------------------------------


@workflow("again.reads")
def reads(ctx: Context, most: int = 3, got: list[Any] | None = None, key: str | None = None) -> list[Any]:
    """Reads one event in each generation."""
    got = [*(got or []), ctx.wait_for("read", "news", key=key)]
    if len(got) < most:
        ctx.continue_as_new(most, got, key)
    return got


@workflow("again.areads")
async def areads(ctx: AsyncContext, most: int = 3, got: list[Any] | None = None, key: str | None = None) -> list[Any]:
    """The same, async."""
    got = [*(got or []), await ctx.wait_for("read", "news", key=key)]
    if len(got) < most:
        ctx.continue_as_new(most, got, key)
    return got


READERS = pytest.mark.parametrize("flow", [reads, areads], ids=["def", "async def"])


@READERS
def test_c134_unread_events_are_carried_over(flow: Any) -> None:
    """C134: three events sent to the run before its first wait are read by three generations, in order, each once."""
    run_id = flow.start()
    for number in (1, 2, 3):
        flow.send(run_id, "news", number)
    run_until_idle()
    assert flow.status(run_id).result == [1, 2, 3]


@READERS
def test_a_broadcast_that_was_read_stays_read(flow: Any) -> None:
    """Of three broadcasts each generation reads one, though the records are gone that said which were read."""
    run_id, other = flow.start(), flow.start()
    run_until_idle()
    for number in (1, 2):
        send_event("news", number)
    run_until_idle()
    assert flow.status(run_id).state == "waiting"
    assert flow.status(run_id).generation == 2
    send_event("news", 3)
    run_until_idle()
    assert [flow.status(each).result for each in (run_id, other)] == [[1, 2, 3]] * 2


@freeze_time(START)
def test_a_broadcast_that_was_sent_before_and_is_stored_late_is_read() -> None:
    """A sender's transaction began before what was read, and commits later: its broadcast is unread, and comes next."""
    run_id = reads.start()
    early = Event.objects.create(name="news", payload='"late"', created_at=START)
    Event.objects.filter(id=early.id).delete()
    send_event("news", "first")
    run_until_idle()
    assert reads.status(run_id).generation == 1
    Event.objects.create(id=early.id, name="news", payload='"late"', created_at=START)
    send_event("news", "last")
    run_until_idle()
    assert reads.status(run_id).result == ["first", "late", "last"]


def test_two_waits_of_one_generation_read_what_is_unread() -> None:
    """The one after a broadcast that was stored late reads none that an earlier generation has read."""

    @workflow("again.twice")
    def twice(ctx: Context, got: list[Any] | None = None) -> list[Any]:
        found = [*(got or []), ctx.wait_for("read", "news"), ctx.wait_for("read", "news")]
        if got is None:
            ctx.continue_as_new(found)
        return found

    run_id = twice.start()
    late = Event.objects.create(name="news", payload='"late"')
    Event.objects.filter(id=late.id).delete()
    send_event("news", 1)
    send_event("news", 2)
    run_until_idle()
    assert twice.status(run_id).generation == 1
    Event.objects.create(id=late.id, name="news", payload='"late"', created_at=late.created_at)
    send_event("news", 3)
    run_until_idle()
    assert twice.status(run_id).result == [1, 2, "late", 3]


def test_broadcasts_are_remembered_by_name_and_key() -> None:
    """What was read under one key says nothing of another."""
    keyed, bare = reads.start(2, None, "order-7"), reads.start(2)
    send_event("news", "bare 1")
    send_event("news", "keyed 1", key="order-7")
    run_until_idle()
    send_event("news", "keyed 2", key="order-7")
    send_event("news", "bare 2")
    run_until_idle()
    assert reads.status(keyed).result == ["keyed 1", "keyed 2"]
    assert reads.status(bare).result == ["bare 1", "bare 2"]


@pytest.mark.parametrize("frozen", [True, False])
def test_of_many_broadcasts_the_last_are_remembered_and_all_before_them_count_as_read(
    frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many were read, and be they of one moment: none is read again."""
    monkeypatch.setattr(remembered, "_MOST", 3)

    @workflow(f"again.many-{frozen}")
    def many(ctx: Context, rounds: int, got: list[Any] | None = None) -> list[Any]:
        got = [*(got or []), *(ctx.wait_for("read", "news") for _ in range(4))]
        if rounds:
            ctx.continue_as_new(rounds - 1, got)
        return got

    with freeze_time(START) if frozen else nullcontext():
        run_id = many.start(2)
        for number in range(12):
            send_event("news", number)
        run_until_idle()
        assert many.status(run_id).result == list(range(12))


@READERS
def test_c134_a_dedup_id_is_remembered(flow: Any) -> None:
    """C134: an event that an earlier generation has read is not sent again under its dedup id; one without may be."""
    run_id = flow.start(4)
    assert flow.send(run_id, "news", "one", dedup_id="a")
    assert flow.send(run_id, "news", "two")
    run_until_idle()
    assert flow.status(run_id).generation == 2
    assert not flow.send(run_id, "news", "one", dedup_id="a")
    assert flow.send(run_id, "news", "two")
    assert flow.send(run_id, "news", "three", dedup_id="b")
    run_until_idle()
    assert flow.status(run_id).result == ["one", "two", "two", "three"]


def test_what_is_remembered_goes_with_events_of_its_age() -> None:
    """After EVENT_DAYS nothing is left of what the run has read, and what was not read yet is there."""
    run_id = reads.start(4)
    with freeze_time(START - timedelta(days=31)):
        WorkflowRun.objects.filter(id=run_id).update(created_at=START - timedelta(days=32))
        send_event("news", "old")
        reads.send(run_id, "news", "old too", dedup_id="a")
        run_until_idle()
    assert reads.status(run_id).generation == 2
    reads.send(run_id, "news", "unread in part")
    assert Event.objects.filter(consumed_by="").count() == 2
    assert forgetting.forget_all("default", START - timedelta(days=30)) == 3
    assert [event.payload for event in Event.objects.all()] == ['"unread in part"']
    run_until_idle()
    assert reads.status(run_id).state == "waiting"


# -- children --------------------------------------------------------------------------------------


@workflow("again.child")
def child(ctx: Context, number: int) -> int:
    """Returns what it is given, at once or when it is told to."""
    if number % 2:
        ctx.wait_for("end", "end")
    return number


@each_kind
def test_c134_each_generation_has_children_of_its_own(kind: Any) -> None:
    """C134: a call of the same name starts another child; the generation that has started it reads its end."""

    async def body(ctx: Any, got: list[int] | None = None) -> list[int]:
        found = [*(got or []), await ctx.call("child", child, 2 * len(got or []))]
        if len(found) < 3:
            ctx.continue_as_new(found)
        return found

    calling: Any = workflow(f"again.calls.{kind.__name__}", kind(body))
    run_id = calling.start()
    run_until_idle()
    assert calling.result(run_id) == [0, 2, 4]
    assert WorkflowRun.objects.filter(parent=run_id).count() == 3


def test_ends_that_nobody_waits_for_any_more_are_dropped() -> None:
    """A child that was spawned goes on; its end, early or late, is for its own generation, and does not stay."""

    @workflow("again.spawns")
    def spawning(ctx: Context, number: int = 0) -> int:
        ctx.spawn("early", child, 0)
        ctx.spawn("late", child, 1)
        ctx.wait_for("go", "go")
        if number < 3:
            ctx.continue_as_new(number + 1)
        return number

    run_id = spawning.start()
    for _ in range(3):
        run_until_idle()
        late = WorkflowRun.objects.filter(workflow="again.child", state="waiting").latest("id")
        spawning.send(run_id, "go")
        run_until_idle()
        child.send(late.id, "end")
        run_until_idle()
        assert child.status(late.id).state == "completed"
    assert spawning.status(run_id).generation == 3
    # Of the early child of this generation, and of the late one of the last.
    assert Event.objects.filter(run_id=run_id, name__startswith="#end:").count() == 2
    spawning.cancel(run_id)
    run_until_idle()
    assert set(WorkflowRun.objects.filter(parent=run_id).values_list("state", flat=True)) == {"completed", "cancelled"}


# -- bounded ---------------------------------------------------------------------------------------


@workflow("again.for-ever")
def for_ever(ctx: Context, number: int = 0) -> None:
    """What a process that never ends does: reads what was sent to it and to all, sleeps, publishes."""
    ctx.set_attributes(number=number)
    ctx.wait_for("mine", "mine")
    ctx.wait_for("all", "all")
    ctx.sleep("nap", 0)
    ctx.step("work", calls.append, number)
    ctx.continue_as_new(number + 1)


def test_nothing_grows_with_the_generations() -> None:
    """Thirty generations store and ask as much as three, but for the broadcasts, which are everybody's."""
    run_id = for_ever.start()
    stored = []
    for number in range(31):
        for_ever.send(run_id, "mine", number)
        send_event("all", number)
        with CaptureQueriesContext(connections["default"]) as queries:
            run_until_idle()
        run = row(run_id)
        events = Event.objects.filter(run_id=run_id)
        stored.append((
            StepRecord.objects.count(), Timer.objects.count(), events.count(), len(run.attributes), len(queries),
            len(run.first_attributes or ""), len(run.arguments),
        ))  # fmt: skip
    assert row(run_id).generation == 31
    assert stored[30][:4] == stored[3][:4]
    # Now and then a claim asks for something beside, which has nothing to do with the generation.
    assert max(each[4] for each in stored[20:]) <= max(each[4] for each in stored[3:20]) + 5
    assert all(later - earlier <= 2 for earlier, later in zip(stored[3][5:], stored[30][5:], strict=True))
    assert calls == list(range(31))


def test_what_is_remembered_of_broadcasts_is_as_long_as_it_ever_will_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row for a name and key, which names the last broadcasts only."""
    monkeypatch.setattr(remembered, "_MOST", 5)
    run_id = reads.start(20)
    for number in range(19):
        send_event("news", number)
    run_until_idle()
    assert reads.status(run_id).generation == 19
    known = remembered.find("default", run_id, "news", None)
    assert known is not None
    assert len(known.ids) == 5
    assert known.cut
    assert Event.objects.filter(run_id=run_id).count() == 1


# -- refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("a", "b", "c"), TypeError),
        ((), TypeError),
        ((object(),), NotSerializable),
        (("x" * 2_000_000,), PayloadTooLarge),
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["def", "async def"])
def test_arguments_that_do_not_fit_are_refused_at_the_call(
    arguments: tuple[Any, ...], error: type[Exception], asynchronous: bool
) -> None:
    """The body can catch it and go on; the run and its records are as they were."""

    def refused(ctx: Any, first: Any) -> str:
        try:
            ctx.continue_as_new(*arguments)
        except error as raised:
            return str(raised)

    async def arefused(ctx: Any, first: Any) -> str:
        return refused(ctx, first)

    made = workflow(
        f"again.refused-{asynchronous}-{error.__name__}-{len(arguments)}", arefused if asynchronous else refused
    )
    run_id = made.start(1)
    run_until_idle()
    status = made.status(run_id)
    assert (status.state, status.generation) == ("completed", 0)
    assert {"TypeError": made.name, "NotSerializable": "generation 1", "PayloadTooLarge": "generation 1"}[
        error.__name__
    ] in status.result


def test_it_is_refused_inside_a_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its siblings would be lost: WrongContext says that it belongs into the body itself."""

    @workflow("again.branch")
    def branching(ctx: Context) -> None:
        monkeypatch.setattr(ctx, "_branch", Branch(ctx._branch.activation, "left/"))
        ctx.continue_as_new()

    run_id = branching.start()
    run_until_idle()
    with pytest.raises(RunFailed, match=r"WrongContext.*inside a branch"):
        branching.result(run_id)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["def", "async def"])
def test_it_is_refused_inside_a_step_and_in_another_thread(asynchronous: bool) -> None:
    """As every context call is."""

    def misuse(ctx: Any) -> list[str]:
        told = []
        with pytest.raises(WrongContext, match="inside a step function") as inside:
            ctx.continue_as_new()
        told.append(str(inside.value))
        return told

    @workflow("again.misuse")
    def plain(ctx: Context) -> None:
        ctx.step("misuse", lambda: misuse(ctx))

    @workflow("again.amisuse")
    async def coroutine(ctx: AsyncContext) -> None:
        async def step() -> list[str]:
            return misuse(ctx)

        await ctx.step("misuse", step)
        failed = []

        async def beside() -> None:
            try:
                ctx.continue_as_new()
            except WrongContext as error:
                failed.append(error)

        await asyncio.create_task(beside())
        assert "another thread or task" in str(failed[0])

    made = coroutine if asynchronous else plain
    run_id = made.start()
    run_until_idle()
    assert made.result(run_id) is None


def test_a_call_that_was_not_awaited_fails_the_run() -> None:
    """A step that was skipped is not left behind with the generation."""

    @workflow("again.forgets")
    async def forgets(ctx: AsyncContext) -> None:
        ctx.step("skipped", calls.append, 1)  # type: ignore[unused-coroutine]
        ctx.continue_as_new()

    run_id = forgets.start()
    run_until_idle()
    with pytest.raises(RunFailed, match=r"continued as new before ctx\.step\('skipped'\)"):
        forgets.result(run_id)
    assert forgets.status(run_id).reason == NotAwaited.__name__
    assert calls == []


# -- crashes ---------------------------------------------------------------------------------------


class _Crash(KeyboardInterrupt):
    """Ends the inline worker in the middle of what it does, as a kill would."""


class _CrashAt:
    """Kills the worker right before, or right after, its n-th write."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int, *, after: bool) -> None:
        self.writes = 0
        self._number, self._after = number, after
        self._write = writes.write
        patch.setattr(writes, "write", self)

    def __call__(self, *arguments: Any) -> Any:
        self.writes += 1
        if self.writes == self._number and not self._after:
            raise _Crash
        outcomes = self._write(*arguments)
        if self.writes == self._number:
            raise _Crash
        return outcomes


@workflow("again.whole")
def whole(ctx: Context, number: int = 0, got: str = "") -> str:
    """A process with all that a generation leaves behind."""
    ctx.set_attributes(number=number)
    got += str(ctx.wait_for("mine", "mine")) + str(ctx.wait_for("all", "all"))
    ctx.sleep("nap", 0)
    ctx.step("work", calls.append, number)
    if number < 2:
        ctx.continue_as_new(number + 1, got)
    return got


@workflow("again.awhole")
async def awhole(ctx: AsyncContext, number: int = 0, got: str = "") -> str:
    """The same, async."""
    ctx.set_attributes(number=number)
    got += str(await ctx.wait_for("mine", "mine")) + str(await ctx.wait_for("all", "all"))
    await ctx.sleep("nap", 0)
    await ctx.step("work", calls.append, number)
    if number < 2:
        ctx.continue_as_new(number + 1, got)
    return got


WHOLE = pytest.mark.parametrize("flow", [whole, awhole], ids=["def", "async def"])


def _start_whole(flow: Any) -> UUID:
    run_id: UUID = flow.using(key="whole").start()
    for number in range(3):
        flow.send(run_id, "mine", number, dedup_id=f"d{number}")
        send_event("all", "abc"[number])
    return run_id


def _assert_whole(flow: Any, run_id: UUID, *, repeated: int) -> None:
    status = flow.status(run_id)
    assert (status.state, status.result, status.generation) == ("completed", "0a1b2c", 2)
    assert status.attributes == {"number": 2}
    assert sorted(set(calls)) == [0, 1, 2]
    assert len(calls) <= 3 + repeated
    assert [record.name for record in StepRecord.objects.order_by("seq")] == ["mine", "all", "nap", "work"]
    assert not Timer.objects.exists()
    assert flow.using(key="whole").start() == run_id


_WRITES = 18  # that an undisturbed run makes


@WHOLE
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(1, _WRITES + 1))
def test_a_crash_around_any_write_changes_nothing(
    number: int, after: bool, flow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker dies right before, or right after, any of its writes: the result is the same, and what stays is, too.

    A step whose result was stored is not called again; one whose result was not, once more.
    """
    run_id = _start_whole(flow)
    with monkeypatch.context() as patch:
        crash = _CrashAt(patch, number, after=after)
        with suppress(_Crash):
            run_until_idle()
        crashed = crash.writes >= number
    run_until_idle()
    assert crashed, f"there are only {crash.writes} writes: count them again"
    _assert_whole(flow, run_id, repeated=0 if after else 1)


@WHOLE
def test_the_writes_of_the_crashes_are_all_that_there_are(flow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above dies around every write of the run, and around no write that there is not."""
    _start_whole(flow)
    counted = _CrashAt(monkeypatch, 10_000, after=False)
    run_until_idle()
    assert counted.writes == _WRITES


# -- the old generation's late writes --------------------------------------------------------------


def _continued() -> tuple[UUID, UUID, int]:
    """A run in its second generation, claimed again by the very worker that had it before; with its old epoch."""
    run_id = counts.start(1)
    owner = leases.register(host="here", pid=1, workflows=registry.identities()).id
    (old,) = claims.claim(connections["default"], owner, 1, registry.identities())
    following = Settle(PENDING, generation=Generation("[[1,1],{}]", None, ""))
    (outcome,) = writes.write(connections["default"], owner, [Change(run_id, old.epoch, settle=following)])
    assert (outcome.stored, outcome.state) == (True, "pending")
    return run_id, owner, old.epoch


@pytest.mark.parametrize("claimed", [False, True], ids=["before the next claim", "after it"])
@pytest.mark.parametrize("alone", [False, True], ids=["committer", "atomic step"])
def test_c084_what_the_old_generation_writes_late_is_refused(claimed: bool, alone: bool) -> None:
    """C084: a step that outlived its timeout, of the same worker even, stores nothing in the new generation."""
    run_id, owner, epoch = _continued()
    if claimed:
        (new,) = claims.claim(connections["default"], owner, 1, registry.identities())
        assert (new.id, new.generation, new.arguments) == (run_id, 1, "[[1,1],{}]")
        assert new.epoch > epoch
    late = Record(1, "count", Kind.STEP, RecordState.COMPLETED, 1, epoch, '"late"', started_at=START)
    change = Change(run_id, epoch, inserts=[late])
    if alone:
        outcome = writes.write_waiting(connections["default"], owner, change)
    else:
        (outcome,) = writes.write(connections["default"], owner, [change])
    assert not outcome.stored
    assert not StepRecord.objects.exists()


def test_a_second_continuation_of_one_generation_is_refused() -> None:
    """Two activations of one generation, of which one has lost the run: it begins anew once."""
    run_id, owner, epoch = _continued()
    again = Settle(PENDING, generation=Generation("[[9,9],{}]", None, ""))
    (outcome,) = writes.write(connections["default"], owner, [Change(run_id, epoch, settle=again)])
    assert not outcome.stored
    assert (row(run_id).generation, row(run_id).arguments) == (1, "[[1,1],{}]")


# -- beside people ---------------------------------------------------------------------------------


def test_a_run_that_is_paused_meanwhile_continues_when_it_is_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner stores what is in flight and lets go; the generation ends when the run goes on."""

    @workflow("again.paused")
    def paused(ctx: Context, number: int = 0) -> int:
        ctx.step("work", calls.append, number)
        if number == 0:
            ctx.continue_as_new(1)
        return number

    run_id = paused.start()
    write = writes.write

    def pausing(connection: Any, owner: UUID, changes: Any) -> Any:
        if any(change.settle is not None and change.settle.generation for change in changes) and len(calls) == 1:
            monkeypatch.undo()
            assert paused.pause(run_id)
        return write(connection, owner, changes)

    monkeypatch.setattr(writes, "write", pausing)
    run_until_idle()
    assert (paused.status(run_id).state, paused.status(run_id).generation) == ("paused", 0)
    assert row(run_id).arguments == "[[],{}]"
    paused.resume(run_id)
    run_until_idle()
    assert (paused.status(run_id).result, paused.status(run_id).generation) == (1, 1)
    assert calls == [0, 1]


def test_a_run_that_is_cancelled_meanwhile_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end is decided: it does not begin anew."""
    run_id = counts.start(1)
    write = writes.write

    def cancelling(connection: Any, owner: UUID, changes: Any) -> Any:
        if any(change.settle is not None and change.settle.generation for change in changes):
            assert counts.cancel(run_id, "enough")
        return write(connection, owner, changes)

    monkeypatch.setattr(writes, "write", cancelling)
    run_until_idle()
    status = counts.status(run_id)
    assert (status.state, status.reason, status.generation) == ("cancelled", "enough", 0)


def test_a_generation_that_fails_can_be_retried() -> None:
    """It goes on within its generation, with that one's arguments and records."""

    @workflow("again.fails")
    def fails(ctx: Context, number: int = 0) -> int:
        ctx.step("work", calls.append, number)
        if number == 0:
            ctx.continue_as_new(1)
        if len(calls) < 3:
            calls.append("fails")
            raise ValueError("once")
        return number

    run_id = fails.start()
    run_until_idle()
    assert (fails.status(run_id).state, fails.status(run_id).generation) == ("failed", 1)
    fails.retry(run_id)
    run_until_idle()
    assert (fails.status(run_id).result, fails.status(run_id).generation) == (1, 1)
    assert calls == [0, 1, "fails"]


@pytest.mark.once
def test_the_log_tells_of_a_new_generation_at_debug() -> None:
    """Who looks closely sees each one; nobody else is told."""
    with kept_lines("canx_flow.run", logging.DEBUG) as kept:
        run_id = counts.start(1)
        run_until_idle()
    lines = [record.getMessage() for record in kept if "generation" in record.getMessage()]
    assert lines == [f"Run {run_id} of again.counts goes on as generation 1, with an empty history"]


# -- real workers ----------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@BOTH
def test_a_worker_goes_on_at_once(flow: Any) -> None:
    """Hundred generations take no poll: the worker that has let a run go claims it again at once."""
    run_id = flow.start(100)
    with worker(poll_seconds=600.0):
        assert flow.result(run_id, timeout=30) == 100
    assert calls == list(range(101))
    assert row(run_id).recoveries == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@BOTH
def test_the_answer_to_a_continuation_is_lost(
    flow: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is stored, and the connection is gone before that is known: the run goes on once, and nothing is refused."""
    caplog.set_level(logging.WARNING)
    lost = LostAnswer(monkeypatch, writes, "write", when=_continues)
    with worker():
        run_id = flow.start(3)
        assert flow.result(run_id, timeout=20) == 3
    assert lost.lost.is_set()
    assert calls == [0, 1, 2, 3]
    assert row(run_id).generation == 3
    assert not [record for record in caplog.records if "refused" in record.getMessage()]


def _continues(_connection: Any, _owner: UUID, changes: Any) -> bool:
    return any(change.settle is not None and change.settle.generation is not None for change in changes)


@pytest.mark.django_db(transaction=True)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_many_runs_continue_side_by_side() -> None:
    """Their continuations come together in one commit; each run has its own generations."""
    with worker(concurrency=8):
        run_ids = [counts.start(5) for _ in range(20)]
        assert [counts.result(run_id, timeout=60) for run_id in run_ids] == [5] * 20
    assert {row(run_id).generation for run_id in run_ids} == {5}
    assert sorted(calls) == sorted([*range(6)] * 20)
    wait_until(lambda: StepRecord.objects.count() == 20)
