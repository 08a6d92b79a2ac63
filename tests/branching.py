"""Workflows with branches that real workers run in tests. Imported by `tests.workflows`."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from canx_flow import AsyncContext, Context, Retry, workflow

from . import effects

RETRIED = Retry(initial=0.2, factor=1, jitter=0)


def _flaky(name: str, times: int) -> str:
    effects.append(name)
    if effects.count(name) <= times:
        raise ValueError("not yet")
    return name


# -- a branch that waits beside a step that takes long ---------------------------------------------


@workflow("branches.beside")
def beside(ctx: Context) -> Any:
    """A retry, a sleep and an event beside a step that ends when the test says so."""
    return ctx.gather(
        long=lambda c: c.step("gate", effects.gate, "long"),
        retried=lambda c: c.step("work", _flaky, "retried", 2, retry=RETRIED),
        slept=_slept,
        told=_told,
    )


def _slept(ctx: Context) -> str:
    ctx.sleep("nap", 0.2)
    ctx.step("wake", effects.append, "slept")
    return "slept"


def _told(ctx: Context) -> str:
    news = ctx.wait_for("read", "news")
    ctx.step("note", effects.append, f"told {news}")
    return str(news)


@workflow("branches.beside-async")
async def beside_async(ctx: AsyncContext) -> Any:
    """The same, awaited."""

    async def slept(c: AsyncContext) -> str:
        await c.sleep("nap", 0.2)
        await c.step("wake", effects.append, "slept")
        return "slept"

    async def told(c: AsyncContext) -> str:
        news = await c.wait_for("read", "news")
        await c.step("note", effects.append, f"told {news}")
        return str(news)

    return await ctx.gather(
        long=lambda c: c.step("gate", effects.agate, "long"),
        retried=lambda c: c.step("work", _flaky, "retried", 2, retry=RETRIED),
        slept=slept,
        told=told,
    )


# -- a race whose loser is in the middle of a step ---------------------------------------------------


@workflow("branches.race")
def race(ctx: Context) -> Any:
    """The winner ends while the loser's step is in flight."""

    def slow(c: Context) -> None:
        c.step("gate", effects.gate, "slow")
        c.step("never", effects.append, "never")

    won = ctx.race(slow=slow, quick=lambda c: c.step("wait", effects.gate, "quick"))
    ctx.step("after", effects.append, "after")
    return won


@workflow("branches.race-async")
async def race_async(ctx: AsyncContext) -> Any:
    """The same, awaited."""

    async def slow(c: AsyncContext) -> None:
        await c.step("gate", effects.agate, "slow")
        await c.step("never", effects.append, "never")

    won = await ctx.race(slow=slow, quick=lambda c: c.step("wait", effects.agate, "quick"))
    await ctx.step("after", effects.append, "after")
    return won


# -- how many at once --------------------------------------------------------------------------------

_counting = threading.Lock()
_now = [0, 0]


def _count() -> int:
    """Tell how many calls of this there have been at once; each waits until there are eight, or nearly."""
    with _counting:
        _now[0] += 1
        _now[1] = max(_now)
    threading.Event().wait(0.05)
    with _counting:
        _now[0] -= 1
        return _now[1]


async def _acount() -> int:
    _now[0] += 1
    _now[1] = max(_now)
    await asyncio.sleep(0.05)
    _now[0] -= 1
    return _now[1]


@workflow("branches.many")
def many(ctx: Context) -> int:
    """Forty branches in two layers, of which each counts how many of them there are at once."""

    def layer(c: Context) -> int:
        return max(c.gather(**{f"n{n}": lambda d: d.step("count", _count) for n in range(8)}).values())

    return max(ctx.gather(**{f"n{n}": layer for n in range(5)}).values())


@workflow("branches.many-async")
async def many_async(ctx: AsyncContext) -> int:
    """The same, awaited."""

    async def layer(c: AsyncContext) -> int:
        return max((await c.gather(**{f"n{n}": lambda d: d.step("count", _acount) for n in range(8)})).values())

    return max((await ctx.gather(**{f"n{n}": layer for n in range(5)})).values())


@workflow("branches.mapped")
def mapped(ctx: Context, items: int, concurrency: int | None) -> int:
    """Tells how many items are called at once."""

    def count(_item: int) -> int:
        return _count()

    return max(ctx.map("count", count, range(items), concurrency=concurrency))


@workflow("branches.mapped-async")
async def mapped_async(ctx: AsyncContext, items: int, concurrency: int | None) -> int:
    """The same, awaited."""

    async def count(_item: int) -> int:
        return await _acount()

    return max(await ctx.map("count", count, range(items), concurrency=concurrency))


# -- events ------------------------------------------------------------------------------------------


@workflow("branches.readers")
def readers(ctx: Context, number: int) -> list[Any]:
    """So many branches that wait for the same event."""

    def reads(own: Context) -> Any:
        return own.wait_for("read", "news")

    return list(ctx.gather(**{f"n{n}": reads for n in range(number)}).values())


