"""`canx_flow.testing`: workflows in a project's own tests, without a worker, in no time."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase
from django.utils import timezone
from freezegun import freeze_time

from canx_flow import AsyncContext, Context, InvalidState, Retry, WaitTimeout, current_step, send_event, workflow
from canx_flow.core import clock
from canx_flow.models import Event, Worker, WorkflowRun
from canx_flow.testing import aadvance, advance, arun_until_idle, run_until_idle

from ..models import Effect

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@workflow("inline.subscription")
def subscription(ctx: Context, user: str) -> list[Any]:
    """Thirty days with a retried step, reminders every week, a confirmation that times out, and a renewal."""
    ctx.step("charge", charge, user, retry=Retry(initial=3600, max_delay=86400, jitter=0))
    for _ in range(4):
        ctx.sleep("week", timedelta(weeks=1))
        ctx.step("remind", remind, user)
    try:
        ctx.wait_for("confirm", "confirmed", timeout=2 * DAY)
    except WaitTimeout:
        confirmed = False
    else:
        confirmed = True
    return [confirmed, ctx.step("renew", timezone.now), ctx.now()]


def charge(user: str) -> None:
    """Succeeds at the third attempt."""
    Effect.objects.create(name="charge", value=user)
    if Effect.objects.filter(name="charge", value=user).count() < 3:
        raise ConnectionError("not yet")


def remind(user: str) -> None:
    """Leaves a row."""
    Effect.objects.create(name="remind", value=user)


# -- inside a plain TestCase -----------------------------------------------------------------------------------


class SubscriptionTest(TestCase):
    """How a project tests a workflow of its own: Django's TestCase, nothing else."""

    def test_c139_thirty_days_pass_in_less_than_a_second(self) -> None:
        """A workflow of a month, with retries and timeouts, runs to its end in well under a second."""
        took = []
        for user in ("ada", "grace", "joan"):  # Three times: a busy machine may take its time once.
            run_id = subscription.start(user)
            began = time.process_time()  # Nothing here waits, and others may be using the machine.
            advance(timedelta(days=31))
            took.append(time.process_time() - began)
            status = subscription.status(run_id)
            assert status.state == "completed"
            assert status.result[0] is False
            effects = Effect.objects.filter(value=user).order_by("id").values_list("name", flat=True)
            assert list(effects) == ["charge"] * 3 + ["remind"] * 4
        assert min(took) < 1

    @freeze_time(START)
    def test_c139_thirty_days_under_freezegun(self) -> None:
        """A frozen clock is moved from timer to timer: the project's own code sees each moment as it is."""
        run_id = subscription.start("ada")
        advance(timedelta(days=31))
        charged = timedelta(hours=1 + 2)
        renewed = START + charged + timedelta(weeks=4) + 2 * DAY
        assert subscription.status(run_id).result == [False, renewed, renewed]
        assert subscription.status(run_id).finished_at == renewed
        assert timezone.now() == START + timedelta(days=31)

    def test_an_event_ends_the_month_early(self) -> None:
        """What the test sends is there for the next turn, though nothing here ever commits."""
        run_id = subscription.start("ada")
        advance(timedelta(days=29))
        assert subscription.status(run_id).state == "waiting"
        subscription.send(run_id, "confirmed")
        run_until_idle()
        assert subscription.status(run_id).result[0] is True

    def test_nothing_is_left_of_the_test_before(self) -> None:
        """Everything was in the test's own transaction."""
        assert not WorkflowRun.objects.exists()
        assert not Effect.objects.exists()

    def test_an_async_workflow_runs_here_too(self) -> None:
        """In an event loop whose database work comes back to this thread and this transaction."""

        @workflow("inline.async")
        async def asynchronous(ctx: AsyncContext, user: str) -> list[Any]:
            await ctx.step("remind", remind, user)
            await ctx.step("atomically", remind, user, atomic=True)
            await ctx.step("async", aremind, user)
            await ctx.sleep("month", 30 * DAY)
            return [await ctx.wait_for("confirm", "confirmed", timeout=DAY, default="never"), ctx.now()]

        run_id = asynchronous.start("ada")
        advance(timedelta(days=32))
        assert asynchronous.status(run_id).state == "completed"
        assert asynchronous.status(run_id).result[0] == "never"
        assert Effect.objects.filter(name="remind").count() == 3

    async def test_an_async_test_runs_workflows(self) -> None:
        """From a coroutine the driver is called by its twins, on the test's own thread and connection."""

        @workflow("inline.from-async")
        async def asynchronous(ctx: AsyncContext) -> str:
            await ctx.step("remind", remind, "ada")
            await ctx.sleep("nap", HOUR)
            return "done"

        run_id = await asynchronous.astart()
        assert await arun_until_idle() == 1
        assert (await asynchronous.astatus(run_id)).state == "sleeping"
        assert await aadvance(HOUR) == 1
        assert await asynchronous.aresult(run_id) == "done"

    def test_an_atomic_step_that_fails_takes_its_writes_back(self) -> None:
        """As in a worker: the rows of the failed attempt are gone, those of the test and of other steps stay."""

        @workflow("inline.atomic", retry=Retry(max_attempts=1))
        def working(ctx: Context) -> None:
            ctx.step("remind", remind, "ada")
            ctx.step("both", remind_and_fail, atomic=True)

        Effect.objects.create(name="mine")
        run_id = working.start()
        run_until_idle()
        assert working.status(run_id).state == "failed"
        assert list(Effect.objects.order_by("id").values_list("name", flat=True)) == ["mine", "remind"]

    def test_a_plain_step_that_fails_leaves_its_writes(self) -> None:
        """As in a worker, where each statement has committed by itself."""

        @workflow("inline.plain", retry=Retry(max_attempts=1))
        def working(ctx: Context) -> None:
            ctx.step("both", remind_and_fail)

        run_id = working.start()
        run_until_idle()
        assert working.status(run_id).state == "failed"
        assert Effect.objects.count() == 1

    def test_a_transaction_around_the_driver_is_the_tests_own(self) -> None:
        """Only what the body itself opens is refused."""

        @workflow("inline.transaction")
        def opening(ctx: Context) -> None:
            with transaction.atomic():
                ctx.step("remind", remind, "ada")

        with transaction.atomic():
            run_id, fine = opening.start(), subscription.start("ada")
            run_until_idle()
        error = opening.status(run_id).error
        assert error is not None
        assert error["type"] == "canx_flow.exceptions.InsideTransaction"
        assert subscription.status(fine).state == "retrying"


