"""What ends a branch in an unusual way: Ctrl-C at any depth, errors that are no `Exception`, a body that is cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from canx_flow import AsyncContext, workflow
from canx_flow.core import registry
from canx_flow.models import StepRecord
from canx_flow.testing import run_until_idle

from ..steps.shared import ONCE, Crash
from .either import declared

pytestmark = pytest.mark.django_db


def _crash_once(calls: list[str]) -> None:
    calls.append("last")
    if calls.count("last") == 1:
        raise Crash


async def _acrash_once(calls: list[str]) -> None:
    _crash_once(calls)


def _noted(calls: list[str], what: str) -> str:
    calls.append(what)
    return what


Step = Callable[[Any], Any]


async def _in_gather(ctx: Any, step: Step) -> Any:
    return await ctx.gather(inner=step, other=lambda c: c.step("other", str, 1))


async def _in_race(ctx: Any, step: Step) -> Any:
    return await ctx.race(inner=step)


async def _in_race_of_gather(ctx: Any, step: Step) -> Any:
    return await ctx.race(outer=lambda c: c.gather(inner=step))


SHAPES = [_in_gather, _in_race, _in_race_of_gather]


@pytest.mark.parametrize("where", ["plain step", "async step", "item", "body"])
@pytest.mark.parametrize("shape", SHAPES)
def test_ctrl_c_at_any_depth_ends_the_test_and_nothing_hangs(
    kind: str, shape: Callable[..., Any], where: str, calls: list[str]
) -> None:
    """It leaves `run_until_idle`, no other branch begins a step, and the run goes on with the next call of that."""

    async def raises(ctx: Any) -> Any:
        if where == "body":
            _crash_once(calls)
        if where == "item":
            return await ctx.map("each", lambda _: _crash_once(calls), range(3))
        return await ctx.step("last", _crash_once if where == "plain step" else _acrash_once, calls)

    async def body(ctx: Any) -> Any:
        return await ctx.gather(
            first=lambda c: c.step("noted", _noted, calls, "first"),
            outer=lambda c: shape(c, raises),
            third=lambda c: c.gather(inner=lambda d: d.step("noted", _noted, calls, "third")),
        )

    flow = declared(kind, body)
    run_id = flow.start()
    with pytest.raises(KeyboardInterrupt):
        run_until_idle()
    assert "third" not in calls
    run_until_idle()
    assert flow.status(run_id).state == "completed"
    assert (calls.count("first"), calls.count("third")) == (1, 1)


@pytest.mark.parametrize("where", ["step", "body", "item"])
@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, MemoryError, asyncio.CancelledError])
def test_c154_what_is_no_exception_is_a_failure_of_its_branch(
    kind: str, error: type[BaseException], where: str, calls: list[str]
) -> None:
    """In a step it is a failed attempt; out of a branch's own code it is raised where the branches were begun."""

    def fails() -> None:
        calls.append("called")
        raise error("no")

    async def raises(ctx: Any) -> Any:
        if where == "body":
            fails()
        if where == "item":
            return await ctx.map("each", lambda _: fails(), range(3), tolerate=3, retry=ONCE)
        return await ctx.step("last", fails, retry=ONCE)

    async def body(ctx: Any) -> Any:
        try:
            await ctx.gather(outer=lambda c: c.gather(inner=raises), naps=lambda c: c.sleep("nap", 60))
        except BaseException as raised:
            if not calls or ctx.is_replaying or type(raised).__name__ == "Leave":
                raise
            return type(raised).__name__
        return "none"

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    if where == "item":
        assert flow.status(run_id).state == "sleeping"
        assert list(StepRecord.objects.filter(state="failed").values_list("attempts", flat=True)) == [1, 1, 1]
        return
    expected = error.__name__ if where == "body" else "StepFailed"
    assert (flow.status(run_id).state, flow.status(run_id).result) == ("completed", expected)
    assert calls == ["called"]


@pytest.mark.once
def test_a_branch_that_is_cut_off_as_it_waits_for_its_place_takes_none_along(calls: list[str]) -> None:
    """Its own branches have ended, another one has its place meanwhile, and its time is over: all go on after that."""
    registry.forget("branches.any")

    async def long() -> None:
        calls.append("long")
        await asyncio.sleep(0.5)

    @workflow("branches.any")
    async def body(ctx: AsyncContext) -> Any:
        async def limited(own: AsyncContext) -> str:
            try:
                async with asyncio.timeout(0.2):
                    await own.gather(quick=lambda c: c.step("quick", _noted, calls, "quick"))
            except TimeoutError:
                calls.append("over")
            return "limited"

        both = await ctx.gather(limited=limited, long=lambda c: c.step("long", long))
        return [both, await ctx.gather(after=lambda c: c.step("after", _noted, calls, "after"))]

    run_id = body.start()
    run_until_idle()
    assert body.result(run_id) == [{"limited": "limited", "long": None}, {"after": "after"}]
    assert calls == ["quick", "long", "over", "after"]
    registry.forget("branches.any")
