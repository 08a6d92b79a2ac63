"""Workflows whose steps are limited, for real workers; what they leave is read by an auditor.

A call leaves the line `begin <limit> <process> <number> <time>` when it begins, and `end …` with the same words when it
ends. A test that kills a worker leaves `killed <process>` first.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

from canx_flow import AsyncContext, Context, Retry, workflow

from . import effects

LIMITS: dict[str, dict[str, Any]] = {
    "places": {"concurrency": 3},
    "one": {"concurrency": 1},
    "rate": {"rate": "40/s", "burst": 2},
    "both": {"rate": "50/s", "burst": 5, "concurrency": 2},
    "second": {"rate": "2/s"},
    "minute": {"rate": "1/m"},
    "cut": {"rate": "2/s", "concurrency": 1},
}
_CALL = 0.02  # seconds
_AT_ONCE = Retry(max_attempts=5, initial=0.0)


def _begin(limit: str, number: Any) -> str:
    said = f"{limit} {os.getpid()} {number}-{threading.get_ident()}-{time.monotonic_ns()}"
    effects.append(f"begin {said} {time.time()}")
    return said


def call(limit: str, number: Any) -> None:
    """Take a moment."""
    said = _begin(limit, number)
    threading.Event().wait(_CALL)
    effects.append(f"end {said} {time.time()}")


async def acall(limit: str, number: Any) -> None:
    """Take a moment, in the event loop."""
    said = _begin(limit, number)
    await asyncio.sleep(_CALL)
    effects.append(f"end {said} {time.time()}")


@workflow("tests.limited")
def limited(ctx: Context, limit: str, number: int) -> int:
    """One limited step between two others."""
    ctx.step("before", lambda: None)
    ctx.step("call", call, limit, number, limit=limit)
    ctx.step("after", lambda: None)
    return number


@workflow("tests.limited-async")
async def limited_async(ctx: AsyncContext, limit: str, number: int) -> int:
    """The same, in the event loop."""
    await ctx.step("call", acall, limit, number, limit=limit)
    return number


@workflow("tests.limited-branches")
def limited_branches(ctx: Context, limit: str, number: int) -> int:
    """Branches and items that are limited together."""
    ctx.gather(
        left=lambda below: below.step("call", call, limit, number, limit=limit),
        right=lambda below: below.step("call", call, limit, number, limit=limit),
    )
    ctx.map("all", lambda item: call(limit, item), range(4), limit=limit)
    return number


@workflow("tests.limited-branches-async")
async def limited_branches_async(ctx: AsyncContext, limit: str, number: int) -> int:
    """The same, in the event loop."""

    async def one(below: AsyncContext) -> None:
        await below.step("call", acall, limit, number, limit=limit)

    await ctx.gather(left=one, right=one)
    await ctx.map("all", lambda item: acall(limit, item), range(4), limit=limit)
    return number


@workflow("tests.limited-failing")
def limited_failing(ctx: Context, limit: str, number: int) -> int:
    """A limited step that fails twice, and is then done."""
    tries = iter(range(5))

    def fail() -> int:
        from canx_flow import current_step

        call(limit, number)
        if current_step().attempt < 3:
            raise ValueError(f"try {next(tries)}")
        return number

    return ctx.step("call", fail, limit=limit, retry=_AT_ONCE)


@workflow("tests.limited-atomic")
def limited_atomic(ctx: Context, limit: str, number: int) -> int:
    """A limited step that is atomic, and one that is called once at most."""
    ctx.step("atomic", call, limit, number, limit=limit, atomic=True)
    ctx.step("once", call, limit, number, limit=limit, at_most_once=True, retry=_AT_ONCE)
    return number


@workflow("tests.limited-gate")
def limited_gate(ctx: Context, limit: str, name: str) -> str:
    """A limited step that a test holds."""
    ctx.step("hold", effects.gate, name, limit=limit)
    return name


@workflow("tests.limited-race")
def limited_race(ctx: Context, limit: str, name: str) -> Any:
    """A limited step against a sleep."""
    won = ctx.race(
        limited=lambda below: below.step("call", call, limit, name, limit=limit),
        quick=lambda below: below.sleep("nap", 0.3),
    )
    effects.append(f"decided {name}")
    return won[0]


@workflow("tests.limited-in-time")
def limited_in_time(ctx: Context, limit: str, number: int) -> int:
    """A limited step with less time than the limit may take."""
    ctx.step("call", call, limit, number, limit=limit, timeout=0.3, retry=Retry(max_attempts=1))
    return number


@workflow("tests.limited-cut-off")
async def limited_cut_off(ctx: AsyncContext, limit: str, name: str) -> str:
    """A limited step that its body does not wait for long enough, and another one that it does."""
    await ctx.step("first", acall, limit, name, limit=limit)
    try:
        async with asyncio.timeout(0.1):
            await ctx.step("second", acall, limit, name, limit=limit)
    except TimeoutError:
        pass
    await ctx.step("hold", effects.gate, name)
    await ctx.step("third", acall, limit, name, limit=limit)
    return name


# -- the auditor -----------------------------------------------------------------------------------


def most_at_once(lines: Sequence[str], limit: str) -> int:
    """Return how many calls under this limit were under way at once, at most."""
    under_way: dict[str, str] = {}
    most = 0
    for line in lines:
        what, *words = line.split()
        if what == "killed":
            under_way = {call: process for call, process in under_way.items() if process != words[0]}
        elif what in ("begin", "end") and words[0] == limit:
            if what == "begin":
                under_way[words[2]] = words[1]
            else:
                under_way.pop(words[2], None)
            most = max(most, len(under_way))
    return most


def begun(lines: Sequence[str], limit: str) -> list[float]:
    """Return when each call under this limit began, the first one first."""
    return sorted(float(line.split()[4]) for line in lines if line.startswith(f"begin {limit} "))
