"""What the body of an `async def` workflow may do with its calls: bound them, hand them to a task, forget them."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from canx_flow import AsyncContext, NotAwaited, Retry, StepFailed, workflow
from canx_flow.core import registry
from canx_flow.models import StepRecord
from canx_flow.testing import advance, run_until_idle

pytestmark = [pytest.mark.once, pytest.mark.django_db]

ONCE = Retry(max_attempts=1)
LIMIT = 0.5  # seconds: a step that hangs has begun by then, on a busy machine too


@pytest.fixture(autouse=True)
def calls() -> Iterator[list[str]]:
    """What the steps of a test did; its workflow is forgotten afterwards."""
    yield []
    registry.forget("async.body")


def _names() -> list[str]:
    return list(StepRecord.objects.order_by("seq").values_list("name", flat=True))


async def _hangs(calls: list[str]) -> str:
    """Without end when it is called for the first time."""
    calls.append("hangs")
    if len(calls) == 1:
        await asyncio.Event().wait()
    return "done"


# -- cut off from outside --------------------------------------------------------------------------


async def _within_timeout(call: Coroutine[Any, Any, str]) -> str:
    async with asyncio.timeout(LIMIT):
        return await call


async def _within_wait_for(call: Coroutine[Any, Any, str]) -> str:
    return await asyncio.wait_for(call, LIMIT)


async def _beside_a_task_that_fails(call: Coroutine[Any, Any, str]) -> str:
    async def fail() -> None:
        await asyncio.sleep(LIMIT)
        raise TimeoutError

    try:
        async with asyncio.TaskGroup() as group:
            failing = group.create_task(fail())
            value = await call
            failing.cancel()
            return value
    except* TimeoutError:
        pass
    raise TimeoutError


@pytest.mark.parametrize("bound", [_within_timeout, _within_wait_for, _beside_a_task_that_fails])
def test_a_step_that_is_cut_off_from_outside_is_recorded_as_nothing(
    calls: list[str], bound: Callable[[Coroutine[Any, Any, str]], Coroutine[Any, Any, str]]
) -> None:
    """It is no failure of the step's: what was stored before stays, and on the next replay the step is called again."""

    @workflow("async.body")
    async def body(ctx: AsyncContext) -> str:
        await ctx.step("before", calls.copy)
        try:
            return await bound(ctx.step("hangs", _hangs, calls))
        except TimeoutError:
            await ctx.sleep("nap", 60)
            return "given up"

    run_id = body.start()
    run_until_idle()
    assert (body.status(run_id).state, _names()) == ("sleeping", ["before", "nap"])
    advance(60)
    assert body.result(run_id) == "done"
    assert calls == ["hangs", "hangs"]
    record = StepRecord.objects.get(name="hangs")
    assert (record.state, record.attempts, record.errors) == ("completed", 1, None)


def test_an_at_most_once_step_that_is_cut_off_is_not_called_again(calls: list[str]) -> None:
    """Whether it had its effect is not known: that is final, as after a crash."""

    @workflow("async.body")
    async def body(ctx: AsyncContext) -> str:
        try:
            return await asyncio.wait_for(ctx.step("hangs", _hangs, calls, at_most_once=True), LIMIT)
        except TimeoutError:
            await ctx.sleep("nap", 60)
            return "given up"
        except StepFailed as failure:
            return type(failure).__name__

    run_id = body.start()
    run_until_idle()
    advance(60)
    assert (body.result(run_id), calls) == ("StepInterrupted", ["hangs"])


async def _raises() -> None:
    raise asyncio.CancelledError


async def _awaits_what_was_cancelled() -> None:
    task = asyncio.create_task(asyncio.sleep(10))
    task.cancel()
    await task


async def _limits_itself() -> None:
    async with asyncio.timeout(0.01):
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("function", "error"),
    [(_raises, "CancelledError"), (_awaits_what_was_cancelled, "CancelledError"), (_limits_itself, "TimeoutError")],
)
def test_what_a_step_cancels_by_itself_is_its_own_failure(function: Any, error: str) -> None:
    """A timeout around its call changes nothing of that, as long as it has not passed."""

    @workflow("async.body")
    async def body(ctx: AsyncContext) -> str:
        try:
            await asyncio.wait_for(ctx.step("fails", function, retry=ONCE), 20)
        except StepFailed as failure:
            return str(failure.errors[-1]["type"])
        return ""

    run_id = body.start()
    run_until_idle()
    assert body.result(run_id).rpartition(".")[2] == error
    assert StepRecord.objects.get().state == "failed"


