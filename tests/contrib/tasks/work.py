"""Tasks that tests enqueue, and workers of tests/contrib/tasks/settings.py know."""

from __future__ import annotations

from typing import Any

from canx_flow import GiveUp
from canx_flow.contrib.tasks.compat import TaskContext, task
from tests import effects
from tests.models import Effect


@task
def noop(*args: Any, **kwargs: Any) -> None:
    """Take anything."""


@task
async def noop_async(*args: Any, **kwargs: Any) -> None:
    """Take anything, asynchronously."""


@task
def add(one: int, two: int = 0) -> int:
    """Return a sum."""
    return one + two


@task
async def add_async(one: int, two: int = 0) -> int:
    """Return a sum, asynchronously."""
    return one + two


@task
def echo(value: Any) -> Any:
    """Return what was given."""
    return value


@task
def pair() -> tuple[int, dict[str, Any]]:
    """Return what JSON keeps as a list."""
    return (1, {"two": (3,)})


@task
def fail(message: str = "This task failed") -> None:
    """Raise."""
    raise ValueError(message)


@task
async def fail_async(message: str = "This task failed") -> None:
    """Raise, asynchronously."""
    raise ValueError(message)


@task
def leave() -> None:
    """Raise SystemExit."""
    raise SystemExit("This task left")


@task
def nested() -> None:
    """Raise an exception that holds one."""
    raise ValueError(ValueError("This task failed"))


@task
def unstorable() -> Any:
    """Return what is no JSON."""
    return object()


@task
def long(length: int) -> str:
    """Return a text of this length."""
    return "x" * length


@task
async def long_async(length: int) -> str:
    """Return a text of this length, asynchronously."""
    return "x" * length


@task
def write(note: str) -> None:
    """Write a row."""
    Effect.objects.create(name=note)


@task(takes_context=True)
def own_id(context: TaskContext) -> str:
    """Return the id of its own result."""
    return str(context.task_result.id)


@task(takes_context=True)
def third_time(context: TaskContext) -> int:
    """Fail twice; return the number of the attempt."""
    if context.attempt < 3:
        raise ValueError(f"attempt {context.attempt}, after {len(context.task_result.errors)} errors")
    assert context.task_result.worker_ids == [context.task_result.worker_ids[0]] * 3
    return int(context.attempt)


@task(takes_context=True)
def at_last(context: TaskContext, attempt: int) -> int:
    """Fail until the attempt of this number; return that."""
    if context.attempt < attempt:
        raise ValueError("not yet")
    return int(context.attempt)


@task
def give_up() -> None:
    """Fail for good, whatever the policy says."""
    raise GiveUp("never mind")


@task
def held(label: str) -> str:
    """Wait until the test lets it go on."""
    effects.gate(label)
    effects.append(f"{label} done")
    return label


@task
async def held_async(label: str) -> str:
    """Wait until the test lets it go on, asynchronously."""
    await effects.agate(label)
    effects.append(f"{label} done")
    return label


@task(priority=50, queue_name="mail")
def urgent() -> str:
    """Return a word."""
    return "done"


@task(backend="immediate", queue_name="elsewhere")
def at_once() -> str:
    """Return a word; unless it is given to another backend, at once."""
    return "done"
