"""What both contexts offer of what is called elsewhere: `call` and `spawn` for children, with the types of what is
called, and `delegate` for the tasks of other executors. Bases of the contexts."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from ..core import definition, executors
from ..core.definition import Startable
from ..core.delegations import START_TIMEOUT, DelegateOptions
from ..core.naming import result_of
from ..retry import Retry
from ..states import Kind, RecordState
from . import children, delegation
from .base_context import BaseContext
from .handles import AsyncHandle, Handle

Duration = float | timedelta
_OVER = (RecordState.COMPLETED, RecordState.FAILED)

P = ParamSpec("P")
R = TypeVar("R")


class _Calling(BaseContext):
    """Calls children, and delegates steps, from a workflow of either kind."""

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

    def _delegate(
        self, name: str, task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None,
        start_timeout: Duration, timeout: Duration | None, heartbeat: Duration | None, retry: Retry | None,
        at_most_once: bool,
    ) -> Any:  # fmt: skip
        branch = self._enter()
        given = DelegateOptions.of(branch.activation.policy, start_timeout, timeout, heartbeat, retry, at_most_once)
        if kwargs is not None and not (isinstance(kwargs, Mapping) and all(isinstance(each, str) for each in kwargs)):
            raise TypeError(f"kwargs must be a dict of the task's keywords, not {type(kwargs).__name__}")
        executor = executors.of(task)
        wanted = delegation.Task(executor, task, executor.describe(task), args, dict(kwargs or {}))
        key = branch.scope.key(name)
        record = branch.find(key, Kind.DELEGATE)
        if record is not None and record.state in _OVER:
            return self._replay("delegate", name, record)
        return self._perform("delegate", name, delegation.delegate, key, record, wanted, given)

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

    def delegate(
        self, name: str, task: Any, /, *args: Any, kwargs: Mapping[str, Any] | None = None,
        start_timeout: Duration = START_TIMEOUT, timeout: Duration | None = None, heartbeat: Duration | None = None,
        retry: Retry | None = None, at_most_once: bool = False,
    ) -> Any:  # fmt: skip
        """Have a task called by another executor, suspend until it has ended there, return its result.

        `task`: whatever a registered executor accepts; it is called with `args` and `kwargs`. Nothing is held
        meanwhile. Durations are seconds or timedeltas. `start_timeout`: until the task has begun (five minutes);
        `timeout`: until it is done, from then on (`None`: any time); `heartbeat`: of silence after which it counts as
        lost (a minute). What is over is a failed attempt, as is what the task raises; `retry`: the policy, else the
        workflow's. An attempt that was given up is refused whatever comes of it later. `at_most_once`: a task that has
        begun and was lost is not called again.

        StepFailed after the last attempt; StepInterrupted if it was lost under `at_most_once`. TypeError if no executor
        accepts the task, TypeError or ValueError for a bad name or option. A result that cannot be stored fails the
        step at once.
        """
        return self._delegate(name, task, args, kwargs, start_timeout, timeout, heartbeat, retry, at_most_once)


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

    def delegate(
        self, name: str, task: Any, /, *args: Any, kwargs: Mapping[str, Any] | None = None,
        start_timeout: Duration = START_TIMEOUT, timeout: Duration | None = None, heartbeat: Duration | None = None,
        retry: Retry | None = None, at_most_once: bool = False,
    ) -> Coroutine[Any, Any, Any]:  # fmt: skip
        """Delegate as `Context.delegate` does."""
        returned: Coroutine[Any, Any, Any] = self._delegate(
            name, task, args, kwargs, start_timeout, timeout, heartbeat, retry, at_most_once
        )
        return returned
