"""What branches of one run come to at the same moment, in a worker's world."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.db import OperationalError, connections

from canx_flow import workflow
from canx_flow.core import clock
from canx_flow.models import LimitHolder, StepRecord, Timer, WorkflowRun
from canx_flow.store import limits, timers
from canx_flow.testing import advance
from canx_flow.worker.limit_desk import LimitDesk

from ..kinds import Body, each_kind
from ..waiting import wait_until
from .conftest import Activate

pytestmark = [
    pytest.mark.django_db(transaction=True),
    # Threads of a worker leave connections to the garbage collector, as their process does when it ends.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@each_kind
def test_an_outage_that_several_branches_meet_is_one(
    activate: Activate, monkeypatch: pytest.MonkeyPatch, settings: Any, kind: Callable[[Body], Any]
) -> None:
    """Both ask for a limit as the database goes away: the run waits once, which counts once, and then goes on."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LIMITS": {"places": {"concurrency": 2}}}
    both_ask, ask, admit, left = threading.Barrier(2), LimitDesk.admit, limits.admit, [1, 2]

    def asked(desk: LimitDesk, request: Any) -> None:
        if left:
            both_ask.wait(10)
        ask(desk, request)

    def admitted(connection: Any, bucket: Any, requests: Any, **more: Any) -> Any:
        if left:
            del left[: len(requests)]
            raise OperationalError("server closed the connection unexpectedly")
        return admit(connection, bucket, requests, **more)

    monkeypatch.setattr(LimitDesk, "admit", asked)
    monkeypatch.setattr(limits, "admit", admitted)

    async def body(ctx: Any) -> Any:
        return await ctx.map("each", str, [1, 2], limit="places")

    flow = workflow("worker.any")(kind(body))
    assert activate(flow) == "retrying"
    assert list(Timer.objects.values_list("kind", flat=True)) == ["outage"]
    run = WorkflowRun.objects.get()
    assert run.outages == 1
    advance(60)
    assert flow.status(run.id).result == ["1", "2"]


@each_kind
def test_a_losers_sleep_that_falls_due_as_it_is_decided_is_no_conflict(
    activate: Activate, kind: Callable[[Body], Any]
) -> None:
    """Its timer is fired before the decision is stored: the step that has ended first has won all the same."""

    def ends_as_the_sleep_falls_due() -> str:
        wait_until(lambda: Timer.objects.filter(step="limit/nap").update(due_at=clock.now()))
        return f"fired {timers.fire('default').acted}"

    async def body(ctx: Any) -> Any:
        async def limit(own: Any) -> None:
            await own.sleep("nap", 60)

        async def work(own: Any) -> Any:
            return await own.step("step", ends_as_the_sleep_falls_due)

        won = await ctx.race(limit=limit, work=work)
        await ctx.sleep("after", 60)
        return won

    flow = workflow("worker.any")(kind(body))
    assert activate(flow) == "sleeping"
    assert StepRecord.objects.get(name="limit/nap").state == "closed"
    advance(60)
    assert flow.status(WorkflowRun.objects.get().id).result == ("work", "fired 1")


@each_kind
@pytest.mark.parametrize("apart", [False, True], ids=["", "in a branch"])
@pytest.mark.parametrize(("wait", "at_most_once"), [(0.01, False), (0.0, True)], ids=["waits", "begins"])
def test_a_step_that_is_cancelled_with_its_place_in_hand_gives_that_back_before_the_undo(
    activate: Activate,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    kind: Callable[[Body], Any],
    wait: float,
    at_most_once: bool,
    apart: bool,
) -> None:
    """It was not called; what is undone then, by the same owner, may take long, and others wait for the place."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LIMITS": {"places": {"concurrency": 1}}}
    admit, held = limits.admit, []

    def cancel() -> None:
        flow.cancel(WorkflowRun.objects.get().id)
        connections.close_all()

    def admitted(*arguments: Any, **more: Any) -> Any:
        answers = admit(*arguments, **more)
        held.append(LimitHolder.objects.count())
        thread = threading.Thread(target=cancel)
        thread.start()
        thread.join()
        return [replace(answer, wait=wait) for answer in answers]

    monkeypatch.setattr(limits, "admit", admitted)

    async def body(ctx: Any) -> Any:
        await ctx.step("charge", str, 1, compensate=lambda _charge: held.append(LimitHolder.objects.count()))

        async def limited(own: Any) -> None:
            await own.step("limited", held.append, "called", limit="places", at_most_once=at_most_once)

        await (ctx.gather(limited=limited) if apart else limited(ctx))

    flow = workflow("worker.any")(kind(body))
    assert activate(flow) == "cancelled"
    assert held == [1, 0]
