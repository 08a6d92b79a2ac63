"""Workflows whose code does what it should not: raises what nobody expects, blocks others, leaves threads behind.

Found by workers as `workflows` is, which imports it.
"""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async

from canx_flow import AsyncContext, Context, Retry, workflow

from . import effects
from .models import Effect

ONCE = Retry(max_attempts=1)

RAISED: dict[str, type[BaseException]] = {
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "SystemExit": SystemExit,
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
}


# -- what nobody expects to be raised --------------------------------------------------------------


def _raise(what: str, label: str) -> None:
    effects.append(f"{label} called")
    raise RAISED[what]


async def _araise(what: str, label: str) -> None:
    effects.append(f"{label} called")
    await asyncio.sleep(0)
    raise RAISED[what]


async def _raise_in_task(what: str, label: str) -> None:
    await asyncio.gather(_araise(what, label))


_FUNCTIONS: dict[str, Any] = {"plain": _raise, "async": _araise, "task": _raise_in_task}


@workflow("tests.raises")
def raises(ctx: Context, what: str, where: str, limit: float | None, label: str) -> None:
    """Raise it, in a step's function of this kind or in the body."""
    if where == "body":
        _raise(what, label)
    ctx.step("raise", _FUNCTIONS[where], what, label, timeout=limit, retry=ONCE)


@workflow("tests.araises")
async def araises(ctx: AsyncContext, what: str, where: str, limit: float | None, label: str) -> None:
    """The same, async."""
    if where == "body":
        _raise(what, label)
    await ctx.step("raise", _FUNCTIONS[where], what, label, timeout=limit, retry=ONCE)


def _raise_for(_item: int, what: str, label: str) -> None:
    _raise(what, label)


@workflow("tests.raises-in-branches")
def raises_in_branches(ctx: Context, what: str, where: str, label: str) -> None:
    """Raise it two branches deep, in a step, in an item of a map or in the branch itself; another branch has ended."""

    def raising(own: Context) -> None:
        if where == "body":
            _raise(what, label)
        elif where == "item":
            own.map("raise", partial(_raise_for, what=what, label=label), [1], retry=ONCE)
        else:
            own.step("raise", _FUNCTIONS[where], what, label, retry=ONCE)

    ctx.gather(
        outer=lambda c: c.gather(inner=raising, beside=lambda d: d.step("beside", str, 1)),
        other=lambda c: c.step("other", str, 1),
    )


@workflow("tests.araises-in-branches")
async def araises_in_branches(ctx: AsyncContext, what: str, where: str, label: str) -> None:
    """The same, async."""

    async def raising(own: AsyncContext) -> None:
        if where == "body":
            _raise(what, label)
        elif where == "item":
            await own.map("raise", partial(_raise_for, what=what, label=label), [1], retry=ONCE)
        else:
            await own.step("raise", _FUNCTIONS[where], what, label, retry=ONCE)

    await ctx.gather(
        outer=lambda c: c.gather(inner=raising, beside=lambda d: d.step("beside", str, 1)),
        other=lambda c: c.step("other", str, 1),
    )


# -- threads that do not come back -----------------------------------------------------------------


async def _stand(label: str, how: str) -> None:
    """Wait at the gate `label`, in a thread."""
    stand = partial(effects.gate, label)
    await (asyncio.to_thread(stand) if how == "to_thread" else sync_to_async(stand)())


async def _stand_for_a_while(label: str, how: str) -> str:
    """The same for no longer than this step likes; then it uses the ORM."""
    try:
        async with asyncio.timeout(0.3):
            await _stand(label, how)
    except TimeoutError:
        await Effect.objects.acreate(name=label, value=how)
        return "went on"
    return "stood"


@workflow("tests.stands")
async def stands(ctx: AsyncContext, label: str, how: str, limit: float | None) -> str:
    """A thread of this run's stands at the gate `label`; the ORM is used after it."""
    if limit is None:
        return await ctx.step("stand", _stand_for_a_while, label, how)
    await ctx.step("stand", _stand, label, how, timeout=limit, retry=ONCE)
    return ""


@workflow("tests.stands-in-def")
def stands_in_def(ctx: Context, label: str, how: str) -> None:
    """The same in an async step of a `def` workflow."""
    function = _block if how == "block" else partial(_stand, how=how)
    ctx.step("stand", function, label, timeout=0.3, retry=ONCE)


async def _block(label: str) -> None:
    effects.gate(label)


async def _row(label: str) -> int:
    await Effect.objects.acreate(name=label, value="row")
    return threading.get_ident()


@workflow("tests.light")
async def light(ctx: AsyncContext, label: str) -> bool:
    """Two steps that use the async ORM; whether both did in one thread."""
    return await ctx.step("one", _row, label) == await ctx.step("two", _row, label)


# -- the event loop --------------------------------------------------------------------------------


@workflow("tests.blocks")
async def blocks(ctx: AsyncContext, label: str, where: str) -> str:
    """The event loop stands at the gate `label`: in a step, in a task of a step's, or in the body."""
    if where == "body":
        effects.gate(label)
    elif where == "step":
        await ctx.step("block", _block, label)
    else:
        await ctx.step("block", _block_in_task, label)
    return label


async def _block_in_task(label: str) -> None:
    await asyncio.create_task(_block(label))


@workflow("tests.stops-loop")
async def stops_loop(ctx: AsyncContext) -> str:
    """A step that stops the loop which it shares with others."""
    return await ctx.step("stop", _stop_loop)


async def _stop_loop() -> str:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.05)
    return "on"


@workflow("tests.breaks-loop")
async def breaks_loop(ctx: AsyncContext, label: str) -> str:
    """A step that takes the loop's own selector away, once."""
    return await ctx.step("break", _break_loop, label)


async def _break_loop(label: str) -> str:
    effects.append(f"{label} breaks")
    if effects.count(f"{label} breaks") == 1:
        asyncio.get_running_loop()._selector.close()  # type: ignore[attr-defined]
    await asyncio.sleep(0.05)
    return "on"


# -- cut off from outside --------------------------------------------------------------------------


def _stand_plainly(label: str) -> str:
    effects.append(f"{label} called")
    if effects.count(f"{label} called") == 1:
        effects.gate(label)
    return label


def _stand_with_row(label: str) -> str:
    Effect.objects.create(name=label, value=str(effects.count(f"{label} called")))
    effects.append(f"{label} called")
    if effects.count(f"{label} called") == 1:
        threading.Event().wait(1.0)
        effects.append(f"{label} late")
    return label


@workflow("tests.cut-off")
async def cut_off(ctx: AsyncContext, label: str, atomic: bool) -> str:
    """A plain step that the body gives up when it is called for the first time."""
    try:
        async with asyncio.timeout(0.3):
            function = _stand_with_row if atomic else _stand_plainly
            return await ctx.step("stand", function, label, atomic=atomic)
    except TimeoutError:
        await ctx.sleep("nap", 0.1)
        return "given up"
