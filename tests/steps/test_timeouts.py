"""Steps that take longer than their timeout."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from canx_flow import AsyncContext, Context, StepFailed, StepTimeout, workflow
from canx_flow.models import StepRecord
from canx_flow.testing import advance, run_until_idle

from .shared import ONCE, SOON

pytestmark = pytest.mark.django_db


@pytest.mark.once
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("timeout", [0.01, timedelta(milliseconds=10)])
def test_c026_a_step_that_takes_too_long_is_retried(calls: list[str], asynchronous: bool, timeout: Any) -> None:
    """Over its timeout an async step is cancelled; that is a failed attempt, recorded once, and retried."""

    async def hang_once() -> str:
        calls.append("called")
        if len(calls) > 2:
            return "done"
        try:
            await asyncio.Event().wait()
        finally:
            calls.append("cancelled")
        return "never"

    @workflow("steps.c026")
    def plain(ctx: Context) -> str:
        return ctx.step("hang", hang_once, retry=SOON, timeout=timeout)

    @workflow("steps.c026-async")
    async def awaited(ctx: AsyncContext) -> str:
        return await ctx.step("hang", hang_once, retry=SOON, timeout=timeout)

    flow: Any = awaited if asynchronous else plain
    run_id = flow.start()
    run_until_idle()
    assert calls == ["called", "cancelled"]
    row = StepRecord.objects.get(run_id=run_id)
    assert row.attempts == 1
    assert row.errors.count("canx_flow.exceptions.StepTimeout: ") == 1
    advance(60)
    assert flow.result(run_id) == "done"
    assert calls == ["called", "cancelled", "called"]


@pytest.mark.once
def test_c026_a_timeout_that_is_final_replays(calls: list[Any]) -> None:
    """After the last attempt StepFailed says that it was a timeout, now and on replay."""

    async def hang() -> None:
        calls.append("called")
        await asyncio.Event().wait()

    answers: list[list[bool]] = []

    @workflow("steps.c026-final")
    def flow(ctx: Context) -> None:
        try:
            ctx.step("hang", hang, retry=ONCE, timeout=0.01)
        except StepFailed as error:
            answers.append([error.is_a(StepTimeout), error.is_a(TimeoutError), "0.01 seconds" in str(error)])
        ctx.sleep("nap", 60)

    run_id = flow.start()
    advance(60)
    assert flow.status(run_id).state == "completed"
    assert calls == ["called"]
    assert answers == [[True, True, True]] * 2


@pytest.mark.once
def test_c026_a_timeout_of_the_function_s_own_is_no_step_timeout() -> None:
    """A TimeoutError that the function raises itself is kept as it is."""

    async def own() -> None:
        raise TimeoutError("the provider's")

    @workflow("steps.c026-own")
    def flow(ctx: Context) -> Any:
        try:
            ctx.step("own", own, retry=ONCE, timeout=60)
        except StepFailed as error:
            return error.is_a(TimeoutError), error.is_a(StepTimeout)

    run_id = flow.start()
    run_until_idle()
    assert flow.result(run_id) == (True, False)
