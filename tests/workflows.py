"""The workflows that real workers run in tests: found here as in any app, by tests and workers alike.

What only the test itself runs is better defined in the test.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import connections, transaction

from canx_flow import AsyncContext, Context, Retry, StepFailed, current_step, register_type, schedule, workflow
from canx_flow.models import WorkflowRun

from . import branching, crowding, effects, limiting  # noqa: F401 - what they declare, workers know, too
from .browser import billing  # noqa: F401 - the same
from .models import Effect
from .policies import shared  # noqa: F401 - the same

AT_ONCE = Retry(max_attempts=6, initial=0)


@workflow("tests.two-steps")
def two_steps(ctx: Context, label: str) -> str:
    """Two steps that leave a line each."""
    ctx.step("first", effects.append, f"{label} first")
    ctx.step("second", effects.append, f"{label} second")
    return label


def _plain_looking(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that forgets `functools.wraps`: nothing shows that what it calls is async."""

    def inner(*args: Any) -> Any:
        return function(*args)

    return inner


@workflow("tests.plain-looking")
@_plain_looking
async def plain_looking(ctx: AsyncContext, label: str) -> str:
    """Two steps, awaited."""
    await ctx.step("first", effects.append, f"{label} first")
    await ctx.step("second", effects.append, f"{label} second")
    return label


# -- a step that can be stopped in its middle ------------------------------------------------------


def _held(label: str) -> str:
    effects.append(f"{label} held")
    effects.gate(label)
    return label


async def _aheld(label: str) -> str:
    effects.append(f"{label} held")
    await effects.agate(label)
    return label


@workflow("tests.held")
def held(ctx: Context, label: str) -> str:
    """Three steps; the second stands at the gate `label`."""
    ctx.step("before", effects.append, f"{label} before")
    value = ctx.step("held", _held, label)
    ctx.step("after", effects.append, f"{label} after")
    return value


@workflow("tests.generations")
def generations(ctx: Context, label: str, number: int = 0) -> str:
    """Three generations, each with a step; that of the second stands at the gate `label`."""
    ctx.step("before", effects.append, f"{label} before {number}")
    if number == 1:
        ctx.step("held", _held, label)
    ctx.step("after", effects.append, f"{label} after {number}")
    if number < 2:
        ctx.continue_as_new(label, number + 1)
    return f"{label} {number}"


@workflow("tests.agenerations")
async def agenerations(ctx: AsyncContext, label: str, number: int = 0) -> str:
    """The same, async."""
    await ctx.step("before", effects.append, f"{label} before {number}")
    if number == 1:
        await ctx.step("held", _aheld, label)
    await ctx.step("after", effects.append, f"{label} after {number}")
    if number < 2:
        ctx.continue_as_new(label, number + 1)
    return f"{label} {number}"


@workflow("tests.aheld")
async def aheld(ctx: AsyncContext, label: str) -> str:
    """The same, async."""
    await ctx.step("before", effects.append, f"{label} before")
    value = await ctx.step("held", _aheld, label)
    await ctx.step("after", effects.append, f"{label} after")
    return value


@workflow("tests.aheld-thread")
async def aheld_thread(ctx: AsyncContext, label: str) -> str:
    """Async, with a plain function that stands at the gate in a thread."""
    await ctx.step("before", effects.append, f"{label} before")
    value = await ctx.step("held", _held, label)
    await ctx.step("after", effects.append, f"{label} after")
    return value


@workflow("tests.held-then-sleeps")
def held_then_sleeps(ctx: Context, label: str) -> None:
    """A step at the gate `label`, and a sleep right after it."""
    ctx.step("held", _held, label)
    ctx.sleep("nap", 3600)


# -- the moment between a step's end and its commit ------------------------------------------------


@dataclass(frozen=True)
class Receipt:
    """A result whose encoding stands at the gate `encoding <label>`: its step has ended and is not stored."""

    label: str


def _encode(receipt: Receipt) -> str:
    effects.gate(f"encoding {receipt.label}")
    return receipt.label


register_type("tests.receipt", Receipt, _encode, Receipt)


def _charge(label: str) -> Receipt:
    effects.append(f"{label} charged")
    return Receipt(label)


@workflow("tests.receipts")
def receipts(ctx: Context, label: str) -> str:
    """A step whose result cannot be stored before the gate `encoding <label>` opens."""
    receipt = ctx.step("charge", _charge, label)
    ctx.step("after", effects.append, f"{label} after")
    return receipt.label


