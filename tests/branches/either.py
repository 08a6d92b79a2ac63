"""Bodies written once: as an `async def`, run as one, and as the body of a `def` workflow with the calls of that."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from canx_flow import workflow
from canx_flow.core import registry
from canx_flow.workflows import Workflow

Body = Callable[..., Coroutine[Any, Any, Any]]


def declared(kind: str, body: Body, name: str = "branches.any", **options: Any) -> Workflow[Any, Any]:
    """Declare a workflow of this kind, `def` or `async def`, with this body; one of that name is forgotten."""
    registry.forget(name)
    if kind == "def":

        def plain(ctx: Any, *args: Any) -> Any:
            return finished(body(Awaited(ctx), *args))

        return workflow(name, plain, **options)  # type: ignore[return-value]

    async def awaited(ctx: Any, *args: Any) -> Any:
        return await body(ctx, *args)

    return workflow(name, awaited, **options)  # type: ignore[return-value]


class Awaited:
    """A `Context` whose calls are awaited."""

    def __init__(self, ctx: Any) -> None:
        self.ctx = ctx

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.ctx, name)
        if name not in ("step", "sleep", "sleep_until", "wait_for", "gather", "race", "map"):
            return found

        async def call(*args: Any, **options: Any) -> Any:
            if name in ("gather", "race"):
                options = {branch: plain(function) for branch, function in options.items()}
            return found(*args, **options)

        return call


def plain(function: Any) -> Any:
    """Return a branch for a `def` workflow."""
    if not callable(function):
        return function

    def branch(ctx: Any) -> Any:
        made = function(Awaited(ctx))
        return finished(made) if inspect.iscoroutine(made) else made

    return branch


def finished(body: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never suspends to its end."""
    try:
        body.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it has awaited something else than a call of its context")
