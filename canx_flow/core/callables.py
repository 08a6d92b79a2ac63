"""What a callable is (plain, async, a generator), and which arguments it takes.

Called where workflows and steps are declared and called, and at every start.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from inspect import Parameter, Signature
from types import FunctionType, MethodType
from typing import Any

from asgiref.sync import iscoroutinefunction

_PLAIN = frozenset({type(None), bool, int, float, str, list, tuple, dict})
_ANY: tuple[float, float] = 0, math.inf
_MARK = getattr(asyncio.coroutines, "_is_coroutine", None)
_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def plain(function: Any) -> FunctionType | None:
    """Find the function with the code: behind decorators, partials, methods and objects that can be called."""
    function = inspect.unwrap(function)
    while _is(function, partial):
        function = inspect.unwrap(function.func)
    if _is(function, MethodType):
        function = inspect.unwrap(function.__func__)
    elif not _is(function, FunctionType):
        function = getattr(type(function), "__call__", None)  # noqa: B004 - the function itself is wanted
    return function if _is(function, FunctionType) else None


def _is(function: Any, kind: type) -> bool:
    """Tell the real type, unlike `isinstance`: a mock with the spec of a function claims to be one, and has no code."""
    return issubclass(type(function), kind)


def is_async(function: Any) -> bool:
    """Tell whether a call of it is awaited: an `async def`, also behind `wraps`, a partial, a method or `__call__`."""
    if type(function) is FunctionType and not function.__dict__:  # Neither wraps another one nor is marked.
        return bool(function.__code__.co_flags & inspect.CO_COROUTINE)
    if _is_mock_of_plain(function):
        return False
    if iscoroutinefunction(function) or _is_marked(function):  # As sync_to_async does.
        return True
    found = plain(function)
    return found is not None and iscoroutinefunction(found)


def _is_marked(function: Any) -> bool:
    """Tell whether it has asyncio's mark, which Python 3.12's `create_autospec` puts on the mock of an `async def`."""
    return _MARK is not None and getattr(function, "_is_coroutine", None) is _MARK


def _is_mock_of_plain(function: Any) -> bool:
    """Tell whether it is a mock of a plain function: its code is a mock, too, which inspect cannot read."""
    return type(getattr(getattr(function, "__code__", None), "co_flags", 0)) is not int


def is_generator(function: Any) -> bool:
    """Tell whether a call of it runs nothing and returns a generator, plain or async.

    A decorator counts as what it is, not as what it wraps: it may make a list of what a generator yields.
    """
    if type(function) is not FunctionType:
        while _is(function, partial) or _is(function, MethodType):
            function = function.func if _is(function, partial) else function.__func__
        if not _is(function, FunctionType):
            function = getattr(type(function), "__call__", None)  # noqa: B004 - the function itself is wanted
        if not _is(function, FunctionType):
            return False
    return bool(function.__code__.co_flags & _GENERATOR)


def is_awaitable(value: Any) -> bool:
    """Tell whether what a function returned is to be awaited."""
    # Most steps return one of these types, and inspect checks an abstract base class, which is slow.
    return type(value) not in _PLAIN and inspect.isawaitable(value)


class Arguments:
    """The parameters of a workflow's function after its context; read once, because reading costs as much as an INSERT.

    `a_context`: whether it can be called with one at all. What has no signature that can be read takes anything.
    """

    def __init__(self, function: Any) -> None:
        self._signature = _signature(function)
        self.a_context = self._signature is None or _takes_context(self._signature)
        self._least, self._most = _ANY if self._signature is None else _counts(self._signature)

    def misfit(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> str:
        """Return why it cannot be called with these; empty if it can. No value is named, only parameters."""
        if self._least <= len(arguments) <= self._most and not keywords:
            return ""
        if self._signature is None:
            return ""
        try:
            self._signature.bind(None, *arguments, **keywords)
        except TypeError as exc:
            return f"it takes {self}: {exc}"
        return ""

    def __str__(self) -> str:
        if self._signature is None:
            return "(…)"
        shown = [one.replace(annotation=Parameter.empty) for one in self._signature.parameters.values()]
        if shown and shown[0].kind in _POSITIONAL:
            del shown[0]
        return str(Signature(shown))


def _signature(function: Any) -> Signature | None:
    more: dict[str, Any] = {}
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        more = {"annotation_format": Format.STRING}  # Names that only type checkers import cannot be evaluated.
    try:
        return inspect.signature(function, **more)
    except (TypeError, ValueError):  # Some functions written in C have no signature.
        return None


_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def _takes_context(signature: Signature) -> bool:
    return any(one.kind in (*_POSITIONAL, Parameter.VAR_POSITIONAL) for one in signature.parameters.values())


def _counts(signature: Signature) -> tuple[float, float]:
    """Count the arguments that it takes by position alone, without the context: the least and the greatest number."""
    every = list(signature.parameters.values())
    if any(one.kind is Parameter.KEYWORD_ONLY and one.default is Parameter.empty for one in every):
        return math.inf, -1.0  # Never by position alone.
    positional = [one for one in every if one.kind in _POSITIONAL]
    endless = any(one.kind is Parameter.VAR_POSITIONAL for one in every)
    required = sum(one.default is Parameter.empty for one in positional)
    return max(required - 1, 0), math.inf if endless else len(positional) - 1