@workflow("tests.areceipts")
async def areceipts(ctx: AsyncContext, label: str) -> str:
    """The same, async."""
    receipt = await ctx.step("charge", _charge, label)
    await ctx.step("after", effects.append, f"{label} after")
    return receipt.label


# -- at most once, and exactly once ----------------------------------------------------------------


@workflow("tests.at-most-once")
def at_most_once(ctx: Context, label: str, retried: bool) -> str:
    """A step that must not be called twice by a crash, or is retried after one; it stands at the gate `label`."""
    retry = AT_ONCE if retried else None
    try:
        return ctx.step("charge", _held, label, at_most_once=True, retry=retry)
    except StepFailed as error:
        ctx.step("note", effects.append, f"{label} noted {error.attempts} {type(error).__name__}")
        raise


def _kill_once(label: str) -> None:
    if not effects.count(f"{label} killed"):
        effects.append(f"{label} killed")
        os.kill(os.getpid(), signal.SIGKILL)


def _write_row(label: str, after: Callable[[], object]) -> str:
    effects.append(f"{label} called")
    Effect.objects.create(name=label)
    after()
    return label


@workflow("tests.atomic-killed-after")
def atomic_killed_after(ctx: Context, label: str) -> str:
    """An atomic step whose process is killed right after its commit, by its own hook."""
    value = ctx.step("write", _write_row, label, lambda: transaction.on_commit(partial(_kill_once, label)), atomic=True)
    ctx.step("after", effects.append, f"{label} after")
    return value


@workflow("tests.atomic-held")
def atomic_held(ctx: Context, label: str) -> str:
    """An atomic step that has written its row and stands at the gate `label` before it commits."""
    return ctx.step("write", _write_row, label, partial(effects.gate, label), atomic=True)


# -- suspensions -----------------------------------------------------------------------------------


@workflow("tests.naps")
def naps(ctx: Context, label: str, seconds: float) -> str:
    """Sleeps once between two steps."""
    ctx.step("before", effects.append, f"{label} before")
    ctx.sleep("nap", seconds)
    ctx.step("after", effects.append, f"{label} after")
    return label


@workflow("tests.leaving")
def leaving(ctx: Context, label: str) -> str:
    """Stands at the gate `label` on its way out, when its suspension has begun and is not stored."""
    try:
        ctx.sleep("nap", 0.1)
    finally:
        effects.gate(label)
    return label


@workflow("tests.restless", retry=Retry(max_attempts=2, initial=0.01))
def restless(ctx: Context, turns: int) -> None:
    """Steps, naps and waits that are soon over, and a step that fails in the end."""
    for turn in range(turns):
        ctx.step("work", int, turn)
        ctx.sleep("nap", 0.01)
        ctx.wait_for("news", "news", timeout=0.02, default=None)
    ctx.step("fail", _fail)


def _fail() -> None:
    raise ValueError("as it must")


@workflow("tests.waits")
def waits(ctx: Context, label: str) -> object:
    """Waits for the event `go`."""
    ctx.step("before", effects.append, f"{label} before")
    payload = ctx.wait_for("wait", "go")
    ctx.step("after", effects.append, f"{label} after")
    return payload


# -- a run that kills its workers ------------------------------------------------------------------


def _kill(label: str, times: int) -> None:
    """Leave how many other runs this worker holds, then kill it, the first `times` times."""
    this = current_step()
    beside = WorkflowRun.objects.filter(owner__state="alive", owner__pid=os.getpid()).exclude(id=this.run_id).count()
    effects.append(f"{label} beside {beside}")
    if len([line for line in effects.read() if line.startswith(f"{label} beside ")]) <= times:
        os.kill(os.getpid(), signal.SIGKILL)


@workflow("tests.killer")
def killer(ctx: Context, label: str, times: int) -> str:
    """A step that kills its worker so many times, and then is done."""
    ctx.step("kill", _kill, label, times)
    return label


# -- many runs, and long steps ---------------------------------------------------------------------


def _add(label: str, number: int, total: int) -> int:
    effects.append(f"{label} {number}")
    return total + number


