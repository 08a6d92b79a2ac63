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
    "step", "sleep", "sleep_until", "wait_for", "gather", "map", "race", "call", "spawn", "result",
))  # fmt: skip
#: What is given functions that take a context of their own.
_BRANCHING = frozenset(("gather", "race"))


class _Awaitable:
    """A `Context` whose calls may be awaited."""

    def __init__(self, ctx: Any) -> None:
        self._ctx = ctx

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._ctx, name)
        if name in _BRANCHING:
            return _made_awaitable(lambda **branches: found(**{key: plain(own) for key, own in branches.items()}))
        return _made_awaitable(found) if name in _AWAITED else found


def _made_awaitable(call: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def called(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    return called


def plain(body: Body) -> Callable[..., Any]:
    """Return it as a `def` workflow, or as a branch of one."""

    def function(ctx: Any, *args: Any) -> Any:
        try:
            body(_Awaitable(ctx), *args).send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError("the body has awaited something else than its context")

    function.__signature__ = inspect.signature(body)  # type: ignore[attr-defined]
    return function


def awaited(body: Body) -> Callable[..., Any]:
    """Return it as an `async def` workflow: as it is."""
    return body


each_kind = pytest.mark.parametrize("kind", [plain, awaited], ids=["sync", "async"])
