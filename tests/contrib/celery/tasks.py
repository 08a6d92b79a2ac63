"""Celery tasks, as any project has them: nothing in them knows of canx_flow."""

from __future__ import annotations

from typing import Any

from celery import Task, shared_task

from tests import effects


@shared_task
def double(number: int, *, plus: int = 0) -> int:
    """Return twice a number."""
    effects.append(f"double {number}")
    return 2 * number + plus


@shared_task(bind=True)
def identity(self: Task[Any, Any]) -> str:
    """Return the id of the message."""
    found: str = self.request.id
    return found


@shared_task
def fail(text: str) -> None:
    """Fail of a connection."""
    raise ConnectionError(text)


@shared_task
def unstorable() -> object:
    """Return what nothing can store."""
    return object()


@shared_task
def held(name: str) -> str:
    """Wait until the test lets it go on."""
    effects.gate(name)
    return name


@shared_task(bind=True, max_retries=3, default_retry_delay=60)
def third_time(self: Task[Any, Any]) -> int:
    """Succeed at the third call, by Celery's own retry."""
    effects.append("tried")
    if self.request.retries < 2:
        raise self.retry()
    return int(self.request.retries)
