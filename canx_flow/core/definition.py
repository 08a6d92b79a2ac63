"""A workflow as it is declared: a function under a stored name, with the defaults of its runs.

The registry keeps definitions; starts and activations read them. `workflows.Workflow` adds the calls that query
the database, so what lies below it needs this class alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, Generic, ParamSpec, Protocol, Self, TypeVar
from uuid import UUID

from ..retry import Retry
from . import callables, clock, naming
from .durations import later, seconds
from .fingerprints import fingerprint
from .options import StartOptions, checked_priority

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, eq=False)
class Definition:
    """Name, version, function and defaults of a workflow; `retry_policy` is that of its steps, `timeout` in seconds."""

    name: str
    function: Callable[..., Any]
    version: str = ""
    queue: str = "default"
    priority: int = 0
    retry_policy: Retry | None = None
    timeout: float | None = None
    is_async: bool = field(init=False)
    _takes: callables.Arguments = field(init=False, repr=False)

    @classmethod
    def declared(
        cls,
        name: str,
        function: Any,
        *,
        version: str = "",
        queue: str = "default",
        priority: int = 0,
        retry: Any = None,
        timeout: float | timedelta | None = None,
    ) -> Self:
        """Return the definition of these arguments of `workflow`; ValueError or TypeError names what is wrong."""
        defined = cls(
            _checked_name(name), _checked_function(name, function), _checked_version(version),
            naming.checked(queue, "queue", 100), checked_priority(priority), _checked_retry(retry),
            _checked_timeout(timeout),
        )  # fmt: skip
        if not defined._takes.a_context:
            raise TypeError(f"workflow {name!r} needs a function that takes a context, which {function!r} does not")
        return defined

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_async", callables.is_async(self.function))
        object.__setattr__(self, "_takes", callables.Arguments(self.function))
        for attribute in ("__doc__", "__module__", "__qualname__", "__name__"):
            if hasattr(self.function, attribute):
                object.__setattr__(self, attribute, getattr(self.function, attribute))

    @property
    def label(self) -> str:
        """`name`, or `name@version`."""
        return naming.label(self.name, self.version)

    @cached_property
    def fingerprint(self) -> str:
        """What tells whether the function has changed since a run was started; empty where its source is missing."""
        return fingerprint(self.function)

    @property
    def takes(self) -> str:
        """What the function is called with beside its context, as in `(order_id, express=False)`."""
        return str(self._takes)

    def __repr__(self) -> str:
        return f"<Workflow {self.label}>"

    def found_async(self) -> None:
        """Call the function with an AsyncContext from now on: it looked plain, and returned an awaitable."""
        object.__setattr__(self, "is_async", True)

    def misfit(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> str:
        """Return why the function cannot be called with a context and these, naming both; empty if it can."""
        problem = self._takes.misfit(arguments, keywords)
        return f"the arguments do not fit workflow {self.label!r}: {problem}" if problem else ""


@dataclass(frozen=True, slots=True)
class Planned(Generic[R_co]):
    """A workflow with the options of a start, as `ctx.call` is given it. `R_co`: what its function returns."""

    definition: Definition
    options: StartOptions


class Startable(Protocol[P, R_co]):
    """A workflow, or what its `using` returns."""

    def start(self, /, *args: P.args, **kwargs: P.kwargs) -> UUID:
        """Start a run."""

    def _planned(self) -> Planned[R_co]:
        """Return what is started, and with which options."""


def planned(startable: Any, call: str) -> Planned[Any]:
    """Return what a call starts; TypeError for anything but a workflow, or what its `using` returns."""
    found = getattr(startable, "_planned", None)
    if found is None:
        given = type(startable).__name__
        raise TypeError(f"{call} takes a workflow, or what its using(…) returns, not {given}: pass it, do not start it")
    made: Planned[Any] = found()
    return made


def _checked_name(name: str) -> str:
    name = naming.checked(name, "workflow name", 200)
    if "@" in name:
        raise ValueError(f"workflow name {name!r} must not contain @: name@version names a version")
    return name


def _checked_function(name: str, function: Any) -> Callable[..., Any]:
    if not callable(function):
        raise TypeError(f"workflow {name!r} needs a function, not {type(function).__name__}")
    if callables.is_generator(function):
        raise TypeError(f"workflow {name!r} needs a function that runs when it is called; {function!r} is a generator")
    checked: Callable[..., Any] = function
    return checked


def _checked_version(version: str) -> str:
    return naming.checked(version, "version", 100) if version != "" else version


def _checked_retry(retry: Any) -> Retry | None:
    if retry is not None and not isinstance(retry, Retry):
        raise TypeError(f"retry must be a Retry, not {type(retry).__name__}")
    return retry


def _checked_timeout(timeout: float | timedelta | None) -> float | None:
    if timeout is None:
        return None
    limit = seconds(timeout, "timeout", positive=True)
    later(clock.now(), limit, "a timeout")  # Refused here, because the deadline is stored in the first activation.
    return limit
