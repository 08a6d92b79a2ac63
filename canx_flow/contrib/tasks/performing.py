"""A task as a workflow of one step: its body, and the call of its function."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from inspect import iscoroutinefunction
from typing import Any

from django.apps import apps

from ... import declaring
from ...core import clock, codec
from ...core.identity import moment_of
from ...replay.context import AsyncContext, Context
from ...retry import Retry
from . import catalogue, results, telling
from .compat import InvalidTask, InvalidTaskBackend, TaskContext, task_backends, task_finished, task_started

#: What a task gets whose backend has no RETRY: it is tried once, as with Django's own backends.
ONCE = Retry(max_attempts=1)


def declare(task: Any) -> None:
    """Make a task a workflow, under its path; InvalidTask if that is too long to be a name."""
    if catalogue.known(task):
        return
    declared = catalogue.as_declared(task)
    body = _body(declared)
    for attribute in ("__doc__", "__module__", "__qualname__", "__name__"):
        setattr(body, attribute, getattr(declared.func, attribute))
    try:
        name, priority = catalogue.name_of(declared), int(declared.priority)
        declaring.workflow(name, body, queue=declared.queue_name, priority=priority)
    except (TypeError, ValueError) as error:
        raise InvalidTask(str(error)) from error
    catalogue.remember(declared, late=task if apps.ready else None)


def declare_all() -> None:
    """Make each task a workflow that is imported by now; but those of other backends that can be none."""
    for task in catalogue.imported():
        with suppress(InvalidTask):
            declare(task)


def _body(task: Any) -> Any:
    def body(ctx: Context, /, *args: Any, **kwargs: Any) -> Any:
        call = Call(task, ctx, args, kwargs)
        telling.listen()  # The step may be over, and nothing be called.
        return ctx.step(task.name, call.perform, retry=call.retry)[results.RETURNED]

    async def async_body(ctx: AsyncContext, /, *args: Any, **kwargs: Any) -> Any:
        call = Call(task, ctx, args, kwargs)
        telling.listen()
        returned = await ctx.step(task.name, call.aperform, retry=call.retry)
        return returned[results.RETURNED]

    return async_body if iscoroutinefunction(task.func) else body


class Call:
    """An activation of a task's run: what its step calls, and how often."""

    def __init__(self, declared: Any, ctx: Context | AsyncContext, args: tuple[Any, ...], kwargs: dict[str, Any]):
        branch = ctx._branch  # Of what the claim has found, contexts do not tell these.
        self._run_id = ctx.run_id
        self._task = catalogue.as_enqueued(declared, branch.run.attributes, queue_name=branch.run.queue)
        self._args, self._kwargs = list(args), kwargs
        self._record = branch.journal.records.get(declared.name)

    @property
    def retry(self) -> Retry:
        """The policy of the backend that the task was given to."""
        found: Retry = getattr(_backend_of(self._task), "retry", ONCE)
        return found

    def perform(self) -> dict[str, Any]:
        """Call the task's function; return what the step stores."""
        result, sender = self._begun(), type(_backend_of(self._task))
        task_started.send_robust(sender, task_result=result)
        try:
            stored = _stored(result, self._task.call(*self._context(result), *self._args, **self._kwargs))
            told_later = self._told_later(stored)
        except BaseException as error:
            results.sign(error)
            raise
        if not told_later:
            task_finished.send_robust(sender, task_result=results.succeeded(result, stored))
        return stored

    async def aperform(self) -> dict[str, Any]:
        """Do the same for an `async def`."""
        result, sender = self._begun(), type(_backend_of(self._task))
        await task_started.asend_robust(sender, task_result=result)
        try:
            stored = _stored(result, await self._task.acall(*self._context(result), *self._args, **self._kwargs))
            told_later = self._told_later(stored)
        except BaseException as error:
            results.sign(error)
            raise
        if not told_later:
            await task_finished.asend_robust(sender, task_result=results.succeeded(result, stored))
        return stored

    def _begun(self) -> Any:
        """Return the result as it stands now that an attempt begins: made without a query."""
        now = clock.now()
        first: datetime = now if self._record is None or self._record.started_at is None else self._record.started_at
        return results.running(
            self._task, self._run_id, self._args, self._kwargs,
            at=(moment_of(self._run_id), first, now), record=self._record,
        )  # fmt: skip

    def _told_later(self, stored: dict[str, Any]) -> bool:
        """Return whether the engine tells of a success once it is stored; else refuse here what it would not store."""
        if telling.listen():
            return True
        codec.dumps(stored, f"the result of step {self._task.name!r}")
        return False

    def _context(self, result: Any) -> tuple[Any, ...]:
        return (TaskContext(task_result=result),) if self._task.takes_context else ()


def _stored(result: Any, value: Any) -> dict[str, Any]:
    """Return what the step stores of an attempt that has returned this."""
    return {
        results.RETURNED: results.plain(value),
        results.WORKER: result.worker_ids[-1],
        results.BEGAN: result.last_attempted_at.isoformat(),
    }


def _backend_of(task: Any) -> Any:
    """Return the task's backend; `None` if TASKS does not name it any more."""
    try:
        return task_backends[task.backend]
    except InvalidTaskBackend:
        return None