async def aremind(user: str) -> None:
    """The same, async."""
    await Effect.objects.acreate(name="remind", value=user)


def remind_and_fail() -> None:
    """Leaves a row, and fails."""
    remind("ada")
    raise ValueError("no")


class CommittedTest(TransactionTestCase):
    """Where every statement commits, the driver does as well."""

    def test_a_month_in_a_transaction_test_case(self) -> None:
        """The same workflow, with real commits."""
        run_id = subscription.start("ada")
        advance(timedelta(days=31))
        assert subscription.status(run_id).state == "completed"
        assert not connection.in_atomic_block


# -- steps whose statements fail -------------------------------------------------------------------------------


def collide(how: str) -> str:
    """Leaves a row, then does something that the database refuses."""
    Effect.objects.create(name="before", once="taken" if how != "unknown table" else None)
    match how:
        case "unique":
            Effect.objects.create(name="second", once="taken")
        case "unknown table":
            with connection.cursor() as cursor:
                cursor.execute("SELECT nothing FROM nowhere_at_all")
        case "swallowed":
            with suppress(Exception):
                Effect.objects.create(name="second", once="taken")
        case "in its own atomic":
            try:
                with transaction.atomic():
                    Effect.objects.create(name="second", once="taken")
            except Exception:  # noqa: BLE001 - that a step does so is what is tested
                return "survived"
    return "done"


async def acollide(how: str) -> str:
    """The same, async."""
    return await sync_to_async(collide)(how)


