"""Runs in every state, made as people make them: started, run inline, paused, cancelled, claimed by a pretended worker.

The admin's tests look at these.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connections

from canx_flow import Context, Retry, queues, workflow
from canx_flow import schedules as scheduling
from canx_flow.core import clock, registry
from canx_flow.core.schedules import Scheduled
from canx_flow.core.ticking import OVERLAP
from canx_flow.models import Schedule, Worker, WorkflowRun
from canx_flow.store import claims, leases, schedules, timers
from canx_flow.testing import run_until_idle

HOUR = timedelta(hours=1)
SCRIPT = "<script>alert(1)</script>"


def fail(what: str) -> None:
    """A step that never succeeds."""
    raise ValueError(f"no {what}")


@workflow("admin.any")
def anything(ctx: Context, what: str = "", *, note: Any = None) -> Any:
    """Gets stuck where `what` says, or ends so."""
    ctx.step("begin", lambda: note)
    match what:
        case "sleep":
            ctx.sleep("nap", HOUR)
        case "wait":
            return ctx.wait_for("answer", "answered", key="k-1", timeout=2 * HOUR)
        case "retry":
            ctx.step("flaky", fail, note, retry=Retry(initial=300, jitter=0))
        case "fail":
            ctx.step("hopeless", fail, note, retry=Retry(max_attempts=2, initial=0, jitter=0))
        case "undo":
            ctx.step("book", lambda: note, compensate=lambda _note: None)
            ctx.step("charge", lambda: note, compensate=fail, retry=Retry(initial=300, jitter=0))
            ctx.sleep("nap", HOUR)
    return note


@workflow("admin.many-steps")
def many_steps(ctx: Context, number: int) -> None:
    """So many steps, and a sleep."""
    for _ in range(number):
        ctx.step("item", lambda: "x")
    ctx.sleep("nap", HOUR)


@workflow("admin.a-name-with-more-letters-than-a-telephone-has-place-for-on-one-line")
def long_named(ctx: Context) -> None:
    """A step."""
    ctx.step("item", lambda: "x")


def at_rest(what: str = "", **keywords: Any) -> UUID:
    """A run that has got stuck, or has ended."""
    run_id = anything.start(what, **keywords)
    run_until_idle()
    return run_id


def pending() -> UUID:
    """A run that nobody has claimed yet."""
    return anything.start()


def running() -> UUID:
    """A run that a live worker has."""
    return owned(anything.start())


def paused() -> UUID:
    """A sleeping run that was paused."""
    run_id = at_rest("sleep")
    anything.pause(run_id, "lunch", by="ada")
    return run_id


def parked() -> UUID:
    """A run whose version nobody knows any more."""
    run_id = anything.start()
    WorkflowRun.objects.filter(id=run_id).update(version="gone")
    run_until_idle()
    return run_id


def stopping() -> UUID:
    """A run that was cancelled while a worker had it."""
    run_id = running()
    anything.cancel(run_id)
    return run_id


def cancelled() -> UUID:
    """A run that was cancelled while it slept."""
    run_id = at_rest("sleep")
    anything.cancel(run_id, "changed her mind", by="ada")
    return run_id


def owned(run_id: UUID) -> UUID:
    """The run, claimed by a live worker that does nothing with it."""
    worker = a_worker()
    claimed = claims.claim(connections["default"], worker.id, 1, registry.identities())
    assert [run.id for run in claimed] == [run_id]
    return run_id


def a_worker(**about: Any) -> Worker:
    """The row of a live worker."""
    return leases.register(**{"host": "elsewhere", "pid": 4711, "concurrency": 16, "version": "0.1", **about})


def out_of_time() -> UUID:
    """A run that failed at its deadline."""
    run_id = anything.using(timeout=HOUR).start("wait")
    run_until_idle()
    clock.shift(HOUR)
    timers.fire("default")
    return run_id


MAKE: dict[str, Callable[[], UUID]] = {
    "running": running,
    "sleeping": lambda: at_rest("sleep"),
    "waiting": lambda: at_rest("wait"),
    "retrying": lambda: at_rest("retry", note="luck"),
    "paused": paused,
    "parked": parked,
    "stopping": stopping,
    "completed": at_rest,
    "failed": lambda: at_rest("fail", note="luck"),
    "cancelled": cancelled,
    "pending": pending,  # the last one: `running` claims whatever is ready
}


def steered() -> None:
    """Schedules of which one is paused and one has left out a tick, paused queues and workflows, and limits."""
    nightly = Scheduled.declared("nightly", long_named, cron="30 2 * * *", tz="Europe/Berlin", window=600)
    for scheduled in (nightly, Scheduled.declared("poll", anything, every=HOUR, args=("sleep",))):
        schedules.add("default", scheduled)
    scheduling.pause("nightly", "the reports are wrong", by="ada")
    holder = scheduling.trigger("poll")
    skipped = {"skipped": 2, "skipped_since": clock.now(), "skip_reason": OVERLAP, "skip_holder": holder}
    Schedule.objects.filter(name="poll").update(**skipped)
    queues.pause("mail", "the provider is down", by="ada")
    queues.limits("reports", concurrency=2, rate="5/s")
    queues.pause_workflow(many_steps.name, "a bad release", by="ada")


def state(run_id: UUID) -> str:
    """Where it stands in its row."""
    return WorkflowRun.objects.values_list("state", flat=True).get(id=run_id)
