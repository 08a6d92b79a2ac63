"""Where a context may not be used, and what is said then."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.db import connections, transaction

from canx_flow import (
    AsyncContext,
    Context,
    InsideTransaction,
    InvalidState,
    OutsideStep,
    WrongContext,
    client,
    get_run,
    send_event,
    signals,
    workflow,
)
from canx_flow.models import Event, StepRecord, WorkflowRun
from canx_flow.testing import advance, run_until_idle

from ..models import Effect
from .shared import HOUR, ONCE, START

pytestmark = pytest.mark.django_db


@pytest.mark.once
def test_a_context_belongs_to_its_thread(calls: list[Any]) -> None:
    """Every context call from another thread raises WrongContext; the body's own thread goes on."""

    def attempt(call: Callable[[], Any]) -> None:
        try:
            call()
        except WrongContext as error:
            calls.append(str(error))
        finally:
            connections.close_all()

    @workflow("steps.thread")
    def flow(ctx: Context) -> str:
        for call in (
            lambda: ctx.step("x", lambda: 1),
            lambda: ctx.sleep("x", 1),
            lambda: ctx.sleep_until("x", START),
            lambda: ctx.wait_for("x", "news"),
            ctx.now,
            lambda: ctx.uuid("x"),
            lambda: ctx.random,
            lambda: ctx.set_attributes(a=1),
            lambda: ctx.progress(1),
        ):
            thread = threading.Thread(target=attempt, args=(call,))
            thread.start()
            thread.join()
        return ctx.step("x", lambda: "mine")

    run_id = flow.start()
    run_until_idle()
    assert flow.result(run_id) == "mine"
    assert len(calls) == 9
    assert all("in another thread" in says and str(run_id) in says for says in calls)
    assert list(flow.runs.get().records.values_list("name", flat=True)) == ["x"]


@pytest.mark.once
def test_an_async_context_belongs_to_its_task(calls: list[Any]) -> None:
    """Its calls are made there; of two that are awaited side by side, as `asyncio.gather` does, one is refused."""

    @workflow("steps.task")
    async def flow(ctx: AsyncContext) -> str:
        results = await asyncio.gather(
            ctx.step("one", lambda: 1), ctx.step("two", lambda: 2), asyncio.to_thread(ctx.now), return_exceptions=True
        )
        calls.extend(results)
        return await ctx.step("x", lambda: "mine")

    run_id = flow.start()
    run_until_idle()
    assert flow.result(run_id) == "mine"
    assert [type(result) for result in calls] == [int, WrongContext, WrongContext]
    assert "ctx.step('two')" in str(calls[1])
    assert "ctx.step('one') is under way" in str(calls[1])
    assert "ctx.gather" in str(calls[1])
    assert list(flow.runs.get().records.values_list("name", flat=True)) == ["one", "x"]


@pytest.mark.once
@pytest.mark.parametrize("asynchronous", [False, True])
def test_every_context_call_is_refused_inside_a_step(calls: list[Any], asynchronous: bool) -> None:
    """Inside a step function the context answers nothing but who the run is."""

    def look(ctx: Any) -> None:
        for call in (
            ctx.now,
            lambda: ctx.uuid("x"),
            lambda: ctx.random,
            lambda: ctx.set_attributes(a=1),
            lambda: ctx.progress(1),
        ):
            with pytest.raises(WrongContext, match="inside a step function"):
                call()
        calls.append(ctx.run_id)

    @workflow("steps.inside")
    def plain(ctx: Context) -> None:
        def refused() -> None:
            look(ctx)
            for call in (lambda: ctx.sleep("x", 1), lambda: ctx.wait_for("x", "news")):
                with pytest.raises(WrongContext):
                    call()

        ctx.step("work", refused, retry=ONCE)

    @workflow("steps.inside-async")
    async def awaited(ctx: AsyncContext) -> None:
        async def refused() -> None:
            look(ctx)
            for call in (lambda: ctx.sleep("x", 1), lambda: ctx.wait_for("x", "news")):
                with pytest.raises(WrongContext):
                    await call()

        await ctx.step("work", refused, retry=ONCE)
        await ctx.step("plain", look, ctx, retry=ONCE)

    flow: Any = awaited if asynchronous else plain
    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "completed", flow.status(run_id).error
    assert set(calls) == {run_id}
    assert flow.status(run_id).attributes == {}


