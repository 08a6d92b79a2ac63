"""A run's deadline: counted from its first activation, kept over restarts, never moved by anything but a retry."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from freezegun import freeze_time

from canx_flow import AsyncContext, Context, Retry, RunFailed, get_run, workflow
from canx_flow.core import clock, registry
from canx_flow.models import StepRecord, Timer, WorkflowRun
from canx_flow.store import timers
from canx_flow.testing import advance, run_until_idle

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


@workflow("deadline.stuck", timeout=HOUR)
def stuck(ctx: Context, where: str) -> str:
    """Waits for longer than its hour, in one way or another."""
    match where:
        case "sleeping":
            ctx.sleep("nap", 3 * HOUR)
        case "waiting":
            return ctx.wait_for("answer", "answered", timeout=3 * HOUR, default="nobody")
        case "retrying":
            ctx.step("flaky", fail, retry=Retry(initial=3 * 3600, max_delay=3 * 3600, jitter=0))
    return "done"


def fail() -> None:
    """A step that never succeeds."""
    raise ConnectionError("no")


def assert_timed_out(run_id: UUID) -> None:
    """The run has failed, with the error of its deadline."""
    status = get_run(run_id)
    assert (status.state, status.reason, status.result, status.waits) == ("failed", "RunTimedOut", None, ())


def pass_deadline() -> None:
    """What another worker would do while a step runs: time passes, and due timers fire."""
    clock.shift(2 * HOUR)
    contextvars.Context().run(timers.fire, "default")


@pytest.mark.parametrize("where", ["sleeping", "waiting", "retrying"])
def test_c131_a_suspended_run_fails_at_its_deadline(where: str) -> None:
    """An hour after its first activation, to the second, whatever it waits for; no worker replays it for that."""
    with freeze_time(START):
        run_id = stuck.start(where)
        run_until_idle()
        assert advance(HOUR - timedelta(seconds=1)) == 0
        assert stuck.status(run_id).state == where
        assert advance(1) == 0
        assert_timed_out(run_id)
        assert stuck.status(run_id).finished_at == START + HOUR
        assert advance(timedelta(days=1)) == 0
    with pytest.raises(RunFailed, match="RunTimedOut") as failed:
        stuck.result(run_id)
    assert failed.value.error is not None
    assert failed.value.error["type"] == "canx_flow.exceptions.RunTimedOut"


def test_c131_the_deadline_counts_from_the_first_activation() -> None:
    """Neither a delayed start nor an hour in the queue takes anything from it."""
    with freeze_time(START) as frozen:
        delayed, queued = stuck.using(delay=2 * HOUR).start("sleeping"), stuck.start("sleeping")
        frozen.tick(2 * HOUR)
        assert run_until_idle() == 2
        advance(HOUR - timedelta(seconds=1))
        assert {stuck.status(run_id).state for run_id in (delayed, queued)} == {"sleeping"}
        advance(1)
        for run_id in (delayed, queued):
            assert_timed_out(run_id)
            assert stuck.status(run_id).finished_at == START + 3 * HOUR


def test_p12_the_deadline_survives_restarts_and_activations() -> None:
    """Each activation is another worker's; the deadline stays where the first put it, and sleepers hold no lease."""

    @workflow("deadline.p12", timeout=timedelta(minutes=55))
    def napping(ctx: Context) -> None:
        for _ in range(10):
            ctx.sleep("nap", 10 * MINUTE)

    with freeze_time(START):
        run_id = napping.start()
        for _ in range(5):
            advance(10 * MINUTE)
            run = WorkflowRun.objects.get(id=run_id)
            assert (run.state, run.owner_id, run.ready) == ("sleeping", None, False)
            assert run.deadline_at == START + 55 * MINUTE
        advance(5 * MINUTE)
        assert_timed_out(run_id)
        assert napping.status(run_id).finished_at == START + 55 * MINUTE


def test_a_deadline_that_passed_while_no_worker_ran_is_found_by_the_first() -> None:
    """The body is not called again, though its sleep had ended in time."""
    activations: list[None] = []

    @workflow("deadline.down", timeout=HOUR)
    def napping(ctx: Context) -> None:
        activations.append(None)
        ctx.sleep("nap", 10 * MINUTE)

    with freeze_time(START) as frozen:
        run_id = napping.start()
        run_until_idle()
        frozen.tick(2 * HOUR)
        run_until_idle()
    assert_timed_out(run_id)
    assert len(activations) == 1