@workflow("tests.sums")
def sums(ctx: Context, label: str, steps: int) -> int:
    """The sum of 1 to `steps`, a step for each."""
    total = 0
    for number in range(1, steps + 1):
        total = ctx.step(f"add {number}", _add, label, number, total)
    return total


@workflow("tests.asums")
async def asums(ctx: AsyncContext, label: str, steps: int) -> int:
    """The same, async."""
    total = 0
    for number in range(1, steps + 1):
        total = await ctx.step(f"add {number}", _add, label, number, total)
    return total


def _long(label: str, kind: str, seconds: float) -> None:
    effects.append(f"{label} long")
    if kind == "waiting":
        threading.Event().wait(seconds)
        return
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


@workflow("tests.long")
def long(ctx: Context, label: str, kind: str, seconds: float) -> str:
    """A step that takes so many seconds, "waiting" or "busy", and one after it."""
    ctx.step("long", _long, label, kind, seconds)
    ctx.step("after", effects.append, f"{label} after")
    return label


# -- a run that always has a next step -------------------------------------------------------------


def _tick(label: str) -> bool:
    threading.Event().wait(0.005)
    return bool(effects.count(f"enough {label}"))


@workflow("tests.ticks")
def ticks(ctx: Context, label: str) -> str:
    """A short step again and again, until somebody leaves the line `enough <label>`.

    A worker that may start no step hands this run back within milliseconds: so tests see that it was told.
    """
    while not ctx.step("tick", _tick, label):
        pass
    return label


# -- steps that outlive their timeout --------------------------------------------------------------


def _attempt(label: str) -> int:
    this = current_step()
    effects.append(f"{label} attempt {this.attempt}")
    return this.attempt


def _slow(label: str) -> int:
    attempt = _attempt(label)
    if attempt == 1:
        effects.gate(label)
        effects.append(f"{label} late")
    return attempt


async def _aslow(label: str) -> int:
    attempt = _attempt(label)
    if attempt == 1:
        await effects.agate(label)
    return attempt


def _slow_row(label: str) -> int:
    attempt = _attempt(label)
    Effect.objects.create(name=label, value=str(attempt))
    if attempt == 1:
        threading.Event().wait(2)
        effects.append(f"{label} late")
    return attempt


@workflow("tests.slow")
def slow(ctx: Context, label: str) -> int:
    """A plain step whose first attempt stands at the gate `label` when its timeout passes; the attempt that counted."""
    return ctx.step("slow", _slow, label, timeout=0.5, retry=AT_ONCE)


@workflow("tests.slow-in-async")
async def slow_in_async(ctx: AsyncContext, label: str) -> int:
    """The same in an async workflow."""
    return await ctx.step("slow", _slow, label, timeout=0.5, retry=AT_ONCE)


@workflow("tests.aslow")
async def aslow(ctx: AsyncContext, label: str) -> int:
    """The same with an async step."""
    return await ctx.step("slow", _aslow, label, timeout=0.5, retry=AT_ONCE)


@workflow("tests.slow-atomic")
def slow_atomic(ctx: Context, label: str) -> int:
    """An atomic step whose first attempt would commit its row long after its timeout."""
    return ctx.step("slow", _slow_row, label, timeout=0.5, retry=AT_ONCE, atomic=True)


@workflow("tests.aslow-atomic")
async def slow_atomic_in_async(ctx: AsyncContext, label: str) -> int:
    """The same in an async workflow."""
    return await ctx.step("slow", _slow_row, label, timeout=0.5, retry=AT_ONCE, atomic=True)


@workflow("tests.sleeper")
def sleeper(ctx: Context, number: int) -> int:
    """Sleeps for an hour, and that is all."""
    ctx.sleep("nap", 3600)
    return number


# -- many commits ----------------------------------------------------------------------------------


def _one_more(number: int) -> int:
    return number + 1


@workflow("tests.counts")
def counts(ctx: Context, steps: int) -> int:
    """So many steps that do nothing."""
    number = 0
    while number < steps:
        number = ctx.step("count", _one_more, number)
    return number


@workflow("tests.acounts")
async def acounts(ctx: AsyncContext, steps: int) -> int:
    """The same, async, with async steps."""

    async def one_more(number: int) -> int:
        return number + 1

    number = 0
    while number < steps:
        number = await ctx.step("count", one_more, number)
    return number


