"""What is sent to Celery workers in the place of a delegated task: found by `app.autodiscover_tasks()`."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from celery import shared_task

from ...executors import perform

NAME = "canx_flow.delegated"


# Acknowledged when it begins, whatever the project's default is: a second delivery would be refused in any case, and
# the run notices by itself if a worker dies with it.
@shared_task(name=NAME, bind=True, acks_late=False, ignore_result=True)  # type: ignore[untyped-decorator]
def delegated(self: Any, token: str, name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Call the task of this name for the attempt of this token, if no other delivery has."""
    worker = f"{self.request.hostname} ({os.getpid()})"
    perform(token, partial(_call, self, token, name, args, kwargs), worker)


def _call(wrapper: Any, token: str, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Call a task with a request of its own: `self.request.id` is the token, `self.retry` calls it again at once."""
    task = wrapper.app.tasks[name]
    return task.apply(args, kwargs, task_id=token, throw=False).get(disable_sync_subtasks=False)
