"""What a context asks of its driver, which performs the operations of its verbs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from ..exceptions import NotAwaited
from .calls import Calls
from .operations import Driver

_Operation = Callable[..., Coroutine[Any, Any, Any]]


class SyncDriver(Driver, Protocol):
    """What a `Context` asks of its driver."""

    #: Whether the body may have a transaction open.
    may_hold_transaction: Callable[[], bool]

    def finish(self, operation: Coroutine[Any, Any, Any]) -> Any:
        """Run an operation to its end; return what it returns."""

    def refuse_transaction(self) -> None:
        """Raise InsideTransaction if the body has a transaction open."""


class AsyncDriver(Driver, Protocol):
    """What an `AsyncContext` asks of its driver."""

    calls: Calls

    def make(self, verb: str, name: str, operation: _Operation, *arguments: Any) -> Coroutine[Any, Any, Any]:
        """Return what performs the operation once it is awaited."""

    def not_awaited(self, did: str) -> NotAwaited | None:
        """Return the error of a body that does this, and has calls that it has not awaited."""
