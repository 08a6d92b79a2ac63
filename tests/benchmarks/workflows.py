"""What the workers of the benchmark run. Every no-op step returns a dict of three keys."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.utils import timezone

from canx_flow import AsyncContext, Context, schedule, workflow

from .models import Row

NAMES = tuple(f"step-{number}" for number in range(10_000))
#: Seconds that a step of `waiting` awaits.
AWAITED = 0.05
#: Seconds that a step of `slow` takes.
SLOW = 0.1


def noop(number: int) -> dict[str, Any]:
    return {"step": number, "ok": True, "value": "abcdefghijklmnop"}


async def anoop(number: int) -> dict[str, Any]:
    return noop(number)


async def await_a_moment(number: int) -> dict[str, Any]:
    await asyncio.sleep(AWAITED)
    return noop(number)


def write(number: int) -> dict[str, Any]:
    """One row through the ORM."""
    Row.objects.create(name="noop", value=noop(number), created_at=timezone.now())
    return noop(number)


def take_time(number: int) -> dict[str, Any]:
    """Tell outside that it begins, then take its time."""
    with Path(os.environ["BENCH_STAMPS"]).open("a") as stamps:
        stamps.write(f"{time.time()} {os.getpid()} {number}\n")
    time.sleep(SLOW)
    return noop(number)


@workflow("flow")
def flow(ctx: Context, steps: int) -> dict[str, Any]:
    for number in range(steps):
        ctx.step(NAMES[number], noop, number)
    return {"ok": True}


@workflow("async-flow")
async def async_flow(ctx: AsyncContext, steps: int) -> dict[str, Any]:
    for number in range(steps):
        await ctx.step(NAMES[number], anoop, number)
    return {"ok": True}


@workflow("waiting")
async def waiting(ctx: AsyncContext, steps: int) -> dict[str, Any]:
    for number in range(steps):
        await ctx.step(NAMES[number], await_a_moment, number)
    return {"ok": True}


@workflow("writing")
def writing(ctx: Context, steps: int, atomic: bool) -> dict[str, Any]:
    for number in range(steps):
        ctx.step(NAMES[number], write, number, atomic=atomic)
    return {"ok": True}


@workflow("slow")
def slow(ctx: Context, steps: int) -> dict[str, Any]:
    for number in range(steps):
        ctx.step(NAMES[number], take_time, number)
    return {"ok": True}


@workflow("nap")
def nap(ctx: Context, seconds: float) -> list[float]:
    """The times before and after a sleep, each told by a step."""
    before = ctx.step("before", time.time)
    ctx.sleep("nap", timedelta(seconds=seconds))
    return [before, ctx.step("after", time.time)]


@workflow("child")
def child(ctx: Context, number: int) -> dict[str, Any]:
    return noop(number)


@workflow("calls")
def calls(ctx: Context, children: int) -> None:
    """Calls so many children, one after another."""
    for number in range(children):
        ctx.call(NAMES[number], child, number)


@workflow("spawns")
def spawns(ctx: Context, children: int) -> None:
    """Starts so many children, and then waits for all of them."""
    handles = [ctx.spawn(NAMES[number], child, number) for number in range(children)]
    for handle in handles:
        handle.result()


@workflow("history")
def history(ctx: Context, steps: int) -> None:
    """So many steps, and then, for every event sent to it, one that tells when the run got there."""
    for number in range(steps):
        ctx.step(NAMES[number], noop, number)
    for turn in itertools.count():
        ctx.wait_for(f"wait-{turn}", "go on")
        ctx.step(f"there-{turn}", time.time)


@workflow("sleeper")
def sleeper(ctx: Context, slept: int, woken: int) -> None:
    """So many sleeps that are over at once, and after a long one, which is cut short, so many that are not."""
    for _ in range(slept):
        ctx.sleep("slept", 0)
    ctx.sleep("begin", timedelta(hours=1))
    for _ in range(woken):
        ctx.sleep("nap", 0.002)


@workflow("waiter")
def waiter(ctx: Context, waits: int) -> None:
    for _ in range(waits):
        ctx.wait_for("wait", "come")


@workflow("listen")
def listen(ctx: Context, key: str) -> list[Any]:
    """Waits for a broadcast; the key, and when it went on."""
    ctx.wait_for("paid", "paid", key=key)
    return [key, time.time()]


@workflow("mapped")
def mapped(ctx: Context, items: int, at_once: int) -> int:
    return len(ctx.map("item", noop, range(items), concurrency=at_once))


@workflow("mapped-history")
def mapped_history(ctx: Context, items: int) -> None:
    """So many items, and then, for every event sent to it, a step that tells when the run got there."""
    ctx.map("item", noop, range(items), concurrency=32)
    for turn in itertools.count():
        ctx.wait_for(f"wait-{turn}", "go on")
        ctx.step(f"there-{turn}", time.time)


@workflow("branches")
def branches(ctx: Context, number: int) -> int:
    return len(ctx.gather(**{f"branch-{n}": lambda own: own.sleep("nap", 1) for n in range(number)}))


@workflow("ticked")
def ticked(ctx: Context) -> None:
    ctx.step("tick", noop, 0)


# A worker of W21 is told how many schedules it declares, and how many seconds lie between the ticks of each.
for _number in range(int(os.environ.get("BENCH_SCHEDULES", "0"))):
    schedule(f"schedule-{_number}", ticked, every=float(os.environ["BENCH_EVERY"]))
