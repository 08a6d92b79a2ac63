"""What the tests of children share: the children, and what is looked at."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from canx_flow import Context, workflow
from canx_flow.models import StepRecord, WorkflowRun
from canx_flow.workflows import Workflow

HOUR = timedelta(hours=1)

#: What steps of children have done.
calls: list[Any] = []
#: The workflows that this test has declared.
own: list[str] = []


class Lost(Exception):  # noqa: N818 - reads as users would name it
    """A parcel is."""


@workflow("children.pack")
def pack(ctx: Context, item: str, *, twice: bool = False) -> str:
    """Ends at once, after a step."""
    ctx.step("pack", calls.append, item)
    return f"{item} {item}" if twice else item


@workflow("children.fail")
def fail(ctx: Context, item: str) -> None:
    """Fails, as long as its item is among what is lost."""
    ctx.step("look", calls.append, f"look for {item}")
    if item in lost:
        raise Lost(item)


#: The items for which `fail` fails.
lost: set[str] = set()


@workflow("children.wait")
def wait(ctx: Context, item: str = "") -> Any:
    """Waits for an event."""
    return ctx.wait_for("news", "news")


@workflow("children.sleep")
async def sleep(ctx: Any, item: str = "") -> str:
    """Sleeps for an hour."""
    await ctx.sleep("nap", HOUR)
    return item


def declared(kind: Callable[..., Any], body: Callable[..., Any], **options: Any) -> Workflow[..., Any]:
    """A workflow of this kind and body, of a name of its own."""
    made = workflow(f"children.{body.__name__}.{uuid4().hex[:8]}", kind(body), **options)
    own.append(made.name)
    return made


async def outcome(value: Any) -> Any:
    """What a handle's `result()` has returned, in a body for both kinds."""
    return await value if inspect.isawaitable(value) else value


def children(parent: UUID) -> list[WorkflowRun]:
    """The children of a run, oldest first."""
    return list(WorkflowRun.objects.filter(parent_id=parent).order_by("id"))


def child(parent: UUID) -> WorkflowRun:
    """Its only one."""
    [found] = children(parent)
    return found


def record(run_id: UUID, name: str) -> StepRecord:
    """What a run has stored under a name."""
    return StepRecord.objects.get(run_id=run_id, name=name)
