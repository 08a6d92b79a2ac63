"""What both contexts offer of children: `call` and `spawn`, with the types of what is called. Bases of the contexts."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from ..core import definition
from ..core.definition import Startable
from ..core.naming import result_of
from ..states import Kind
from . import children
from .base_context import BaseContext
from .handles import AsyncHandle, Handle

P = ParamSpec("P")
R = TypeVar("R")


class _Calling(BaseContext):
    """Calls children from a workflow of either kind."""

    def _call(self, name: str, workflow: Any, arguments: children.Arguments) -> Any:
        planned = definition.planned(workflow, "ctx.call")
        branch = self._enter()
        key = branch.scope.key(name)
        record = branch.find(key, Kind.CALL)
        return self._perform("call", name, children.call, key, record, planned, arguments)

    def _spawn(self, name: str, workflow: Any, arguments: children.Arguments, handle: Callable[..., Any]) -> Any:
        planned = definition.planned(workflow, "ctx.spawn")
        branch = self._enter()
        key = branch.scope.key(name)
        result_of(key)  # Refused here if it is too long for that.
        record = branch.find(key, Kind.CALL)
        return self._perform("spawn", name, children.spawn, key, record, planned, arguments, partial(handle, self, key))

    def _result(self, key: str, child: UUID) -> Any:
        branch, key = self._enter(), result_of(key)
        return self._perform("result", key, children.result, key, branch.find(key, Kind.CALL), child)


class CallingContext(_Calling):
    """Calls children from a `def` workflow."""

    def call(self, name: str, workflow: Startable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Start a child run, suspend until it has ended, return its result. However often it is replayed: one child.

        `workflow`: a workflow, or what its `using(...)` returns; the arguments are its function's, checked at the call
        (TypeError). RunFailed, with the child's id, if it fails; RunCancelled if it is cancelled.
        """
        returned: R = self._call(name, workflow, (args, kwargs))
        return returned

    def spawn(self, name: str, workflow: Startable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Start a child run as `call` does, and go on beside it; return its handle: `run_id`, `result()`."""
        handle: Handle[R] = self._spawn(name, workflow, (args, kwargs), Handle)
        return handle


class AsyncCallingContext(_Calling):
    """Calls children from an `async def` workflow."""

    def call(
        self, name: str, workflow: Startable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]:
        """Call a child as `Context.call` does."""
        returned: Coroutine[Any, Any, R] = self._call(name, workflow, (args, kwargs))
        return returned

    def spawn(
        self, name: str, workflow: Startable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, AsyncHandle[R]]:
        """Spawn a child as `Context.spawn` does."""
        handle: Coroutine[Any, Any, AsyncHandle[R]] = self._spawn(name, workflow, (args, kwargs), AsyncHandle)
        return handle
