"""What is enqueued in the place of a delegated task. Imported by name, by the workers of whichever backend that is."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.utils.module_loading import import_string

from ...executors import perform
from . import results
from .compat import task


@task(takes_context=True)
def call(context: Any, token: str, path: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Call the task of this path for the attempt of this token, if no other delivery has."""
    workers = context.task_result.worker_ids
    perform(token, partial(_call, context, path, args, kwargs), workers[-1] if workers else "")


def _call(context: Any, path: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Call it, and return what JSON keeps of what it returns, as its own backend would."""
    wanted = import_string(path)
    return results.plain(wanted.call(*([context] if wanted.takes_context else ()), *args, **kwargs))
