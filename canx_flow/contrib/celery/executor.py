"""`CeleryExecutor`: sends delegated steps to the queues of a project's Celery tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from celery import Task, current_app
from celery.canvas import Signature
from kombu.exceptions import OperationalError

from ...core.executors import DispatchOptions, Executor
from .tasks import NAME

#: Of the options of a signature: what a wrapper's message cannot have, or has of its own.
_OWN = frozenset({"task_id", "link", "link_error", "chord", "group_id", "root_id", "parent_id", "countdown", "eta"})


class CeleryExecutor(Executor):
    """Accepts a task of `@shared_task` or `@app.task`, or a signature of one: its arguments come before the step's, its
    options (queue, priority, time limits, …) hold.

    The message goes where the task's own would go, and expires after `start_timeout`.
    """

    name = "celery"
    outages = (OSError, OperationalError)

    def accepts(self, task: Any) -> bool:
        """Tell whether it is a task or the signature of one; no chain, group or chord, which the workflow is."""
        return isinstance(task, Task) or (isinstance(task, Signature) and type(task) is Signature)

    def describe(self, task: Any) -> str:
        """Return the name under which Celery knows it."""
        name: str = task.task if isinstance(task, Signature) else task.name
        return name

    def dispatch(
        self, token: UUID, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], options: DispatchOptions
    ) -> None:
        """Send the message that has this task called, with the token as its id; wait for no broker that is away."""
        given: dict[str, Any] = {}
        if isinstance(task, Signature):
            given = {name: value for name, value in task.options.items() if name not in _OWN}
            args, kwargs = [*task.args, *args], {**task.kwargs, **kwargs}
            task = task.type
        wanted = {**task._get_exec_options(), **given}
        routed = task.app.amqp.router.route(wanted, task.name, args, kwargs)
        routed.setdefault("expires", options.start_timeout)
        task.app.send_task(
            NAME, (str(token), task.name, list(args), dict(kwargs)),
            task_id=str(token), retry=False, ignore_result=True, argsrepr="(…)", kwargsrepr="{}", **routed,
        )  # fmt: skip

    def call_off(self, token: UUID, task: str) -> None:  # noqa: ARG002
        """Revoke it: one that has not begun is dropped, one that runs is terminated where the pool can do that."""
        current_app.control.revoke(str(token), terminate=True)
