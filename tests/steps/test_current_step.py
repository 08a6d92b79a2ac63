"""What a step can learn of itself."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from canx_flow import AsyncContext, Context, NotInStep, current_step, in_step, workflow
from canx_flow.testing import advance, run_until_idle

from .shared import SOON, Crash, TransientError, crash

pytestmark = pytest.mark.django_db


@pytest.mark.once
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_step_function_may_ask_where_it_is(calls: list[Any], asynchronous: bool) -> None:
    """`current_step()` gives run, whole key, attempt and idempotency key in plain and async steps, and only there."""

    def work() -> None:
        assert in_step()
        step = current_step()
        calls.append((step.run_id, step.name, step.attempt, step.idempotency_key))

    async def awork() -> None:
        await asyncio.sleep(0)
        work()

    def outside() -> None:
        assert not in_step()
        with pytest.raises(NotInStep, match="outside a step"):
            current_step()

    @workflow("steps.current")
    def plain(ctx: Context) -> None:
        for function in (work, awork, work):
            outside()
            ctx.step("work", function)

    @workflow("steps.current-async")
    async def awaited(ctx: AsyncContext) -> None:
        for function in (work, awork, work):
            outside()
            await ctx.step("work", function)

    flow: Any = awaited if asynchronous else plain
    outside()
    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "completed"
    assert [call[:3] for call in calls] == [(run_id, "work", 1), (run_id, "work#2", 1), (run_id, "work#3", 1)]
    keys = {call[3] for call in calls}
    assert len(keys) == 3
    assert all(str(UUID(key)) == key for key in keys)


@pytest.mark.once
def test_the_idempotency_key_is_stable_over_retries_and_crashes(calls: list[str]) -> None:
    """One step has one key, whatever happens to its attempts and its worker; another run's step has another."""

    def work() -> None:
        calls.append(current_step().idempotency_key)
        if len(calls) == 1:
            raise Crash
        if len(calls) == 2:
            raise TransientError

    @workflow("steps.idempotency")
    def flow(ctx: Context) -> None:
        ctx.step("work", work, retry=SOON)

    flow.start()
    crash()
    advance(60)
    flow.start()
    run_until_idle()
    assert len(calls) == 4
    assert len(set(calls[:3])) == 1
    assert calls[3] != calls[0]