def test_a_pending_run_fails_at_its_deadline() -> None:
    """Woken in time but not claimed in time is too late as well."""
    with freeze_time(START) as frozen:
        run_id = stuck.start("sleeping")
        run_until_idle()
        stuck.wake(run_id)
        timers.fire("default")
        assert stuck.status(run_id).state == "pending"
        frozen.tick(HOUR)
        assert run_until_idle() == 0
    assert_timed_out(run_id)


@pytest.mark.parametrize("outcome", ["returns", "fails"])
def test_c131_the_step_in_flight_at_the_deadline_is_stored(outcome: str) -> None:
    """It may finish, without a further attempt; nothing after it starts, and the run fails with its deadline."""
    calls: list[str] = []

    def slow() -> str:
        calls.append("slow")
        pass_deadline()
        assert WorkflowRun.objects.get().state == "stopping"
        if outcome == "fails":
            raise ConnectionError("no")
        return "kept"

    @workflow("deadline.flight", timeout=HOUR)
    def working(ctx: Context) -> None:
        ctx.step("slow", slow)
        ctx.step("next", calls.append, "next")

    run_id = working.start()
    advance(timedelta(days=1))
    assert_timed_out(run_id)
    assert calls == ["slow"]
    record = StepRecord.objects.get(run_id=run_id)
    assert record.result == ('"kept"' if outcome == "returns" else None)
    assert working.cancel(run_id) is False


def test_c131_an_async_run_fails_at_its_deadline() -> None:
    """In an `async def` workflow too, suspended or with a step in flight."""

    async def slow() -> None:
        clock.shift(2 * HOUR)

    @workflow("deadline.async", timeout=HOUR)
    async def working(ctx: AsyncContext, naps: bool) -> None:
        if naps:
            await ctx.sleep("nap", 3 * HOUR)
        await ctx.step("slow", slow)
        await ctx.step("pass", pass_deadline)
        await ctx.step("never", fail)

    napping = working.start(True)
    run_until_idle()
    advance(HOUR)
    assert_timed_out(napping)
    busy = working.start(False)
    run_until_idle()
    assert_timed_out(busy)
    assert not StepRecord.objects.filter(name="never").exists()


@pytest.mark.once
def test_the_deadline_is_no_exception_in_the_body() -> None:
    """It ends the run from outside: no handler of the body hears of it."""
    caught: list[str] = []

    @workflow("deadline.caught", timeout=HOUR)
    def working(ctx: Context) -> None:
        try:
            ctx.sleep("nap", 2 * HOUR)
        except Exception:  # noqa: BLE001 - that this catches nothing is what is tested
            caught.append("caught")

    run_id = working.start()
    advance(timedelta(days=1))
    assert_timed_out(run_id)
    assert caught == []


def test_a_run_that_ends_in_time_has_no_deadline_left() -> None:
    """Its timer goes with its end, and nothing happens when the moment comes."""
    completed, cancelled = stuck.start("done"), stuck.start("sleeping")
    run_until_idle()
    stuck.cancel(cancelled)
    assert not Timer.objects.exists()
    advance(timedelta(days=1))
    assert (stuck.status(completed).state, stuck.status(cancelled).state) == ("completed", "cancelled")


def test_a_deadline_that_passes_while_paused_acts_on_resume() -> None:
    """A paused run is left alone; resumed, it fails without another step."""
    run_id = stuck.start("sleeping")
    run_until_idle()
    stuck.pause(run_id)
    assert advance(2 * HOUR) == 0
    assert stuck.status(run_id).state == "paused"
    stuck.resume(run_id)
    assert run_until_idle() == 0
    assert_timed_out(run_id)


def test_a_deadline_that_passes_while_parked_acts_when_the_run_goes_on() -> None:
    """A parked run is left alone; when its workflow is known again, it fails."""

    def body(ctx: Context) -> None:
        ctx.sleep("nap", 10 * MINUTE)
        ctx.sleep("beyond", 3 * HOUR)

    workflow("deadline.parked", body, timeout=HOUR)
    known = registry.get("deadline.parked")
    assert known is not None
    run_id = known.start()
    run_until_idle()
    registry.forget("deadline.parked")
    advance(2 * HOUR)
    assert known.status(run_id).state == "parked"
    workflow("deadline.parked", body, timeout=HOUR)
    run_until_idle()
    assert_timed_out(run_id)