@workflow("branches.readers-async")
async def readers_async(ctx: AsyncContext, number: int) -> list[Any]:
    """The same, awaited."""

    async def reads(own: AsyncContext) -> Any:
        return await own.wait_for("read", "news")

    return list((await ctx.gather(**{f"n{n}": reads for n in range(number)})).values())


# -- what ends while no worker runs --------------------------------------------------------------------


@workflow("branches.first")
def first(ctx: Context, names: list[str]) -> Any:
    """A race of an event and a timer, opened in this order."""
    branches: dict[str, Any] = {
        "news": lambda own: own.wait_for("read", "news"), "naps": lambda own: own.sleep("nap", 3600),
    }  # fmt: skip
    return ctx.race(**{name: branches[name] for name in names})


@workflow("branches.first-async")
async def first_async(ctx: AsyncContext, names: list[str]) -> Any:
    """The same, awaited."""
    branches: dict[str, Any] = {
        "news": lambda own: own.wait_for("read", "news"), "naps": lambda own: own.sleep("nap", 3600),
    }  # fmt: skip
    return await ctx.race(**{name: branches[name] for name in names})


# -- steps in flight as others decide ------------------------------------------------------------------


def _fails(ctx: Context) -> None:
    ctx.step("gate", effects.gate, "fails")
    raise LookupError


@workflow("branches.fails-beside")
def fails_beside(ctx: Context) -> None:
    """A branch fails while the other one is in a step."""

    def slow(own: Context) -> None:
        own.step("gate", effects.gate, "slow")
        own.step("never", effects.append, "never")

    ctx.gather(slow=slow, fails=_fails)


@workflow("branches.fails-beside-async")
async def fails_beside_async(ctx: AsyncContext) -> None:
    """The same, awaited."""

    async def slow(own: AsyncContext) -> None:
        await own.step("gate", effects.agate, "slow")
        await own.step("never", effects.append, "never")

    async def fails(own: AsyncContext) -> None:
        await own.step("gate", effects.agate, "fails")
        raise LookupError

    await ctx.gather(slow=slow, fails=fails)


@workflow("branches.sleeps-after")
def sleeps_after(ctx: Context) -> None:
    """The body goes on to a sleep while the loser's step is in flight."""
    ctx.race(
        slow=lambda own: own.step("gate", effects.gate, "slow"),
        quick=lambda own: own.step("quick", effects.after, "at slow"),
    )
    ctx.sleep("after", 3600)


@workflow("branches.sleeps-after-async")
async def sleeps_after_async(ctx: AsyncContext) -> None:
    """The same, awaited."""
    await ctx.race(
        slow=lambda own: own.step("gate", effects.agate, "slow"),
        quick=lambda own: own.step("quick", effects.after, "at slow"),
    )
    await ctx.sleep("after", 3600)


@workflow("branches.hangs")
def hangs(ctx: Context) -> Any:
    """A loser whose step ends only by its timeout."""
    return ctx.race(
        hangs=lambda own: own.step("gate", effects.gate, "hangs", timeout=1),
        quick=lambda own: own.step("quick", effects.after, "at hangs"),
    )


@workflow("branches.hangs-async")
async def hangs_async(ctx: AsyncContext) -> Any:
    """The same, awaited, with a plain step."""
    return await ctx.race(
        hangs=lambda own: own.step("gate", effects.gate, "hangs", timeout=1),
        quick=lambda own: own.step("quick", effects.after, "at hangs"),
    )


@workflow("branches.crowd")
def crowd(ctx: Context, waiting: int) -> None:
    """So many branches that wait for long, begun before twelve that stand at one gate."""
    naps: dict[str, Any] = {f"nap{n}": lambda own: own.sleep("nap", 0.5) for n in range(waiting)}
    gates: dict[str, Any] = {f"gate{n}": lambda own: own.step("gate", effects.gate, "crowd") for n in range(12)}
    ctx.gather(**naps, **gates)


@workflow("branches.crowd-async")
async def crowd_async(ctx: AsyncContext, waiting: int) -> None:
    """The same, awaited."""
    naps: dict[str, Any] = {f"nap{n}": lambda own: own.sleep("nap", 0.5) for n in range(waiting)}
    gates: dict[str, Any] = {f"gate{n}": lambda own: own.step("gate", effects.agate, "crowd") for n in range(12)}
    await ctx.gather(**naps, **gates)


# -- items that are called again while another one is called -------------------------------------------

_ITEMS = ["gate", "first", "second"]


@workflow("branches.items")
def items(ctx: Context) -> Any:
    """A map with two places: one is for a step that ends when the test says so, one for two items that are retried."""

    def call(item: str) -> Any:
        return effects.gate("gate") if item == "gate" else _flaky(item, 2)

    return ctx.map("each", call, _ITEMS, concurrency=2, retry=RETRIED)


@workflow("branches.items-async")
async def items_async(ctx: AsyncContext) -> Any:
    """The same, awaited."""

    async def call(item: str) -> Any:
        return await effects.agate("gate") if item == "gate" else _flaky(item, 2)

    return await ctx.map("each", call, _ITEMS, concurrency=2, retry=RETRIED)
