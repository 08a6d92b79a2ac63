"""Which workflows this process knows: (name, version) → Definition. Filled by `@workflow`, read by workers."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from ..exceptions import DuplicateWorkflow, UnknownWorkflow
from .callables import plain
from .definition import Definition

_workflows: dict[tuple[str, str], Definition] = {}
#: The execution of its module in which each was registered.
_executions: dict[tuple[str, str], Any] = {}


def add(workflow: Definition) -> None:
    """Register a definition. The same name and version twice is refused, unless it is the same function reloaded."""
    identity = (workflow.name, workflow.version)
    known, execution = _workflows.get(identity), _execution(workflow.function)
    if known is not None and not _is_same(known.function, workflow.function):
        reloaded = execution is None or execution is not _executions[identity]
        if not (reloaded and place(known.function) == place(workflow.function)):
            raise DuplicateWorkflow(
                f"Two workflows are named {workflow.label!r}: {_described(known.function)} and "
                f"{_described(workflow.function)}. Runs are stored under the name: give one of them another name or "
                f"version."
            )
    _workflows[identity] = workflow
    _executions[identity] = execution


def get(name: str, version: str = "") -> Definition | None:
    return _workflows.get((name, version))


def resolve(label: str) -> Definition:
    """Find `name@version`, or a bare name: the unversioned one, else the highest version in natural order."""
    name, at, version = label.partition("@")
    versions = [known for (known_name, _), known in _workflows.items() if known_name == name]
    if at:
        versions = [known for known in versions if known.version == version]
    if not versions:
        raise UnknownWorkflow(f"No workflow named {label!r} is registered. Known: {', '.join(labels()) or 'none'}.")
    return max(versions, key=lambda known: (known.version == "", natural(known.version)))


def workflows() -> list[Definition]:
    """Return every known workflow, in the order of name and version."""
    return [_workflows[identity] for identity in identities()]


def labels() -> list[str]:
    """Return every known workflow as `name` or `name@version`, sorted."""
    return sorted(workflow.label for workflow in _workflows.values())


def identities() -> list[tuple[str, str]]:
    return sorted(_workflows)


def natural(version: str) -> list[tuple[int, int, str]]:
    """Return a sort key in which v10 follows v9."""
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"(\d+)", version)]


def forget(name: str, version: str = "") -> None:
    """Take a workflow out again; for tests of what happens where no worker knows it."""
    _workflows.pop((name, version), None)
    _executions.pop((name, version), None)


def place(function: Callable[..., Any]) -> str:
    """Return where a function is defined: `module.QualName`, else its repr."""
    found = plain(function)
    return repr(function) if found is None else f"{found.__module__}.{found.__qualname__}"


# -- the same function, or another one -------------------------------------------------------------


def _is_same(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Tell whether both come from one piece of source: a `def` in a function that is called twice makes two of them."""
    return one is other or (place(one) == place(other) and _definition(one) == _definition(other))


def _definition(function: Any) -> tuple[Any, ...]:
    """Return the code, and the arguments or decorators where the function is made of another."""
    function = inspect.unwrap(function)
    if isinstance(function, partial):
        return (*_definition(function.func), repr(function.args), repr(function.keywords))
    found = plain(function)
    own = () if isinstance(function, (FunctionType, MethodType)) else (repr(function),)
    return (found and found.__code__, *own)


def _execution(function: Callable[..., Any]) -> Any:
    """Return the spec of the function's module: each import and each reload makes a new one; a shell has none."""
    found = plain(function)
    module = sys.modules.get(found.__module__) if found is not None else None
    return getattr(module, "__spec__", None)


def _described(function: Callable[..., Any]) -> str:
    found = plain(function)
    line = "" if found is None else f" (line {found.__code__.co_firstlineno})"
    return f"{place(function)}{line}"
