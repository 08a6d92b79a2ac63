"""`DurableBackend`: Django's tasks, enqueued as runs of workflows and performed by `runflowworker`.

Made before there are models: whatever needs them is imported when it is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.core.checks import CheckMessage

from ...core import clock, naming, registry
from ...core.current import refuse_in_body
from ...exceptions import RunNotFound
from ...retry import Retry
from . import catalogue, performing, problems, results, telling
from .compat import BaseTaskBackend, InvalidTask, TaskResultDoesNotExist, task_backends, task_enqueued


class DurableBackend(BaseTaskBackend):
    """A backend for `TASKS` whose tasks are runs of the engine, in the database of `CANX_FLOW`.

    `enqueue` is one INSERT in the caller's transaction, and with `run_after` one for its timer. OPTIONS: `RETRY`,
    keywords of `Retry` for tasks that raise, which are tried once without it; `MODULES`, those that declare tasks
    beside the `tasks` modules of installed apps.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        telling.connect()

    @property
    def retry(self) -> Retry:
        """The policy of its tasks; TypeError or ValueError if RETRY makes none."""
        return Retry(**self.options["RETRY"]) if "RETRY" in self.options else performing.ONCE

    @property
    def modules(self) -> list[str]:
        """The modules that workers import for the tasks that they declare."""
        return problems.modules_of(self.options) or []

    def validate_task(self, task: Any) -> None:
        """Refuse what Django or the engine refuses; make others workflows. Called where one is declared or changed."""
        super().validate_task(task)
        try:
            naming.checked(task.queue_name, "queue_name", 100)
        except (TypeError, ValueError) as error:
            raise InvalidTask(str(error)) from error
        performing.declare(task)

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Start the run of a task, in the caller's transaction.

        TypeError or ValueError for arguments that JSON does not know; PayloadTooLarge as `start`.
        """
        self.validate_task(task)
        telling.listen()
        args, kwargs = results.plain(args), results.plain(kwargs)
        run_id = self._start(task, args, kwargs)
        result = results.enqueued(task, run_id, args, kwargs, clock.now())
        task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> Any:
        """Return how the task stands; TaskResultDoesNotExist if there is no such, ImportError if its code is gone."""
        refuse_in_body("get_result")
        from . import stored

        try:
            return stored.of_id(result_id)
        except RunNotFound:
            raise TaskResultDoesNotExist(result_id) from None

    def check(self, **_kwargs: Any) -> list[CheckMessage]:
        """Return what is wrong with it, for Django's system checks."""
        return list(problems.of(self.alias, self.options))

    def _start(self, task: Any, args: list[Any], kwargs: dict[str, Any]) -> UUID:
        workflow: Any = registry.get(catalogue.name_of(task))
        starter = workflow.using(
            queue=task.queue_name, priority=int(task.priority), run_at=task.run_after,
            attributes=catalogue.attributes_of(task) or None,
        )  # fmt: skip
        run_id: UUID = starter.start(*args, **kwargs)
        return run_id


def durable_backends() -> Iterator[DurableBackend]:
    """Yield those that TASKS has."""
    return (backend for backend in task_backends.all() if isinstance(backend, DurableBackend))