@workflow("tests.redeployed")
def redeployed(ctx: Context, label: str) -> None:
    """Makes a step of what was a sleep, once the line `deployed <label>` has been left: that parks the run."""
    if effects.count(f"deployed {label}"):
        ctx.step("日本", effects.append, label)
    ctx.sleep("日本", 3600)


# -- a body that stands still before its first step -------------------------------------------------


@workflow("tests.late")
def late(ctx: Context, label: str, at_most_once: bool = False) -> None:
    """Waits at the gate `label` in its body, then calls its one step."""
    effects.gate(label)
    ctx.step("only", effects.append, f"{label} called", at_most_once=at_most_once)


# -- a body that asks a database -------------------------------------------------------------------


@workflow("tests.reads-in-its-body")
def reads_in_its_body(ctx: Context, label: str) -> int:
    """Reads through the ORM in its body, from the run's own database, after the gate `label`."""
    ctx.step("before", effects.append, f"{label} before")
    effects.gate(label)
    found = Effect.objects.count()
    ctx.step("after", effects.append, f"{label} after")
    return found


@workflow("tests.areads-in-its-body")
async def areads_in_its_body(ctx: AsyncContext, label: str) -> int:
    """The same, async."""
    await ctx.step("before", effects.append, f"{label} before")
    await effects.agate(label)
    found = await Effect.objects.acount()
    await ctx.step("after", effects.append, f"{label} after")
    return found


@workflow("tests.reads-elsewhere")
def reads_elsewhere(ctx: Context, label: str) -> int:
    """Asks the database "other" for a table in its body; while that has none, its driver calls it an outage."""
    ctx.step("before", effects.append, f"{label} before")
    effects.append(f"{label} asks")
    with connections["other"].cursor() as cursor:
        cursor.execute("SELECT n FROM a_table_of_tests")
        found = int(cursor.fetchone()[0])
    ctx.step("after", effects.append, f"{label} after")
    return found


# -- for the monkey --------------------------------------------------------------------------------


def _write_once(label: str) -> None:
    Effect.objects.create(name=label)


@workflow("tests.chaos", retry=AT_ONCE)
def chaos(ctx: Context, label: str) -> int:
    """Effects of both kinds around a short sleep; the result is made of all steps."""
    first = ctx.step("first", lambda: effects.append(f"{label} first") or 1)
    ctx.step("once", _write_once, label, atomic=True)
    ctx.sleep("nap", 0.05)
    last = ctx.step("last", lambda: effects.append(f"{label} last") or 2)
    return int(first + last)


# -- what a step leaves behind ---------------------------------------------------------------------


def _orphan() -> int:
    """Start a process that outlives the shell that started it; the shell's own exit status."""
    return subprocess.run(["sh", "-c", "sleep 0.05 & exit 7"], check=False).returncode


@workflow("tests.orphans")
def orphans(ctx: Context, number: int) -> list[int]:
    """Steps that each leave an orphan behind, as wrappers of browsers and converters do."""
    return [ctx.step("orphan", _orphan) for _ in range(number)]


# A module of its own, found as this one is.
from . import unruly  # noqa: E402, F401

# -- many runs that each hold a connection ---------------------------------------------------------


def _count_slowly(label: str) -> int:
    effects.append(f"{label} counts")
    found = Effect.objects.count()
    time.sleep(0.1)
    return found


@workflow("tests.crowded", retry=Retry(max_attempts=None, initial=0.1, max_delay=0.5))
def crowded(ctx: Context, label: str) -> str:
    """Steps that each need a connection, of which there may be none."""
    for _ in range(5):
        ctx.step("count", _count_slowly, label)
    return label


@workflow("tests.failing", retry=Retry(max_attempts=2, initial=0.01))
def failing(ctx: Context) -> str:
    """A step that fails twice, which the body has an answer to."""
    try:
        ctx.step("fail", _fail)
    except StepFailed:
        return "went on"
    return "never"


@workflow("tests.failing-async", retry=Retry(max_attempts=2, initial=0.01))
async def failing_async(ctx: AsyncContext) -> str:
    """The same in the event loop."""
    try:
        await ctx.step("fail", _fail)
    except StepFailed:
        return "went on"
    return "never"


@workflow("tests.hundreds")
def hundreds(ctx: Context, steps: int, naps: int) -> list[int]:
    """So many steps, and then short naps with a step after each of them; what all steps have returned."""
    returned = [ctx.step("step", int, number) for number in range(steps)]
    for number in range(naps):
        ctx.sleep("nap", 0.01)
        returned.append(ctx.step("after", int, number))
    return returned