# -- retry -------------------------------------------------------------------------------------------


def test_p12_a_retry_of_a_timed_out_run_starts_the_deadline_anew() -> None:
    """It has a full hour again, counted from the activation after the retry."""
    with freeze_time(START):
        run_id = stuck.start("waiting")
        advance(HOUR)
        assert_timed_out(run_id)
        advance(10 * MINUTE)
        stuck.retry(run_id)
        run_until_idle()
        assert stuck.status(run_id).state == "waiting"
        advance(HOUR - timedelta(seconds=1))
        assert stuck.status(run_id).state == "waiting"
        advance(1)
        assert_timed_out(run_id)
        assert stuck.status(run_id).finished_at == START + 2 * HOUR + 10 * MINUTE
        stuck.retry(run_id)
        run_until_idle()
        stuck.send(run_id, "answered", "at last")
        run_until_idle()
        assert stuck.status(run_id).result == "at last"


@pytest.mark.parametrize("where", ["sleeping", "waiting", "retrying"])
def test_a_retry_of_a_timed_out_run_keeps_the_time_of_its_waits(where: str) -> None:
    """Three hours of sleep that began before the deadline end three hours after they began, not after the retry."""
    with freeze_time(START):
        run_id = stuck.start(where)
        advance(HOUR)
        stuck.retry(run_id)
        run_until_idle()
        status = stuck.status(run_id)
        assert (status.state, status.resume_at) == (where, START + 3 * HOUR)
        advance(HOUR)
        assert_timed_out(run_id)
        advance(2 * HOUR)
        stuck.retry(run_id)
        run_until_idle()
        status = stuck.status(run_id)
        if where == "retrying":
            assert (status.state, status.attempt) == ("retrying", 3)
        else:
            assert (status.state, status.result) == ("completed", "done" if where == "sleeping" else "nobody")


def test_a_retry_of_a_run_that_failed_otherwise_keeps_its_deadline() -> None:
    """Only a deadline that was the end is counted anew."""
    broken = [True]

    def check() -> None:
        if broken:
            raise ValueError("no")

    @workflow("deadline.kept", timeout=HOUR, retry=Retry(max_attempts=1))
    def working(ctx: Context) -> None:
        ctx.step("check", check)
        ctx.sleep("nap", 3 * HOUR)

    with freeze_time(START):
        run_id = working.start()
        advance(30 * MINUTE)
        assert working.status(run_id).reason == "StepFailed"
        broken.clear()
        working.retry(run_id)
        advance(30 * MINUTE)
        assert_timed_out(run_id)
        assert working.status(run_id).finished_at == START + HOUR


# -- what a timeout may be -----------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize(
    ("start", "seconds"),
    [
        (lambda: stuck.start("sleeping"), 3600),
        (lambda: stuck.using(timeout=60).start("sleeping"), 60),
        (lambda: stuck.using(timeout=0.5).start("sleeping"), 0.5),
        (lambda: stuck.using(timeout=timedelta(days=2)).start("sleeping"), 3 * 3600),
        (lambda: stuck.rerun(stuck.using(timeout=120).start("sleeping")), 120),
    ],
    ids=["workflow", "using", "fraction", "longer", "rerun"],
)
def test_the_timeout_is_the_starts_else_the_workflows(start: Callable[[], UUID], seconds: float) -> None:
    """Seconds or a timedelta, at the start or with the workflow; a rerun has the old run's, in full."""
    with freeze_time(START):
        run_id = start()
        advance(timedelta(days=1))
        assert stuck.status(run_id).finished_at == START + timedelta(seconds=seconds)


@pytest.mark.once
@pytest.mark.parametrize(
    ("timeout", "error"),
    [(0, ValueError), (-1, ValueError), (float("inf"), ValueError), (float("nan"), ValueError), ("1h", TypeError),
     (True, TypeError), (timedelta(0), ValueError)],
    ids=str,
)  # fmt: skip
def test_a_bad_timeout_is_refused_at_the_call(timeout: Any, error: type[Exception]) -> None:
    """At the declaration and at the start, naming the argument; no row is left."""

    def body(ctx: Context) -> None: ...

    with pytest.raises(error, match="timeout"):
        workflow("deadline.bad", body, timeout=timeout)
    assert registry.get("deadline.bad") is None
    with pytest.raises(error, match="timeout"):
        stuck.using(timeout=timeout).start("done")
    assert not WorkflowRun.objects.exists()
