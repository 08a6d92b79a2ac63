"""The async form of a call that queries the database: as in Django, its name with an `a` before it.

`workflows`, `client` and the queryset make theirs here, so that signature and types are written once.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async

P = ParamSpec("P")
T = TypeVar("T")


def twin(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Return `function` for async code: with the same parameters, called in asgiref's thread for sync code."""

    @wraps(function)
    async def asynchronous(*args: P.args, **kwargs: P.kwargs) -> T:
        # A partial, because a keyword of the call may be named as one of `sync_to_async`'s own parameters.
        return await sync_to_async(partial(function, *args, **kwargs))()

    module, _, name = function.__qualname__.rpartition(".")
    asynchronous.__name__ = f"a{name}"
    asynchronous.__qualname__ = f"{module}.a{name}" if module else f"a{name}"
    asynchronous.__doc__ = f"`{name}` from async code."
    return asynchronous
