"""`@workflow`: from a function to something that can be started, asked, cancelled and retried by name.

Needs neither models nor settings: the verbs import `client` when they are called.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, overload
from uuid import UUID

from asgiref.sync import sync_to_async

from . import naming, registry
from .durations import seconds
from .options import StartOptions, checked_priority
from .replay.context import AsyncContext, Context
from .retry import Retry

if TYPE_CHECKING:
    from django.db.models import Model

    from .models import RunQuerySet
    from .status import RunStatus

P = ParamSpec("P")


class Starter(Generic[P]):
    """A workflow with options for its next start: what `using` returns."""

    def __init__(self, workflow: Workflow[P], options: StartOptions) -> None:
        self.workflow = workflow
        self.options = options

    def using(self, **options: Any) -> Starter[P]:
        """The same with further options."""
        return Starter(self.workflow, replace(self.options, **options))

    def start(self, *args: P.args, **kwargs: P.kwargs) -> UUID:
        """Start a run, in the caller's transaction; its id."""
        from . import client

        return client.start(self.workflow, args, kwargs, self.options)

    async def astart(self, *args: P.args, **kwargs: P.kwargs) -> UUID:
        """`start` from async code."""
        return await sync_to_async(self.start)(*args, **kwargs)


@dataclass(frozen=True, eq=False)
class Workflow(Generic[P]):
    """A durable function under a stored name. Its verbs, but `start` and `rerun`, span all versions of the name.

    Every verb raises RunNotFound for a run that does not exist or is another workflow's, and OutsideStep in the
    body of a workflow outside a step. Each has an async twin: `astart`, `astatus`, …
    """

    name: str
    function: Callable[..., Any]
    version: str = ""
    queue: str = "default"
    priority: int = 0
    retry_policy: Retry | None = None
    timeout: float | None = None
    is_async: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_async", inspect.iscoroutinefunction(inspect.unwrap(self.function)))
        for attribute in ("__doc__", "__module__", "__qualname__", "__name__"):
            if hasattr(self.function, attribute):
                object.__setattr__(self, attribute, getattr(self.function, attribute))

    @property
    def label(self) -> str:
        """`name`, or `name@version`."""
        return f"{self.name}@{self.version}" if self.version else self.name

    def __repr__(self) -> str:
        return f"<Workflow {self.label}>"

    def using(
        self,
        *,
        key: str | None = None,
        on_conflict: Literal["existing", "reject"] = "existing",
        queue: str | None = None,
        priority: int | None = None,
        delay: float | timedelta | None = None,
        run_at: datetime | None = None,
        timeout: float | timedelta | None = None,
        subject: Model | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> Starter[P]:
        """Options for a start: `workflow.using(key="order-7").start(7)`.

        `key`: idempotency key, unique per workflow while the run is kept. `on_conflict`: return the run that has the
        key, or raise AlreadyStarted. `delay` (timedelta or seconds) or `run_at` (aware): not claimed before.
        `timeout`: the run's deadline, counted from its first activation. `subject`: a saved model instance.
        """
        return Starter(
            self, StartOptions(key, on_conflict, queue, priority, delay, run_at, timeout, subject, attributes)
        )

    def start(self, *args: P.args, **kwargs: P.kwargs) -> UUID:
        """Start a run: one INSERT in the caller's transaction; its id (UUID version 7)."""
        return Starter(self, StartOptions()).start(*args, **kwargs)

    async def astart(self, *args: P.args, **kwargs: P.kwargs) -> UUID:
        """`start` from async code."""
        return await sync_to_async(self.start)(*args, **kwargs)

    def start_many(self, arguments: Iterable[tuple[Any, ...]]) -> list[UUID]:
        """Start one run per tuple of arguments, in bulk; their ids in order."""
        from . import client

        return client.start_many(self, arguments)

    def status(self, run_id: UUID | str) -> RunStatus:
        """Where the run stands now."""
        from . import client

        return client.get_run(run_id, workflow=self.name)

    def result(self, run_id: UUID | str, timeout: float | timedelta | None = None) -> Any:
        """Wait for the end; the result, or RunFailed, RunCancelled, TimeoutError."""
        from . import client

        return client.result(run_id, timeout, workflow=self.name)

    def cancel(self, run_id: UUID | str, reason: str = "", *, undo: bool = True, by: Any = None) -> bool:
        """End the run: `True` if it is or will be cancelled, `False` if it ends or has ended otherwise."""
        from . import client

        return client.cancel(run_id, reason, undo=undo, by=by, workflow=self.name)

    def retry(self, run_id: UUID | str, reason: str = "", *, by: Any = None) -> bool:
        """Let a failed run go on, finished steps kept. InvalidState unless it is failed or parked."""
        from . import client

        return client.retry(run_id, reason, by=by, workflow=self.name)

    def rerun(self, run_id: UUID | str, reason: str = "", *, by: Any = None) -> UUID:
        """Start anew with the same input, queue, priority, subject, first attributes and timeout; the new id."""
        from . import client

        return client.rerun(run_id, reason, by=by, workflow=self.name)

    def pause(self, run_id: UUID | str, reason: str = "", *, by: Any = None) -> bool:
        """Start no further step; `False` if the run is stopping or has ended."""
        from . import client

        return client.pause(run_id, reason, by=by, workflow=self.name)

    def resume(self, run_id: UUID | str, reason: str = "", *, by: Any = None) -> bool:
        """Let a paused run go on; `False` if the run is stopping or has ended."""
        from . import client

        return client.resume(run_id, reason, by=by, workflow=self.name)

    def wake(self, run_id: UUID | str, reason: str = "", *, by: Any = None) -> bool:
        """The run's nearest timer counts as due; `False` if none is open. The deadline is never touched."""
        from . import client

        return client.wake(run_id, reason, by=by, workflow=self.name)

    def send(self, run_id: UUID | str, event: str, payload: Any = None, *, dedup_id: str | None = None) -> bool:
        """Send an event to one run: `True` if stored, `False` if this run has seen that `dedup_id`."""
        from . import client

        return client.send(run_id, event, payload, dedup_id=dedup_id, workflow=self.name)

    @property
    def runs(self) -> RunQuerySet:
        """This workflow's runs, of every version."""
        from . import client

        return client.runs(self.name)

    async def astart_many(self, arguments: Iterable[tuple[Any, ...]]) -> list[UUID]:
        return await sync_to_async(self.start_many)(arguments)

    async def astatus(self, run_id: UUID | str) -> RunStatus:
        return await sync_to_async(self.status)(run_id)

    async def aresult(self, run_id: UUID | str, timeout: float | timedelta | None = None) -> Any:  # noqa: ASYNC109
        from . import client

        return await client.aresult(run_id, timeout, workflow=self.name)

    async def acancel(self, run_id: UUID | str, reason: str = "", *, undo: bool = True, by: Any = None) -> bool:
        return await sync_to_async(self.cancel)(run_id, reason, undo=undo, by=by)

    async def aretry(self, run_id: UUID | str, reason: str = "", *, by: Any = None) -> bool:
        return await sync_to_async(self.retry)(run_id, reason, by=by)

    async def arerun(self, run_id: UUID | str, reason: str = "", *, by: Any = None) -> UUID:
        return await sync_to_async(self.rerun)(run_id, reason, by=by)

    async def apause(self, run_id: UUID | str, reason: str = "", *, by: Any = None) -> bool:
        return await sync_to_async(self.pause)(run_id, reason, by=by)

    async def aresume(self, run_id: UUID | str, reason: str = "", *, by: Any = None) -> bool:
        return await sync_to_async(self.resume)(run_id, reason, by=by)

    async def awake(self, run_id: UUID | str, reason: str = "", *, by: Any = None) -> bool:
        return await sync_to_async(self.wake)(run_id, reason, by=by)

    async def asend(self, run_id: UUID | str, event: str, payload: Any = None, *, dedup_id: str | None = None) -> bool:
        return await sync_to_async(self.send)(run_id, event, payload, dedup_id=dedup_id)


class _Decorator:
    """What `workflow(name)` returns: sync and async functions alike become workflows of their own parameters."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self._name = name
        self._options = options

    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], Any]) -> Workflow[P]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[AsyncContext, P], Any]) -> Workflow[P]: ...
    def __call__(self, function: Callable[..., Any]) -> Workflow[Any]:
        return _define(self._name, function, **self._options)


@overload
def workflow(
    name: str, function: None = None, *, version: str = "", queue: str = "default", priority: int = 0,
    retry: Retry | None = None, timeout: float | timedelta | None = None,
) -> _Decorator: ...  # fmt: skip
@overload
def workflow(
    name: str, function: Callable[Concatenate[Context, P], Any], *, version: str = "", queue: str = "default",
    priority: int = 0, retry: Retry | None = None, timeout: float | timedelta | None = None,
) -> Workflow[P]: ...  # fmt: skip
@overload
def workflow(
    name: str, function: Callable[Concatenate[AsyncContext, P], Any], *, version: str = "", queue: str = "default",
    priority: int = 0, retry: Retry | None = None, timeout: float | timedelta | None = None,
) -> Workflow[P]: ...  # fmt: skip
def workflow(
    name: str, function: Callable[..., Any] | None = None, *, version: str = "", queue: str = "default",
    priority: int = 0, retry: Retry | None = None, timeout: float | timedelta | None = None,
) -> Any:  # fmt: skip
    """Make a function a workflow: `@workflow("subscription")`, or `workflow("subscription", function)`.

    The name is stored with every run, so it must outlive the function's own. `retry` is the default policy of its
    steps, `timeout` the run's deadline (seconds or timedelta, from the first activation). `priority`: -100 to 100,
    larger first. DuplicateWorkflow if name and version are taken; ValueError or TypeError for bad arguments.
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


def _define(
    name: str, function: Any, *, version: str, queue: str, priority: int, retry: Any, timeout: Any
) -> Workflow[Any]:
    if not callable(function):
        raise TypeError(f"workflow {name!r} needs a function, not {type(function).__name__}")
    name = naming.checked(name, "workflow name", 200)
    if "@" in name:
        raise ValueError(f"workflow name {name!r} must not contain @: name@version names a version")
    if version != "":
        version = naming.checked(version, "version", 100)
    if retry is not None and not isinstance(retry, Retry):
        raise TypeError(f"retry must be a Retry, not {type(retry).__name__}")
    defined: Workflow[Any] = Workflow(
        name, function, version, naming.checked(queue, "queue", 100), checked_priority(priority), retry,
        None if timeout is None else seconds(timeout, "timeout", positive=True),
    )  # fmt: skip
    registry.add(defined)
    return defined
