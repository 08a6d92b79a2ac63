"""One body as a `def` workflow and as an `async def` one: what is true of one kind must be true of the other.

The body is written as an `async def` that awaits its context; as a plain function it is run to its end at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

Body = Callable[..., Coroutine[Any, Any, Any]]

#: What an `async def` workflow awaits.
_AWAITED = frozenset((
    "step", "sleep", "sleep_until", "wait_for", "gather", "map", "race", "call", "spawn", "result", "delegate",
))  # fmt: skip


class _Awaitable:
    """A `Context` whose calls may be awaited."""

    def __init__(self, ctx: Any) -> None:
        self._ctx = ctx

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._ctx, name)
        if name in ("gather", "race"):
            return _made_awaitable(lambda **branches: found(**{key: _branch(each) for key, each in branches.items()}))
        return _made_awaitable(found) if name in _AWAITED else found


def _made_awaitable(call: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def called(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    return called


def _finished(made: Coroutine[Any, Any, Any]) -> Any:
    try:
        made.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the body has awaited something else than its context")


def _branch(function: Any) -> Any:
    """Return it as a branch of a `def` workflow; what is no function is left for it to refuse."""

    def branch(ctx: Any) -> Any:
        made = function(_Awaitable(ctx))
        return _finished(made) if inspect.iscoroutine(made) else made

    return branch if callable(function) else function


def plain(body: Body) -> Callable[..., Any]:
    """Return it as a `def` workflow, or as a branch of one."""

    def function(ctx: Any, *args: Any) -> Any:
        return _finished(body(_Awaitable(ctx), *args))

    function.__signature__ = inspect.signature(body)  # type: ignore[attr-defined]
    return function


def awaited(body: Body) -> Callable[..., Any]:
    """Return it as an `async def` workflow: as it is."""
    return body


each_kind = pytest.mark.parametrize("kind", [plain, awaited], ids=["sync", "async"])
