"""The check of the forgotten `await`: what it finds in async bodies, and what it leaves alone."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.checks import run_checks

from canx_flow import AsyncContext, Context, workflow
from canx_flow.core import registry

pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """No other test meets these workflows."""
    yield
    registry.forget("checks.forgotten")


async def forgetful(ctx: AsyncContext, number: int) -> Any:
    """Awaits nothing of what it asks for."""
    ctx.step("one", lambda: number)  # type: ignore[unused-coroutine]  # found
    for name in "ab":
        ctx.sleep(name, 1)  # type: ignore[unused-coroutine]  # found
    news = ctx.wait_for("news", "news")  # noqa: F841  # found
    if number:
        return ctx.step("two", lambda: 2)  # found
    return None


async def careful(ctx: AsyncContext, other: Any) -> Any:
    """Awaits everything, in one way or another."""
    nap = ctx.sleep("nap", 1)
    await nap
    await asyncio.wait_for(ctx.step("one", lambda: 1), 5)
    both = [await ctx.step(name, lambda: 1) for name in "ab"]
    other.step("three", 3)
    ctx.set_attributes(both=both)

    def later() -> Any:
        return ctx.step("four", lambda: 4)

    return await later()


class Flows:
    """A body that is a method."""

    async def method(self, ctx: AsyncContext) -> None:
        ctx.sleep("nap", 1)  # type: ignore[unused-coroutine]  # found


def plain(ctx: Context) -> Any:
    """Nothing is to be awaited."""
    ctx.step("one", lambda: 1)
    return ctx.step("two", lambda: 2)


@pytest.mark.parametrize("function", [forgetful, careful, Flows().method, plain])
def test_a_call_that_nothing_awaits_is_found(function: Any) -> None:
    """Each with its line, and once; what is awaited, handed on or kept for later is none, nor is any in a `def`."""
    flow = workflow("checks.forgotten", function)
    lines, first = inspect.getsourcelines(function)
    marked = [first + number for number, line in enumerate(lines) if line.endswith("# found\n")]
    messages = run_checks(tags=["canx_flow"])
    assert [message.id for message in messages] == ["canx_flow.W008"] * len(marked)
    for line, message in zip(marked, messages, strict=True):
        assert f"test_forgotten.py:{line}. " in message.msg
        assert message.obj is flow


def test_the_message_says_what_to_write() -> None:
    """The call as it is written, and what becomes of the run."""
    workflow("checks.forgotten", Flows().method)
    (message,) = run_checks(tags=["canx_flow"])
    assert message.msg.startswith("Workflow 'checks.forgotten' does not await ctx.sleep(), at ")
    assert "NotAwaited" in message.msg
    assert message.hint == "Write `await ctx.sleep(…)`."
