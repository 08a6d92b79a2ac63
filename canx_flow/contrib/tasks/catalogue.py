"""Which tasks this process knows, and under which name each is a workflow. Filled by `performing.declare`."""

from __future__ import annotations

from typing import Any

from django.utils.module_loading import import_string

from .compat import InvalidTask, InvalidTaskBackend, Task

#: What the names of all these workflows begin with; the task's path follows.
PREFIX = "task:"
#: The attribute that names the backend of a task which was not enqueued to that of its declaration.
BACKEND = "backend"

_tasks: dict[str, Any] = {}
#: Those that were declared after all apps were ready: workers may not know them.
found_late: dict[str, Any] = {}


def name_of(task: Any) -> str:
    """Return the name of the workflow that a task is."""
    return f"{PREFIX}{task.module_path}"


def known(task: Any) -> bool:
    """Return whether this function is known already; not one that stands in its place after a reload."""
    found = _tasks.get(name_of(task))
    return found is not None and found.func is task.func


def remember(task: Any, *, late: bool) -> None:
    """Remember a task as it is declared."""
    _tasks[name_of(task)] = task
    if late:
        found_late[name_of(task)] = task


def find(name: str) -> Any:
    """Return the task that a workflow of this name is, as it is declared; ImportError if its code is gone."""
    found = _tasks.get(name)
    if found is None:
        found = import_string(name.removeprefix(PREFIX))
        if not isinstance(found, Task):
            raise ImportError(f"{name.removeprefix(PREFIX)} is not a task")
    return found


def attributes_of(task: Any) -> dict[str, Any]:
    """Return what is stored as attributes of a task's run: its backend, if `using` has changed that.

    Nothing that a step which enqueues it may compute anew from the time: else it would be another task when the step is
    repeated.
    """
    return {} if task.backend == find(name_of(task)).backend else {BACKEND: task.backend}


def as_enqueued(declared: Any, attributes: dict[str, Any], **changes: Any) -> Any:
    """Return the task with what `using` had changed, as far as today's settings allow it."""
    try:
        return declared.using(backend=attributes.get(BACKEND), **changes)
    except (InvalidTask, InvalidTaskBackend):  # TASKS has changed since: the run goes on all the same.
        return declared
