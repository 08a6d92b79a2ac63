"""`@workflow`, the decorator: a function becomes a `Workflow`, which is registered under its name."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from .core import registry
from .replay.context import AsyncContext, Context
from .retry import Retry
from .workflows import Workflow

P = ParamSpec("P")
#: What the function returns; of an `async def`, what is awaited.
R = TypeVar("R")


class _Decorator:
    """What `workflow(name)` returns: sync and async functions alike become workflows of their own parameters."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self._name = name
        self._options = options

    @overload
    def __call__(self, function: Callable[Concatenate[AsyncContext, P], Coroutine[Any, Any, R]]) -> Workflow[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], R]) -> Workflow[P, R]: ...
    def __call__(self, function: Callable[..., Any]) -> Workflow[..., Any]:
        return _define(self._name, function, **self._options)


@overload
def workflow(
    name: str, function: None = None, *, version: str = "", queue: str = "default", priority: int = 0,
    retry: Retry | None = None, timeout: float | timedelta | None = None,
) -> _Decorator: ...  # fmt: skip
@overload
def workflow(
    name: str, function: Callable[Concatenate[AsyncContext, P], Coroutine[Any, Any, R]], *, version: str = "",
    queue: str = "default", priority: int = 0, retry: Retry | None = None, timeout: float | timedelta | None = None,
) -> Workflow[P, R]: ...  # fmt: skip
@overload
def workflow(
    name: str, function: Callable[Concatenate[Context, P], R], *, version: str = "", queue: str = "default",
    priority: int = 0, retry: Retry | None = None, timeout: float | timedelta | None = None,
) -> Workflow[P, R]: ...  # fmt: skip
def workflow(
    name: str, function: Callable[..., Any] | None = None, *, version: str = "", queue: str = "default",
    priority: int = 0, retry: Retry | None = None, timeout: float | timedelta | None = None,
) -> Any:  # fmt: skip
    """Make a function a workflow: `@workflow("subscription")`, or `workflow("subscription", function)`.

    `function`: plain or `async def`, no generator; it is called with a context, and then what `start` was given, which
    must fit its signature (behind a decorator with `functools.wraps`, that of what it wraps). One that looks plain and
    returns an awaitable is async, too: it is called once more, and its result awaited. `name`: 1 to 200
    characters without `@`; it is stored with every run, so it must outlive the function's own. `version`: up to 100
    characters, empty for none; a run keeps the version it was started with. `queue`: which workers take its runs.
    `priority`: -100 to 100, larger first. `retry`: the policy of its steps, before that of the settings. `timeout`: its
    runs' deadline, in seconds or as a timedelta, from the first activation; `None` for none.

    DuplicateWorkflow if name and version are taken; ValueError or TypeError for bad arguments.
    """
    options: dict[str, Any] = {
        "version": version,
        "queue": queue,
        "priority": priority,
        "retry": retry,
        "timeout": timeout,
    }
    if not isinstance(name, str):
        raise TypeError('a workflow needs a name: @workflow("subscription")')
    if function is None:
        return _Decorator(name, options)
    return _define(name, function, **options)


def _define(name: str, function: Any, **options: Any) -> Workflow[..., Any]:
    """Check and register a declaration."""
    defined: Workflow[..., Any] = Workflow.declared(name, function, **options)
    registry.add(defined)
    return defined