@workflow("inline.collide", retry=Retry(max_attempts=1))
def colliding(ctx: Context, how: str, atomic: bool) -> str:
    """One step that collides."""
    return ctx.step("collide", collide, how, atomic=atomic)


@workflow("inline.collide-async", retry=Retry(max_attempts=1))
async def acolliding(ctx: AsyncContext, how: str, atomic: bool) -> str:
    """The same, async, with a plain function where that is atomic."""
    if atomic:
        return await ctx.step("collide", collide, how, atomic=True)
    return await ctx.step("collide", acollide, how)


@pytest.mark.django_db
@pytest.mark.parametrize("flow", [colliding, acolliding], ids=["plain", "async"])
@pytest.mark.parametrize("atomic", [False, True], ids=["", "atomic"])
@pytest.mark.parametrize("how", ["unique", "unknown table", "swallowed", "in its own atomic"])
def test_a_refused_statement_fails_its_step_and_not_the_test(flow: Any, how: str, atomic: bool) -> None:
    """The attempt is recorded as failed, the test's transaction is still good; with an `atomic()` the step goes on."""
    mine = Effect.objects.create(name="mine")
    run_id = flow.start(how, atomic)
    run_until_idle()
    status = flow.status(run_id)
    if how == "in its own atomic":
        assert (status.state, status.result) == ("completed", "survived")
    else:
        assert (status.state, status.error["step"]) == ("failed", "collide")
    kept = list(Effect.objects.exclude(id=mine.pk).values_list("name", flat=True))
    assert kept == (["before"] if how == "in its own atomic" else [])


# -- run_until_idle --------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_run_until_idle_counts_activations_and_leaves_nothing_behind() -> None:
    """As many as runs were replayed; no live worker, no owner, nothing that could still run."""
    subscription.start_many([("a",), ("b",), ("c",)])
    assert run_until_idle() == 3
    assert run_until_idle() == 0
    assert not Worker.objects.filter(state="alive").exists()
    assert not WorkflowRun.objects.exclude(owner=None, ready=False).exists()


@pytest.mark.once
@pytest.mark.django_db
def test_runs_that_start_runs_are_followed_to_the_end() -> None:
    """What a run starts or sends is part of the same turn."""

    @workflow("inline.chain")
    def chain(ctx: Context, left: int) -> int:
        if left:
            ctx.step("next", chain.start, left - 1)
        return left

    chain.start(5)
    assert run_until_idle() == 6
    assert chain.runs.states("completed").count() == 6


@pytest.mark.once
@pytest.mark.django_db
def test_larger_priorities_run_first() -> None:
    """As in a worker: by priority, then by age."""
    order: list[str] = []

    @workflow("inline.priority")
    def noting(ctx: Context, name: str) -> None:
        order.append(name)

    for name, priority in (("old", 0), ("low", -5), ("high", 5), ("young", 0)):
        noting.using(priority=priority).start(name)
    run_until_idle()
    assert order == ["high", "old", "young", "low"]


@pytest.mark.once
@pytest.mark.django_db
def test_a_run_that_never_rests_is_named() -> None:
    """Two runs that wake each other for ever: RuntimeError after `limit` activations; both runs are given back."""

    @workflow("inline.ping-pong")
    def ping_pong(ctx: Context, key: str, other: str) -> None:
        while True:
            ctx.wait_for("turn", "turn", key=key)
            ctx.step("play", lambda: send_event("turn", key=other))

    ping_pong.start("a", "b")
    ping_pong.start("b", "a")
    run_until_idle()
    send_event("turn", key="a")
    with pytest.raises(RuntimeError, match=r"'inline\.ping-pong' is still active after 25 activations"):
        run_until_idle(limit=25)
    assert not ping_pong.runs.states("running").exists()
    assert not Worker.objects.filter(state="alive").exists()


