"""A gather in an `async def` body under what asyncio has: bounded, cancelled, beside other tasks."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from canx_flow import AsyncContext, workflow
from canx_flow.core import registry
from canx_flow.models import StepRecord
from canx_flow.replay.async_driver import AsyncDriver
from canx_flow.testing import advance, run_until_idle

pytestmark = [pytest.mark.once, pytest.mark.django_db]


async def _hangs(calls: list[str]) -> str:
    """Without end when it is called for the first time."""
    calls.append("hangs")
    if len(calls) == 1:
        await asyncio.Event().wait()
    return "done"


def _noted(calls: list[str]) -> str:
    calls.append("noted")
    return "noted"


def test_a_gather_that_is_cut_off_ends_its_branches(calls: list[str]) -> None:
    """Nothing hangs, the step that was under way is recorded as nothing, what was stored stays."""
    registry.forget("branches.any")

    @workflow("branches.any")
    async def body(ctx: AsyncContext) -> Any:
        try:
            async with asyncio.timeout(0.5):
                return await ctx.gather(
                    stored=lambda c: c.step("stored", lambda: 1), hangs=lambda c: c.step("hangs", _hangs, calls)
                )
        except TimeoutError:
            await ctx.sleep("nap", 60)
            return await ctx.gather(again=lambda c: c.step("again", _hangs, calls))

    run_id = body.start()
    run_until_idle()
    assert body.status(run_id).state == "sleeping"
    assert list(StepRecord.objects.order_by("seq").values_list("name", flat=True)) == ["stored/stored", "nap"]
    advance(60)
    assert body.result(run_id) == {"stored": 1, "hangs": "done"}
    assert calls == ["hangs", "hangs"]
    registry.forget("branches.any")


def test_a_map_that_is_cut_off_ends_its_items(calls: list[str]) -> None:
    """The run goes on after that, in the same activation; items that were not over are called again when asked for."""
    registry.forget("branches.any")

    async def each(item: int) -> int:
        calls.append(f"item {item}")
        if len(calls) == 2:
            await asyncio.Event().wait()
        return item

    @workflow("branches.any")
    async def body(ctx: AsyncContext) -> Any:
        async def limited(own: AsyncContext) -> str:
            try:
                async with asyncio.timeout(0.3):
                    await own.map("each", each, range(3))
            except TimeoutError:
                return await own.step("after", _noted, calls)
            return "in time"

        return [await ctx.gather(limited=limited), await ctx.gather(more=lambda c: c.map("each", each, range(3)))]

    run_id = body.start()
    assert run_until_idle() == 1
    assert body.result(run_id) == [{"limited": "noted"}, {"more": [0, 1, 2]}]
    assert calls == ["item 0", "item 1", "noted", "item 0", "item 1", "item 2"]
    registry.forget("branches.any")


def test_a_branch_that_has_not_begun_when_it_is_cut_off_loses_no_place(calls: list[str]) -> None:
    """What was launched at that very moment never ran: its place is given back, and what follows has it."""
    registry.forget("branches.any")

    @workflow("branches.any")
    async def body(ctx: AsyncContext) -> Any:
        begun, own = AsyncDriver.launch, asyncio.current_task()
        assert own is not None

        def launched(driver: AsyncDriver, member: Any) -> None:
            begun(driver, member)
            for task in (*member.team.tasks, own):  # As a cut-off does that comes before the loop's next round.
                task.cancel()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(AsyncDriver, "launch", launched)
            with suppress(asyncio.CancelledError):
                await ctx.gather(lost=lambda c: c.step("lost", _noted, calls))
        own.uncancel()
        return await ctx.gather(next=lambda c: c.step("next", _noted, calls))

    run_id = body.start()
    run_until_idle()
    assert body.result(run_id) == {"next": "noted"}
    assert calls == ["noted"]
    registry.forget("branches.any")


def test_a_gather_in_a_task_of_a_group() -> None:
    """It is a call like others: awaited by itself, beside tasks that use no context."""
    registry.forget("branches.any")

    @workflow("branches.any")
    async def body(ctx: AsyncContext) -> Any:
        async with asyncio.TaskGroup() as group:
            both = group.create_task(ctx.gather(a=lambda c: c.step("a", lambda: 1), b=lambda c: c.sleep("nap", 60)))
            group.create_task(asyncio.sleep(0))
        return both.result()

    run_id = body.start()
    run_until_idle()
    assert body.status(run_id).state == "sleeping"
    advance(60)
    assert body.result(run_id) == {"a": 1, "b": None}
    registry.forget("branches.any")


def test_asyncio_gather_names_what_serves() -> None:
    """Two calls of one context side by side raise WrongContext at once."""
    registry.forget("branches.any")

    @workflow("branches.any")
    async def body(ctx: AsyncContext) -> None:
        async def branch(own: AsyncContext) -> None:
            await asyncio.gather(own.step("a", asyncio.sleep, 0), own.step("b", asyncio.sleep, 0))

        await ctx.gather(branch=branch)

    run_id = body.start()
    run_until_idle()
    status = body.status(run_id)
    assert (status.state, status.reason) == ("failed", "WrongContext")
    assert "ctx.gather" in str(status.error)
    registry.forget("branches.any")


def test_a_branch_that_forgets_to_await_fails() -> None:
    """As a body does: nothing is called ended that was skipped."""
    registry.forget("branches.any")

    @workflow("branches.any")
    async def body(ctx: AsyncContext) -> None:
        async def branch(own: AsyncContext) -> None:
            own.step("a", lambda: 1)  # type: ignore[unused-coroutine]

        await ctx.gather(branch=branch)

    run_id = body.start()
    run_until_idle()
    assert (body.status(run_id).state, body.status(run_id).reason) == ("failed", "NotAwaited")
    registry.forget("branches.any")
