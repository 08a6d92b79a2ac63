"""Which workflows this process knows: (name, version) → Workflow. Filled by `@workflow`, read by workers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .exceptions import DuplicateWorkflow, UnknownWorkflow

if TYPE_CHECKING:
    from .workflows import Workflow

_workflows: dict[tuple[str, str], Workflow[Any]] = {}


def add(workflow: Workflow[Any]) -> None:
    """Register it. The same name and version twice is refused, unless it is the same function reloaded."""
    identity = (workflow.name, workflow.version)
    known = _workflows.get(identity)
    if known is not None and _place(known) != _place(workflow):
        raise DuplicateWorkflow(
            f"Two workflows are named {workflow.label!r}: {_place(known)} and {_place(workflow)}. "
            f"Runs are stored under the name: give one of them another name or version."
        )
    _workflows[identity] = workflow


def get(name: str, version: str = "") -> Workflow[Any] | None:
    return _workflows.get((name, version))


def resolve(label: str) -> Workflow[Any]:
    """`name@version`, or a bare name: the unversioned one, else the highest version in natural order."""
    name, at, version = label.partition("@")
    versions = [known for (known_name, _), known in _workflows.items() if known_name == name]
    if at:
        versions = [known for known in versions if known.version == version]
    if not versions:
        raise UnknownWorkflow(f"No workflow named {label!r} is registered. Known: {', '.join(labels()) or 'none'}.")
    return max(versions, key=lambda known: (known.version == "", natural(known.version)))


def labels() -> list[str]:
    """Every known workflow as `name` or `name@version`, sorted."""
    return sorted(workflow.label for workflow in _workflows.values())


def identities() -> list[tuple[str, str]]:
    return sorted(_workflows)


def natural(version: str) -> list[tuple[int, int, str]]:
    """A sort key in which v10 follows v9."""
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"(\d+)", version)]


def forget(name: str, version: str = "") -> None:
    """Take one out again; for tests of what happens when nobody knows a workflow."""
    _workflows.pop((name, version), None)


def _place(workflow: Workflow[Any]) -> str:
    function = workflow.function
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"
