"""P18: a database error that leaves the body is an outage, not a failure of the run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError
from freezegun import freeze_time

from canx_flow import AsyncContext, Context, workflow
from canx_flow.core import clock
from canx_flow.models import Timer, WorkflowRun
from canx_flow.store import events
from canx_flow.testing import advance, run_until_idle

pytestmark = pytest.mark.django_db

reads: list[int] = []
read: Callable[[], object] = list


@workflow("outage.plain")
def plain(ctx: Context) -> str:
    """A step, an ORM read outside steps, another step."""
    ctx.step("before", reads.append, 0)
    read()
    return ctx.step("after", lambda: "done")


@workflow("outage.async")
async def asynchronous(ctx: AsyncContext) -> str:
    """The same in an `async def` workflow."""
    await ctx.step("before", reads.append, 0)
    read()
    return await ctx.step("after", lambda: "done")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the body's read fail so many times."""
    reads.clear()

    def set_up(times: int, error: type[Exception] = OperationalError) -> None:
        def fail() -> None:
            reads.append(1)
            if reads.count(1) <= times:
                raise error("server closed the connection unexpectedly")

        monkeypatch.setitem(globals(), "read", fail)

    return set_up


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
@pytest.mark.parametrize("flow", [plain, asynchronous], ids=["def", "async def"])
def test_p18_a_read_that_meets_a_failover_is_tried_again(flow: Any, error: type[Exception], failing: Any) -> None:
    """The run is handed back for a moment, and completes; its stored step is not repeated."""
    failing(2, error)
    run_id = flow.start()
    run_until_idle()

    status = flow.status(run_id)
    assert (status.state, status.step) == ("retrying", None)
    assert error.__name__ in status.reason
    advance(timedelta(minutes=5))

    assert flow.status(run_id).result == "done"
    assert reads.count(0) == 1
    assert WorkflowRun.objects.get(id=run_id).outages == 0
    assert not Timer.objects.exists()


@freeze_time("2026-03-01 12:00")
def test_each_hand_back_waits_longer_up_to_a_minute(failing: Any) -> None:
    """A database that stays away is not hammered."""
    failing(9)
    run_id = plain.start()
    run_until_idle()
    waits = []
    while (status := plain.status(run_id)).state == "retrying":
        waits.append((status.resume_at - clock.now()).total_seconds())
        plain.wake(run_id)
        run_until_idle()

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert status.result == "done"


def test_p18_after_max_recoveries_without_a_new_record_the_run_fails_with_the_error(
    failing: Any, settings: Any
) -> None:
    """While the worker's own connection works, the same error again and again is the run's own."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "MAX_RECOVERIES": 3}
    failing(1000)
    run_id = plain.start()
    advance(timedelta(hours=1))

    status = plain.status(run_id)
    assert status.state == "failed"
    assert status.error["type"] == "django.db.utils.OperationalError"
    assert reads.count(1) == 4, "three hand-backs, then the failure"


def test_a_new_record_resets_the_count(failing: Any, settings: Any) -> None:
    """Only hand-backs in a row without a new record count."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "MAX_RECOVERIES": 1}

    @workflow("outage.twice")
    def twice(ctx: Context) -> str:
        for part in ("first", "second"):
            ctx.step(part, lambda: None)
            if reads.count(part) == 0:  # type: ignore[arg-type]
                reads.append(part)  # type: ignore[arg-type]
                raise OperationalError("gone away")
        return "done"

    run_id = twice.start()
    advance(timedelta(minutes=5))

    assert twice.status(run_id).result == "done"


def test_a_run_retried_after_such_a_failure_goes_on(failing: Any, settings: Any) -> None:
    """`retry` gives it all its hand-backs anew."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "MAX_RECOVERIES": 1}
    failing(2)
    run_id = plain.start()
    advance(timedelta(minutes=5))
    assert plain.status(run_id).state == "failed"

    plain.retry(run_id)
    advance(timedelta(minutes=5))

    assert plain.status(run_id).result == "done"


def test_an_outage_met_again_while_the_last_one_is_still_open_waits_again(failing: Any) -> None:
    """A run that was paused and resumed meanwhile has its old timer still: the new one takes its place."""

    @workflow("outage.paused")
    def paused(ctx: Context) -> None:
        if ctx.is_replaying or reads:
            ctx.step("new", lambda: None)
        reads.append(1)
        raise OperationalError("gone away")

    failing(0)
    run_id = paused.start()
    run_until_idle()
    paused.pause(run_id)
    paused.resume(run_id)
    run_until_idle()

    assert paused.status(run_id).state == "retrying"
    assert Timer.objects.filter(run_id=run_id).count() == 1


def test_an_outage_while_an_event_is_looked_for_is_not_the_answer_of_the_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The body's `except` cannot take it for one; the run is tried again."""
    looked: list[int] = []

    @workflow("outage.look")
    def looking(ctx: Context) -> Any:
        try:
            return ctx.wait_for("answer", "answer")
        except Exception:  # noqa: BLE001 - what a careless body would do
            return "taken for an answer"

    def unread(*arguments: Any, **options: Any) -> Any:
        looked.append(1)
        if len(looked) == 1:
            raise OperationalError("gone away")
        return real(*arguments, **options)

    real = events.unread
    monkeypatch.setattr(events, "unread", unread)
    run_id = looking.start()
    run_until_idle()
    assert looking.status(run_id).state == "retrying"

    looking.send(run_id, "answer", 42)
    advance(timedelta(minutes=5))
    assert looking.status(run_id).result == 42


def test_c103_a_failed_step_is_no_crash_recovery() -> None:
    """However often a step fails, the run's recoveries stay at zero."""

    @workflow("outage.failing")
    def failing_step(ctx: Context) -> None:
        ctx.step("fail", lambda: 1 / 0)

    run_id = failing_step.start()
    advance(timedelta(hours=3))

    assert failing_step.status(run_id).state == "failed"
    assert WorkflowRun.objects.get(id=run_id).recoveries == 0