@workflow("tests.async-hundreds")
async def async_hundreds(ctx: AsyncContext, steps: int, naps: int) -> list[int]:
    """Does the same."""
    returned = [await ctx.step("step", int, number) for number in range(steps)]
    for number in range(naps):
        await ctx.sleep("nap", 0.01)
        returned.append(await ctx.step("after", int, number))
    return returned


# -- a trip that can be undone -----------------------------------------------------------------------


def _book(booking: str) -> str:
    effects.append(f"{booking} booked")
    return booking


def _book_held(booking: str) -> str:
    effects.append(f"{booking} booked")
    effects.gate(f"book {booking}")
    return booking


def _give_back(booking: str) -> None:
    effects.append(f"{booking} undone")
    effects.gate(f"undo {booking}")


def _give_back_at_last(booking: str) -> None:
    effects.append(f"{booking} undone")
    if effects.count(f"{booking} undone") < 3:
        raise ValueError("not yet")


@workflow("tests.trip", retry=AT_ONCE)
def trip(ctx: Context, label: str, held: bool = False) -> None:
    """A flight and a hotel, booked at the gate `book <label> hotel` if it is held; each undo has a gate of its own."""
    ctx.step("flight", _book, f"{label} flight", compensate=_give_back)
    ctx.step("hotel", _book_held if held else _book, f"{label} hotel", compensate=_give_back)
    ctx.step("train", _book, f"{label} train", compensate=_give_back_at_last, retry=Retry(initial=0.2, jitter=0))
    ctx.wait_for("departure", "departed")


@workflow("tests.atrip", retry=AT_ONCE)
async def atrip(ctx: AsyncContext, label: str, held: bool = False) -> None:
    """The same, async."""
    await ctx.step("flight", _book, f"{label} flight", compensate=_give_back)
    await ctx.step("hotel", _book_held if held else _book, f"{label} hotel", compensate=_give_back)
    retry = Retry(initial=0.2, jitter=0)
    await ctx.step("train", _book, f"{label} train", compensate=_give_back_at_last, retry=retry)
    await ctx.wait_for("departure", "departed")


# -- children --------------------------------------------------------------------------------------


@workflow("tests.parcel")
def parcel(ctx: Context, label: str) -> str:
    """A child with one step."""
    ctx.step("send", effects.append, f"{label} sent")
    return label


@workflow("tests.sends")
def sends(ctx: Context, label: str, parcels: int) -> list[str]:
    """Calls so many children, one after another."""
    return [ctx.call("parcel", parcel, f"{label}{number}") for number in range(parcels)]


@workflow("tests.asends")
async def asends(ctx: AsyncContext, label: str, parcels: int) -> list[str]:
    """Spawns them all, and then waits for each."""
    handles = [await ctx.spawn("parcel", parcel, f"{label}{number}") for number in range(parcels)]
    return [await handle.result() for handle in handles]


@workflow("tests.calls-held")
def calls_held(ctx: Context, label: str, queue: str = "default") -> str:
    """Calls a child that stands at the gate `label`."""
    return ctx.call("held", held.using(queue=queue), label)


@workflow("tests.acalls-held")
async def acalls_held(ctx: AsyncContext, label: str, queue: str = "default") -> str:
    """The same, async."""
    return await ctx.call("held", aheld.using(queue=queue), label)


# -- schedules, where a test has asked for them ----------------------------------------------------


@workflow("tests.ticked")
def ticked(ctx: Context) -> Any:
    """Return the moment that it is about."""
    return ctx.scheduled_for


for _number in range(int(os.environ.get("EACH_SECOND", "0"))):
    schedule(f"second-{_number}", ticked, every=1, overlap="allow_all", catch_up="all")


def brief(label: str, seconds: float) -> str:
    """Leave when it begins and ends, and in which process."""
    effects.append(f"begin {label} {os.getpid()} {time.time()}")
    threading.Event().wait(seconds)
    effects.append(f"end {label} {os.getpid()} {time.time()}")
    return label


@workflow("tests.brief")
def one_brief(ctx: Context, label: str, seconds: float) -> str:
    """One step that lasts a moment."""
    return ctx.step("work", brief, label, seconds)