@pytest.mark.once
@pytest.mark.django_db
def test_a_retry_without_a_pause_is_followed_to_its_end() -> None:
    """An attempt that is due at once is part of the same turn."""
    attempts: list[int] = []

    def flaky() -> None:
        step = current_step()
        attempts.append(step.attempt)
        if len(attempts) < 5:
            raise ConnectionError("no")

    @workflow("inline.at-once", retry=Retry(initial=0))
    def retrying(ctx: Context) -> None:
        ctx.step("flaky", flaky)

    run_id = retrying.start()
    run_until_idle()
    assert (retrying.status(run_id).state, attempts) == ("completed", [1, 2, 3, 4, 5])


@pytest.mark.once
@pytest.mark.django_db
def test_everything_runs_on_the_callers_thread() -> None:
    """Bodies, plain steps and plain steps with a timeout: what a test patches or counts, they see."""
    threads: set[int] = set()

    def note() -> None:
        threads.add(threading.get_ident())

    @workflow("inline.threads")
    def plain(ctx: Context) -> None:
        note()
        ctx.step("note", note)
        ctx.step("with a timeout", note, timeout=0.001)

    @workflow("inline.threads-async")
    async def asynchronous(ctx: AsyncContext) -> None:
        await ctx.step("note", note)

    ids = [plain.start(), asynchronous.start()]
    run_until_idle()
    assert set(WorkflowRun.objects.filter(id__in=ids).values_list("state", flat=True)) == {"completed"}
    assert threads == {threading.get_ident()}


@pytest.mark.once
@pytest.mark.django_db
def test_an_async_step_times_out_here_too() -> None:
    """It can be cancelled, so its timeout is enforced; a plain function's is not."""

    async def endless() -> None:
        await asyncio.Event().wait()

    @workflow("inline.timeout", retry=Retry(max_attempts=1))
    async def asynchronous(ctx: AsyncContext) -> None:
        await ctx.step("endless", endless, timeout=0.01)

    @workflow("inline.timeout-plain", retry=Retry(max_attempts=1))
    def plain(ctx: Context) -> None:
        ctx.step("endless", endless, timeout=0.01)

    for flow in (asynchronous, plain):
        run_id = flow.start()
        run_until_idle()
        error = flow.status(run_id).error
        assert error is not None
        assert "StepTimeout" in error["message"]


@pytest.mark.once
@pytest.mark.django_db
def test_an_exception_of_the_test_runner_is_no_failure_of_a_step() -> None:
    """Ctrl-C in a step ends the test, and leaves the run to be tried again."""
    interrupted: list[None] = []

    def interrupt() -> str:
        if not interrupted:
            interrupted.append(None)
            raise KeyboardInterrupt
        return "done"

    @workflow("inline.interrupt")
    def working(ctx: Context) -> str:
        return ctx.step("interrupt", interrupt)

    run_id = working.start()
    with pytest.raises(KeyboardInterrupt):
        run_until_idle()
    assert working.status(run_id).state == "pending"
    run_until_idle()
    assert working.status(run_id).result == "done"


@pytest.mark.once
@pytest.mark.django_db
def test_a_result_that_nothing_has_made_yet_names_what_makes_it() -> None:
    """The first thing that a newcomer forgets: the run was started, and nothing has run it."""
    run_id = subscription.start("ada")
    with pytest.raises(InvalidState, match=r"in a TestCase, after canx_flow\.testing\.run_until_idle\(\)"):
        subscription.result(run_id)


# -- advance ---------------------------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.django_db
@pytest.mark.parametrize("frozen", [True, False])
def test_c139_advance_moves_from_timer_to_timer(frozen: bool) -> None:
    """Each timer acts at its own moment, in order, over all runs: nobody is late, and nobody sees another's time."""
    woke: list[tuple[str, timedelta]] = []

    @workflow("inline.steps")
    def sleeper(ctx: Context, name: str, hours: int) -> None:
        began = ctx.now()
        for _ in range(3):
            ctx.sleep("nap", hours * HOUR)
            ctx.step("wake", lambda: woke.append((name, clock.now() - began)))

    def go() -> None:
        sleeper.start("slow", 5)
        sleeper.start("fast", 2)
        assert advance(15 * HOUR) == 8

    if frozen:
        with freeze_time(START):
            go()
    else:
        go()
    hours = [(name, after / HOUR) for name, after in woke]
    expected = [("fast", 2), ("fast", 4), ("slow", 5), ("fast", 6), ("slow", 10), ("slow", 15)]
    assert [(name, round(after, 3)) for name, after in hours] == expected
    if frozen:
        assert hours == expected


