"""`TasksExecutor`: hands delegated steps to the backends of Django's tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import InterfaceError, OperationalError

from ...core.executors import DispatchOptions, Executor
from . import results
from .compat import Task


class TasksExecutor(Executor):
    """Accepts what `@task` has made: it is enqueued to its own backend, with its own queue and priority."""

    name = "tasks"
    outages = (OSError, OperationalError, InterfaceError)

    def accepts(self, task: Any) -> bool:
        """Tell whether it is a task of Django's."""
        return isinstance(task, Task)

    def describe(self, task: Any) -> str:
        """Return the path of its function."""
        path: str = task.module_path
        return path

    def dispatch(
        self, token: UUID, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], options: DispatchOptions
    ) -> None:
        """Enqueue what has it called: an `async def`, too, in an event loop of its own."""
        del options
        from .delegated import call

        wanted = call.using(queue_name=task.queue_name, priority=task.priority, backend=task.backend)
        wanted.enqueue(str(token), task.module_path, results.plain(args), results.plain(kwargs))
