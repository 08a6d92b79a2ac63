"""Which tasks this process knows, and under which name each is a workflow. Filled by `performing.declare`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from django.utils.module_loading import import_string

from .compat import InvalidTask, InvalidTaskBackend, Task

#: What the names of all these workflows begin with; the task's path follows.
PREFIX = "task:"
#: The attribute that names the backend of a task which was not enqueued to that of its declaration.
BACKEND = "backend"

_tasks: dict[str, Any] = {}
#: Those that were found after all apps were ready: workers may not know them.
found_late: dict[str, Any] = {}


def name_of(task: Any) -> str:
    """Return the name of the workflow that a task is."""
    return f"{PREFIX}{task.module_path}"


def known(task: Any) -> bool:
    """Return whether this function is known already; not one that stands in its place after a reload."""
    found = _tasks.get(name_of(task))
    return found is not None and found.func is task.func


def as_declared(task: Any) -> Any:
    """Return the task that stands in its module: `using` may have changed the one at hand."""
    found = getattr(sys.modules.get(task.func.__module__), task.func.__qualname__, None)
    return found if isinstance(found, Task) and found.func is task.func else task


def remember(declared: Any, *, late: Any) -> None:
    """Remember a task as it is declared. `late`: as it was found, if all apps were ready then, else `None`."""
    _tasks[name_of(declared)] = declared
    if late is not None:
        found_late[name_of(declared)] = late


def imported() -> Iterator[Any]:
    """Yield the tasks in all modules that are imported, those of other backends too."""
    for module in list(sys.modules.values()):
        try:
            values = object.__getattribute__(module, "__dict__")  # Else one that is to be loaded later would be loaded.
        except AttributeError:
            continue
        for value in list(values.values()):
            if issubclass(type(value), Task):  # By `isinstance`, a lazy object would be made to see its class.
                yield value


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
    """Return the task with what `using` had changed, as far as today's settings allow it: if not all, the backend."""
    backend = attributes.get(BACKEND)
    for allowed in (changes, {}):
        with suppress(InvalidTask, InvalidTaskBackend):  # TASKS has changed since: the run goes on all the same.
            return declared.using(backend=backend, **allowed)
    return declared
