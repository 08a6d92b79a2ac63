"""Executors: what calls the tasks of delegated steps elsewhere. Registered by name; one accepts a task, or none does.

Projects derive from `Executor` and register an object of theirs when their app is ready. Contexts look executors up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from .naming import checked

MOST_NAME = 100


@dataclass(frozen=True, slots=True)
class DispatchOptions:
    """What the run allows a delegated step: all in seconds, `timeout` `None` for any time. `beat`: how often the other
    side is to beat while the task runs."""

    start_timeout: float
    timeout: float | None
    heartbeat: float

    @property
    def beat(self) -> float:
        """A third of `heartbeat`: two beats may be lost."""
        return self.heartbeat / 3


class Executor(ABC):
    """Calls tasks in processes of its own. Derive from it, and `register` an object when your app is ready."""

    #: By which `ctx.map(…, executor=…)` names it, and people read of it: up to 100 characters.
    name: str
    #: What `dispatch` raises while what it speaks to is away: it is called again, with the same token, until
    #: `start_timeout` is over. Whatever else it raises is a failed attempt.
    outages: tuple[type[Exception], ...] = (OSError,)

    @abstractmethod
    def accepts(self, task: Any) -> bool:
        """Tell whether it can call this: asked of each executor, in the order in which they were registered."""

    @abstractmethod
    def describe(self, task: Any) -> str:
        """Return the name of a task for people: in the admin, in `flow show`, in the log."""

    @abstractmethod
    def dispatch(
        self, token: UUID, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], options: DispatchOptions
    ) -> None:
        """Have the task called elsewhere, once, under this token; return at once.

        Called in a worker, outside a transaction, after the commit that says so; again, with the same token, should it
        be uncertain whether the message has arrived. What calls the task there does it by `executors.perform`.
        """

    def call_off(self, token: UUID, task: str) -> None:  # noqa: B027 - not every executor can
        """Have the task not called any more, or cut off, where that can be done: the run does not want it.

        `task`: as `describe` has named it. What comes of it all the same is refused.
        """


_executors: dict[str, Executor] = {}


def register(executor: Executor) -> None:
    """Make an executor known; one of the same name takes the place of the one before. TypeError if it is none."""
    if not isinstance(executor, Executor):
        raise TypeError(f"an executor must be an object of a class derived from Executor, not {executor!r}")
    _executors[checked(executor.name, "the name of an executor", MOST_NAME)] = executor


def find(name: str) -> Executor:
    """Return the executor of this name; ValueError if none has it."""
    if name not in _executors:
        known = ", ".join(sorted(_executors)) or "none"
        raise ValueError(f"no executor is registered as {name!r}; registered: {known}")
    return _executors[name]


def known(name: str) -> Executor | None:
    """Return the executor of this name, if this process has it."""
    return _executors.get(name)


def of(task: Any) -> Executor:
    """Return the first executor that accepts this task; TypeError if none does."""
    for executor in _executors.values():
        if executor.accepts(task):
            return executor
    known = ", ".join(sorted(_executors)) or "none"
    raise TypeError(
        f"no executor accepts {task!r}; registered: {known}. Add its app to INSTALLED_APPS (canx_flow.contrib.tasks), "
        f"or register an Executor of your own."
    )