@pytest.mark.once
@pytest.mark.django_db
@pytest.mark.parametrize("frozen", [True, False])
def test_advance_moves_the_clock_by_exactly_that_much(frozen: bool) -> None:
    """Whether or not there is anything to wake: afterwards it is that much later."""
    freezer = freeze_time(START) if frozen else None
    if freezer is not None:
        freezer.start()
    try:
        before = clock.now()
        advance(HOUR)
        advance(60)
        advance(0)
        passed = clock.now() - before
    finally:
        if freezer is not None:
            freezer.stop()
    assert timedelta(0) <= passed - HOUR - timedelta(minutes=1) < timedelta(minutes=1)
    if frozen:
        assert passed == HOUR + timedelta(minutes=1)


@pytest.mark.once
@pytest.mark.django_db
def test_chained_timers_need_no_more_than_their_sum() -> None:
    """Without a frozen clock too: ten sleeps of an hour take ten hours, however long the test takes to run them."""

    @workflow("inline.ten")
    def sleeper(ctx: Context) -> None:
        for _ in range(10):
            ctx.sleep("nap", HOUR)

    run_id = sleeper.start()
    advance(10 * HOUR)
    assert sleeper.status(run_id).state == "completed"


@pytest.mark.once
@pytest.mark.django_db
def test_without_freezegun_only_the_engines_clock_moves() -> None:
    """Django's own time stays what it is; the engine's goes on from where it was moved to."""
    real = timezone.now()
    advance(30 * DAY)
    assert timezone.now() - real < HOUR
    assert timedelta(0) <= clock.now() - real - 30 * DAY < HOUR
    first = clock.now()
    assert clock.now() >= first


@pytest.mark.once
@pytest.mark.django_db
@pytest.mark.parametrize("delta", [-1, timedelta(seconds=-1), float("nan"), float("inf"), "1h"])
def test_advance_goes_forward_only(delta: Any) -> None:
    """A bad distance is refused, naming the argument, and nothing moves."""
    before = clock.now()
    with pytest.raises((TypeError, ValueError), match="delta"):
        advance(delta)
    assert clock.now() - before < HOUR


@pytest.mark.once
@pytest.mark.django_db
def test_a_frozen_clock_that_the_test_ticks_is_obeyed() -> None:
    """`frozen.tick()` and `advance` mix: the next turn sees what is due by then."""

    @workflow("inline.tick")
    def sleeper(ctx: Context) -> datetime:
        ctx.sleep("nap", HOUR)
        return ctx.now()

    with freeze_time(START) as frozen:
        run_id = sleeper.start()
        run_until_idle()
        frozen.tick(HOUR - timedelta(seconds=1))
        assert run_until_idle() == 0
        frozen.move_to(START + 2 * HOUR)
        assert run_until_idle() == 1
        assert sleeper.status(run_id).result == START + 2 * HOUR
        other = sleeper.start()
        advance(90 * timedelta(minutes=1))
        assert sleeper.status(other).result == START + 3 * HOUR


@pytest.mark.django_db
def test_events_and_runs_of_one_frozen_moment_meet() -> None:
    """Start, turn, broadcast, turn: at one and the same moment, as tests do, the event arrives."""

    @workflow("inline.moment")
    def waiter(ctx: Context) -> Any:
        return ctx.wait_for("news", "news")

    with freeze_time(START):
        early, late = waiter.start(), waiter.start()
        run_until_idle()
        send_event("news", 1)
        run_until_idle()
    assert [waiter.status(run_id).result for run_id in (early, late)] == [1, 1]
    assert Event.objects.count() == 1
