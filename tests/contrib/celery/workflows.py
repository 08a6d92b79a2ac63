"""Workflows whose heavy steps Celery calls."""

from __future__ import annotations

from typing import Any

from canx_flow import Context, Retry, StepFailed, workflow

from . import tasks

ONCE = Retry(max_attempts=1)


@workflow("celery.one")
def one(ctx: Context, name: str, *args: Any) -> Any:
    """Delegate one step; return its result, or what it has failed of."""
    try:
        return ctx.delegate("far", getattr(tasks, name), *args, retry=ONCE)
    except StepFailed as error:
        return str(error)


@workflow("celery.again")
def again(ctx: Context, name: str, *args: Any) -> Any:
    """Delegate one step that counts as lost after two seconds of silence, and is tried again at once."""
    return ctx.delegate("far", getattr(tasks, name), *args, heartbeat=2, retry=Retry(initial=0))


@workflow("celery.signature")
def signature(ctx: Context, queue: str) -> Any:
    """Delegate the signature of a task, with an argument and a queue of its own."""
    return ctx.delegate("far", tasks.double.s(plus=1).set(queue=queue), 4)


@workflow("celery.patient")
def patient(ctx: Context, name: str, *args: Any) -> Any:
    """Delegate one step whose message is sent again after a second and a half."""
    return ctx.delegate("far", getattr(tasks, name), *args, start_timeout=60)