def test_a_body_that_cancels_itself_fails_its_run() -> None:
    """Its task is the worker's, too, which goes on and stores that."""

    @workflow("async.body")
    async def body(ctx: AsyncContext) -> None:
        await ctx.step("one", lambda: 1)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()  # To be delivered wherever something is awaited next, be it by the engine.

    run_id = body.start()
    run_until_idle()
    assert body.status(run_id).state == "completed"

    registry.forget("async.body")

    @workflow("async.body")
    async def awaits(ctx: AsyncContext) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    run_id = awaits.start()
    run_until_idle()
    assert (awaits.status(run_id).state, awaits.status(run_id).reason) == ("failed", "CancelledError")


# -- in a task of its own --------------------------------------------------------------------------


def test_a_call_may_be_awaited_by_a_task_that_the_body_makes_of_it() -> None:
    """As `shield`, `wait_for` on Python 3.11, and task groups do; suspensions end the body all the same."""

    @workflow("async.body")
    async def body(ctx: AsyncContext) -> list[Any]:
        one = await asyncio.shield(ctx.step("one", lambda: 1))
        async with asyncio.TaskGroup() as group:
            nap = group.create_task(ctx.sleep("nap", 60))
        assert nap.done()
        two = await asyncio.wait_for(asyncio.ensure_future(ctx.step("two", lambda: 2)), 20)
        return [one, two, await ctx.wait_for("news", "news", timeout=0, default=3)]

    run_id = body.start()
    run_until_idle()
    assert body.status(run_id).state == "sleeping"
    advance(60)
    assert body.result(run_id) == [1, 2, 3]


def test_a_suspension_in_a_task_that_nobody_awaits_ends_the_body() -> None:
    """The body need not look at its task for the run to be suspended: nothing hangs."""

    @workflow("async.body")
    async def body(ctx: AsyncContext) -> str:
        nap = asyncio.create_task(ctx.sleep("nap", 60))
        if not ctx.is_replaying:
            await asyncio.Event().wait()
        await nap
        return "woke"

    run_id = body.start()
    run_until_idle()
    assert body.status(run_id).state == "sleeping"
    advance(60)
    assert body.result(run_id) == "woke"


def test_two_calls_side_by_side_are_refused_at_once(calls: list[str]) -> None:
    """The error names what will serve; the one that was under way is cut off, and nothing hangs or is recorded."""

    @workflow("async.body")
    async def body(ctx: AsyncContext) -> None:
        await asyncio.gather(ctx.step("one", _hangs, calls), ctx.step("two", _hangs, calls))

    run_id = body.start()
    run_until_idle()
    status = body.status(run_id)
    assert (status.state, status.reason) == ("failed", "WrongContext")
    assert "ctx.gather" in status.error["message"]  # type: ignore[index]
    assert _names() == []


# -- forgotten -------------------------------------------------------------------------------------


def _line(function: Any, text: str) -> int:
    lines, first = inspect.getsourcelines(inspect.unwrap(function))
    return first + next(number for number, line in enumerate(lines) if text in line)


def test_a_call_that_is_never_awaited_fails_the_run() -> None:
    """A run must not be called completed whose step was skipped; the message has the call and its line."""

    async def function(ctx: AsyncContext) -> str:
        await ctx.step("one", lambda: 1)
        ctx.step("two", lambda: 2)  # type: ignore[unused-coroutine]
        ctx.sleep("three", 3)  # type: ignore[unused-coroutine]
        return "done"

    body = workflow("async.body", function)
    run_id = body.start()
    run_until_idle()
    status = body.status(run_id)
    assert (status.state, status.reason, _names()) == ("failed", "NotAwaited", ["one"])
    assert status.error is not None
    assert status.error["type"] == f"{NotAwaited.__module__}.NotAwaited"
    assert "ctx.step('two')" in status.error["message"]
    assert f"test_async_bodies.py:{_line(function, 'two')}" in status.error["message"]


