"""What a callable is, and what it takes, however it is made."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock, create_autospec

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from canx_flow.core.callables import Arguments, is_async, is_generator

pytestmark = pytest.mark.once


async def coroutine(ctx: Any, a: int = 1) -> None:
    """Is awaited."""


def plain(ctx: Any, a: int = 1) -> None:
    """Is called."""


def generator(ctx: Any) -> Any:
    """Runs nothing when it is called."""
    yield 1


async def async_generator(ctx: Any) -> Any:
    """Runs nothing either."""
    yield 1


class Calls:
    """Objects that can be called, in every manner."""

    def __init__(self, ctx: Any = None) -> None:
        pass

    def __call__(self, ctx: Any) -> None:
        """Is called."""

    async def awaited(self, ctx: Any) -> None:
        """Is awaited."""

    def generates(self, ctx: Any) -> Any:
        """Runs nothing when it is called."""
        yield 1

    @staticmethod
    async def static(ctx: Any) -> None:
        """Is awaited."""


class Awaited:
    """An object whose call is to be awaited."""

    async def __call__(self, ctx: Any) -> None:
        """Is awaited."""


class Generates:
    """An object whose call runs nothing."""

    def __call__(self, ctx: Any) -> Any:
        """Runs nothing when it is called."""
        yield 1


def passing_on(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator as most are."""

    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


ASYNC = [
    coroutine, Calls().awaited, Calls.static, Awaited(), functools.partial(coroutine, a=2),
    functools.partial(Awaited()), functools.partial(Calls().awaited), passing_on(coroutine), sync_to_async(plain),
]  # fmt: skip
PLAIN = [
    plain, Calls, Calls(), functools.partial(plain, a=2), passing_on(plain), async_to_sync(coroutine), print, list,
    lambda ctx: ctx,
]  # fmt: skip
GENERATORS = [
    generator, async_generator, Calls().generates, Generates(), functools.partial(generator),
    functools.partial(Calls().generates), lambda ctx: (yield ctx),
]  # fmt: skip


@pytest.mark.parametrize("function", ASYNC)
def test_what_is_to_be_awaited_is_told(function: Any) -> None:
    """However the `async def` is wrapped up, and it is no generator."""
    assert is_async(function)
    assert not is_generator(function)


@pytest.mark.parametrize("function", PLAIN)
def test_what_is_plain_is_told(function: Any) -> None:
    """Neither awaited nor a generator."""
    assert not is_async(function)
    assert not is_generator(function)


@pytest.mark.parametrize("function", GENERATORS)
def test_generators_are_told(function: Any) -> None:
    """However they are wrapped up."""
    assert is_generator(function)
    assert not is_async(function)


@pytest.mark.parametrize("spec", [plain, coroutine, passing_on(plain), passing_on(coroutine)])
@pytest.mark.parametrize("make", [Mock, MagicMock, AsyncMock, create_autospec])
def test_a_mock_is_told_by_its_spec(make: Any, spec: Any) -> None:
    """It says that it is a function, and has no code that could be looked at."""
    assert is_async(make(spec)) is (make is AsyncMock or spec is coroutine)
    assert not is_generator(make(spec))


@pytest.mark.parametrize("make", [Mock, MagicMock, AsyncMock, create_autospec])
def test_a_mock_of_a_method_is_no_generator(make: Any) -> None:
    """It says that it is a method, of a function that is a mock."""
    assert not is_generator(make(Calls().awaited))
    assert not is_generator(make(Calls()))


def test_a_decorator_may_make_something_of_what_a_generator_yields() -> None:
    """It wraps a generator and is none."""
    assert not is_generator(passing_on(generator))


@pytest.mark.parametrize(
    ("function", "arguments", "keywords", "says"),
    [
        (plain, (), {}, ""),
        (plain, (1,), {}, ""),
        (plain, (1, 2), {}, "it takes (a=1): too many positional arguments"),
        (plain, (), {"a": 1}, ""),
        (plain, (), {"ctx": 1}, "it takes (a=1): multiple values for argument 'ctx'"),
        (plain, (), {"x": 1}, "it takes (a=1): got an unexpected keyword argument 'x'"),
        (passing_on(plain), (1, 2), {}, "it takes (a=1): too many positional arguments"),
        (functools.partial(plain, a=2), (1,), {}, "it takes (*, a=2): too many positional arguments"),
        (lambda ctx, a: (ctx, a), (), {}, "it takes (a): missing a required argument: 'a'"),
        (lambda ctx, *, a: (ctx, a), (), {}, "it takes (*, a): missing a required"),
        (lambda ctx, *, a: (ctx, a), (1,), {"a": 1}, "it takes (*, a): too many positional arguments"),
        (lambda *args: args, (1, 2, 3), {}, ""),
        (lambda *args: args, (), {"a": 1}, "it takes (*args): got an unexpected keyword argument 'a'"),
        (lambda ctx, *args, **kwargs: (ctx, args, kwargs), (1, 2), {"self": 1, "args": 2}, ""),
        (lambda ctx, **kwargs: (ctx, kwargs), (1,), {}, "it takes (**kwargs): too many positional arguments"),
        (Calls(), (1,), {}, "it takes (): too many positional arguments"),
        (Calls().awaited, (1,), {}, "it takes (): too many positional arguments"),
        (Calls, (1,), {}, "it takes (): too many positional arguments"),
        (dict, (1, 2, 3), {"a": 1}, ""),  # says nothing of what it takes
    ],
)
def test_arguments_that_do_not_fit_are_told(function: Any, arguments: Any, keywords: Any, says: str) -> None:
    """What it takes after its context, and what is wrong; empty for what fits."""
    misfit = Arguments(function).misfit(arguments, keywords)
    assert says in misfit if says else misfit == ""


@pytest.mark.parametrize(
    ("function", "takes"),
    [(plain, True), (Calls, True), (print, True), (dict, True), (lambda: 1, False), (lambda *, ctx: ctx, False)],
)
def test_whether_a_context_can_be_handed_in_is_told(function: Any, takes: bool) -> None:
    """By position, as it is handed in."""
    assert Arguments(function).a_context is takes
