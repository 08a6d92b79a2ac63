"""Workflows whose heavy steps Celery calls."""

from __future__ import annotations

import os
import signal
from typing import Any

from canx_flow import Context, Retry, StepFailed, workflow
from canx_flow.contrib.celery.executor import CeleryExecutor
from canx_flow.executors import register
from tests import effects

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


class Dying(CeleryExecutor):
    """Kills its process at the first dispatch: after the commit that says so, and before the message."""

    name = "dying"

    def accepts(self, task: Any) -> bool:
        """Tell whether it is this test's."""
        return isinstance(task, tuple)

    def describe(self, task: Any) -> str:
        """Return its name in Celery."""
        return super().describe(task[0])

    def dispatch(self, token: Any, task: Any, *rest: Any) -> None:
        """Die, or send the message."""
        effects.append(f"dispatch {token}")
        if len(effects.read()) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        super().dispatch(token, task[0], *rest)


@workflow("celery.dies")
def dies(ctx: Context) -> Any:
    """Delegate one step, whose dispatch kills the worker."""
    return ctx.delegate("far", (tasks.double,), 4)


@workflow("celery.items")
def items(ctx: Context, number: int) -> Any:
    """Have Celery do each of so many items, ten at a time."""
    return sum(ctx.map("double", tasks.double, range(number), executor="celery", concurrency=10))


register(Dying())