@pytest.mark.once
def test_a_context_ends_with_its_activation(calls: list[Any]) -> None:
    """A context that was kept is refused in another run's body, in a later replay, and outside any body."""
    kept: list[Context] = []

    def use(ctx: Context) -> None:
        for call in (lambda: ctx.step("stolen", calls.append, "called"), ctx.now, lambda: ctx.sleep("stolen", 1)):
            with pytest.raises(WrongContext):
                call()

    @workflow("steps.keeper")
    def keeper(ctx: Context) -> None:
        for old in kept:
            use(old)
        kept.append(ctx)
        ctx.sleep("nap", 60)

    @workflow("steps.thief")
    def thief(ctx: Context) -> str:
        use(kept[0])
        return ctx.step("own", lambda: "fine")

    first = keeper.start()
    run_until_idle()
    second = thief.start()
    run_until_idle()
    assert thief.status(second).state == "completed", thief.status(second).error
    use(kept[0])
    advance(60)
    assert keeper.status(first).state == "completed", keeper.status(first).error
    assert calls == []
    assert not StepRecord.objects.filter(name="stolen").exists()


def _outside(run_id: UUID, other: Any) -> dict[str, Callable[[], Any]]:
    """Every call that is made about runs from outside, by name, on a run of the workflow `other`."""
    subject = Effect(pk=1)
    subject._state.adding = False
    return {
        "start": other.start,
        "using": lambda: other.using(key="k").start(),
        "start_many": lambda: other.start_many([()]),
        "status": lambda: other.status(run_id),
        "result": lambda: other.result(run_id),
        "cancel": lambda: other.cancel(run_id),
        "retry": lambda: other.retry(run_id),
        "rerun": lambda: other.rerun(run_id),
        "pause": lambda: other.pause(run_id),
        "resume": lambda: other.resume(run_id),
        "wake": lambda: other.wake(run_id),
        "send": lambda: other.send(run_id, "news"),
        "send_event": lambda: send_event("news"),
        "runs": lambda: other.runs,
        "get_run": lambda: get_run(run_id),
        "client.get_run": lambda: client.get_run(run_id),
        "client.cancel": lambda: client.cancel(run_id),
        "client.runs": client.runs,
        "for_subject": lambda: WorkflowRun.objects.for_subject(subject),
        "states": lambda: WorkflowRun.objects.states("failed"),
        "with_attributes": lambda: WorkflowRun.objects.with_attributes(a=1),
        "bulk cancel": lambda: WorkflowRun.objects.filter(id=run_id).cancel(),
        "bulk retry": lambda: WorkflowRun.objects.none().retry(),
    }


@workflow("steps.other")
def other_flow(ctx: Context) -> str:
    """The run that bodies and steps ask about."""
    return "done"


@pytest.mark.once
def test_calls_from_outside_are_refused_in_a_body() -> None:
    """Every call about runs, reads too, raises OutsideStep in a body: there it would happen at every replay."""
    other = other_flow.using(delay=HOUR).start()
    refused: dict[str, str] = {}

    @workflow("steps.outside-step")
    def flow(ctx: Context) -> None:
        for name, call in _outside(other, other_flow).items():
            try:
                call()
            except OutsideStep as error:
                refused[name] = str(error)

    run_id = flow.start()
    run_until_idle()
    assert set(refused) == set(_outside(other, other_flow))
    assert all("Put it into a step" in says and str(run_id) in says for says in refused.values())
    assert other_flow.status(other).state == "sleeping"
    assert other_flow.runs.count() == 1
    assert not Event.objects.exists()


