"""What `ctx.spawn` returns: the handle of a child that goes on beside its parent. Made by the contexts."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

R_co = TypeVar("R_co", covariant=True)


class _Context(Protocol):
    """What has spawned the child."""

    def _result(self, key: str, child: UUID) -> Any: ...


class _Child:
    """A child of a run, known by the context that has spawned it and by the key of that call."""

    def __init__(self, context: _Context, key: str, run_id: UUID) -> None:
        self._context, self._key = context, key
        #: The child's id.
        self.run_id = run_id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._key!r}: run {self.run_id}>"


class Handle(_Child, Generic[R_co]):
    """A child that a `def` workflow has spawned."""

    def result(self) -> R_co:
        """Suspend until the child has ended; return its result. RunFailed or RunCancelled as `ctx.call`.

        Every further call returns or raises the same.
        """
        returned: R_co = self._context._result(self._key, self.run_id)
        return returned


class AsyncHandle(_Child, Generic[R_co]):
    """A child that an `async def` workflow has spawned: its result is awaited."""

    def result(self) -> Coroutine[Any, Any, R_co]:
        """Wait as `Handle.result` does."""
        returned: Coroutine[Any, Any, R_co] = self._context._result(self._key, self.run_id)
        return returned
