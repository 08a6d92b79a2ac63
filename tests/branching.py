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


# -- a crash anywhere --------------------------------------------------------------------------------


@workflow("branches.work")
def work(ctx: Context, number: int) -> Any:
    """Branches with several steps each, all kinds of waits, and a race: for kills at any moment."""

    def steps(c: Context) -> int:
        return sum(c.step("one", _noted, f"{number} one {n}") for n in range(5))

    def naps(c: Context) -> int:
        c.sleep("nap", 0.1)
        return c.step("two", _noted, f"{number} two")

    won, value = ctx.race(steps=steps, never=lambda c: c.wait_for("read", "never"))
    return [won, value, ctx.gather(steps=steps, naps=naps)]


def _noted(line: str) -> int:
    effects.append(line)
    return 1


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