@pytest.mark.once
def test_async_twins_are_refused_in_an_async_body() -> None:
    """The same for the async twins in an `async def` workflow, and for plain calls in it."""
    other = other_flow.using(delay=HOUR).start()
    refused: list[str] = []

    @workflow("steps.outside-step-async")
    async def flow(ctx: AsyncContext) -> None:
        for call in (
            other_flow.astart,
            lambda: other_flow.using(key="k").astart(),
            lambda: other_flow.astart_many([()]),
            lambda: other_flow.astatus(other),
            lambda: other_flow.aresult(other),
            lambda: other_flow.acancel(other),
            lambda: other_flow.aretry(other),
            lambda: other_flow.arerun(other),
            lambda: other_flow.apause(other),
            lambda: other_flow.aresume(other),
            lambda: other_flow.awake(other),
            lambda: other_flow.asend(other, "news"),
            lambda: client.aget_run(other),
            lambda: client.asend_event("news"),
        ):
            with pytest.raises(OutsideStep):
                await call()
            refused.append("async")
        for plain in _outside(other, other_flow).values():
            with pytest.raises(OutsideStep):
                plain()
            refused.append("plain")

    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "completed", flow.status(run_id).error
    assert refused.count("async") == 14
    assert WorkflowRun.objects.count() == 2


def test_calls_from_outside_are_welcome_in_a_step() -> None:
    """Inside a step they do what they do anywhere; only waiting for a result would hold the step."""
    other = other_flow.using(delay=HOUR).start()
    failed: dict[str, str] = {}

    def work() -> None:
        for name, call in _outside(other, other_flow).items():
            try:
                call()
            except InvalidState as error:
                failed[name] = str(error)

    @workflow("steps.in-step")
    def flow(ctx: Context) -> None:
        ctx.step("work", work, retry=ONCE)

    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "completed", flow.status(run_id).error
    # Retry and send come after the cancellation.
    assert set(failed) == {"result", "retry", "send"}
    assert "inside a step" in failed["result"]


@pytest.mark.once
def test_a_receiver_of_a_signal_is_not_the_body() -> None:
    """A receiver of `step_completed` may ask about the run: it is called beside the body, not by it."""
    seen: list[str] = []

    def look(sender: Any, run_id: UUID, **kwargs: Any) -> None:
        seen.append(get_run(run_id).state)

    @workflow("steps.receiver")
    def flow(ctx: Context) -> None:
        ctx.step("first", lambda: None)
        ctx.step("second", lambda: None)

    signals.step_completed.connect(look)
    try:
        flow.start()
        run_until_idle()
    finally:
        signals.step_completed.disconnect(look)
    assert len(seen) == 2


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.parametrize("alias", ["default", "other"])
def test_a_context_call_inside_a_transaction_of_the_body_is_refused(calls: list[Any], alias: str) -> None:
    """A body must not hold a transaction over a context call: InsideTransaction, whichever database it is on."""

    @workflow("steps.inside-transaction")
    def flow(ctx: Context) -> str:
        with transaction.atomic(using=alias):
            for call in (
                lambda: ctx.step("x", calls.append, "called"),
                lambda: ctx.sleep("x", 1),
                lambda: ctx.wait_for("x", "news"),
                ctx.now,
                lambda: ctx.uuid("x"),
                lambda: ctx.random,
                lambda: ctx.set_attributes(a=1),
                lambda: ctx.progress(1),
            ):
                with pytest.raises(InsideTransaction, match=f"inside a transaction on '{alias}'"):
                    call()
        return ctx.step("x", lambda: "after")

    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "completed", flow.status(run_id).error
    assert flow.result(run_id) == "after"
    assert calls == []


@pytest.mark.once
def test_inside_transaction_uncaught_fails_the_run_and_rolls_back() -> None:
    """Uncaught it fails the run with that error, in a test case's own transaction too."""

    @workflow("steps.inside-transaction-fails")
    def flow(ctx: Context) -> None:
        with transaction.atomic():
            ctx.step("x", lambda: None)

    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).reason == "InsideTransaction"
    assert not StepRecord.objects.exists()
