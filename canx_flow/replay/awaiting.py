"""A step's async function, awaited in a context of its own. Called by both drivers."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from contextvars import Context
from types import CoroutineType, coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .operations import Call


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
