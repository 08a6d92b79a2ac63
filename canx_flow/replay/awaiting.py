"""Coroutines run to their end: a step's async function, by both drivers, and the operations of a `def` workflow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from types import CoroutineType, coroutine
from typing import Any

from asgiref.sync import async_to_sync

from ..core.callables import is_awaitable
from ..exceptions import StepTimeout
from .call import Call


@coroutine
def in_context(context: Context, call: Call, made: Awaitable[Any] | None = None) -> Generator[Any, Any, Any]:
    """Call an async function and await what it returns, all of it in this context: what it sets there is its own.

    `made`: what the function has returned, if it was called already.
    """
    run = context.run
    if made is None:
        made = run(call.function, *call.arguments)
    steps = made if type(made) is CoroutineType else _awaited(made)
    send = steps.send
    try:
        waits_for = run(send, None)
        while True:
            try:
                answer = yield waits_for
            except GeneratorExit:
                run(steps.close)
                raise
            except BaseException as error:  # noqa: BLE001 - the function decides, whatever it is
                waits_for = run(steps.throw, error)
            else:
                waits_for = run(send, answer)
    except StopIteration as stop:
        return stop.value


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def limited(awaitable: Awaitable[Any], timeout: float | None) -> Any:  # noqa: ASYNC109 - a step's own
    """Await it; StepTimeout if it takes longer."""
    if timeout is None:
        return await awaitable
    try:
        async with asyncio.timeout(timeout) as limit:
            return await awaitable
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise timed_out(timeout) from error


@coroutine
def finishing() -> Generator[Any, Coroutine[Any, Any, Any], None]:
    """Run each coroutine that is sent in to its end, and yield what it returns. None of them may suspend.

    What one of them raises ends this. So it costs a quarter of `coroutine.send(None)`, whose answer is a StopIteration.
    """
    operation = yield None
    while True:
        operation = yield (yield from operation)


def finisher() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Return what runs coroutines so, one after another, and returns what each of them returns."""
    finish = finishing().send
    finish(None)  # type: ignore[arg-type]
    return finish


def called(call: Call) -> Any:
    """Call a step's function from a thread, and run what it awaits to its end."""
    value = call.function(*call.arguments)
    return async_to_sync(limited)(value, call.timeout) if is_awaitable(value) else value


def timed_out(timeout: float | None) -> StepTimeout:
    """Return the error of an attempt that has outlived its timeout."""
    return StepTimeout(f"the attempt took longer than its timeout of {timeout:g} seconds")