def test_a_call_that_is_not_awaited_to_its_end_fails_the_run(calls: list[str]) -> None:
    """Its task is cut off, and what it was to return is missing as much."""

    @workflow("async.body")
    async def body(ctx: AsyncContext) -> str:
        begun = asyncio.Event()

        async def begin() -> None:
            begun.set()
            await _hangs(calls)

        task = asyncio.create_task(ctx.step("one", begin))
        await begun.wait()
        return str(task.done())

    run_id = body.start()
    run_until_idle()
    assert (body.status(run_id).reason, calls, _names()) == ("NotAwaited", ["hangs"], [])


@pytest.mark.parametrize("begun", [True, False])
def test_a_call_whose_task_the_body_has_cancelled_is_not_missed(
    calls: list[str], caplog: pytest.LogCaptureFixture, begun: bool
) -> None:
    """As the loser of a race: the body need not wait until its cancellation is delivered; asyncio does not complain."""

    @workflow("async.body")
    async def body(ctx: AsyncContext) -> str:
        in_step = asyncio.Event()

        async def begin() -> None:
            in_step.set()
            await _hangs(calls)

        task = asyncio.create_task(ctx.step("one", begin))
        if begun:
            await in_step.wait()
        task.cancel()
        return "won"

    run_id = body.start()
    run_until_idle()
    gc.collect()
    assert (body.status(run_id).state, calls, _names()) == ("completed", ["hangs"] * begun, [])
    assert caplog.messages == []


def test_a_task_that_never_began_is_told_of_by_name_alone(caplog: pytest.LogCaptureFixture) -> None:
    """The run fails with NotAwaited; asyncio has no complaint of its own."""

    @workflow("async.body")
    async def body(ctx: AsyncContext) -> None:
        tasks.append(asyncio.create_task(ctx.step("one", lambda: 1)))

    tasks: list[asyncio.Task[int]] = []
    run_id = body.start()
    run_until_idle()
    assert (body.status(run_id).reason, _names()) == ("NotAwaited", [])
    tasks.clear()
    gc.collect()
    assert [record.name for record in caplog.records] == ["canx_flow.run"]


@pytest.mark.parametrize("how", ["fails", "suspends", "cancels"])
def test_a_body_that_ends_otherwise_tells_of_that_alone(how: str, recwarn: pytest.WarningsRecorder) -> None:
    """Python warns of no coroutine, and the reason is the body's own."""

    @workflow("async.body")
    async def body(ctx: AsyncContext) -> None:
        if how == "cancels":
            task = asyncio.create_task(ctx.step("one", lambda: 1))
            task.cancel()
            await asyncio.wait({task})
            return
        ctx.step("one", lambda: 1)  # type: ignore[unused-coroutine]
        if how == "fails":
            raise LookupError
        await ctx.sleep("nap", 60)

    run_id = body.start()
    run_until_idle()
    reason = {"fails": "LookupError", "suspends": "", "cancels": ""}[how]
    assert body.status(run_id).reason == reason
    assert body.status(run_id).state == {"fails": "failed", "suspends": "sleeping", "cancels": "completed"}[how]
    assert [str(warning.message) for warning in recwarn] == []


# -- a context of its own --------------------------------------------------------------------------

_tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


async def _become(tenant: str) -> str:
    before = _tenant.get()
    _tenant.set(tenant)
    await asyncio.sleep(0)
    return f"{before} {_tenant.get()}"


@pytest.mark.parametrize("timeout", [None, 20])
def test_c148_what_an_async_step_sets_in_its_context_stays_there(timeout: float | None) -> None:
    """C148: neither the body nor the next step sees it; what the body sets, its steps see."""

    @workflow("async.body")
    async def body(ctx: AsyncContext) -> list[str]:
        one = await ctx.step("one", _become, "one", timeout=timeout)
        _tenant.set(f"body after {_tenant.get()}")
        return [one, await ctx.step("two", _become, "two", timeout=timeout), _tenant.get()]

    run_id = body.start()
    run_until_idle()
    assert body.result(run_id) == ["nobody one", "body after nobody two", "body after nobody"]
