"""Steps that are called at most once, whatever happens."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from canx_flow import AsyncContext, Context, Retry, StepFailed, StepInterrupted, current_step, workflow
from canx_flow.models import StepRecord
from canx_flow.testing import advance, run_until_idle

from .shared import HOUR, ONCE, SOON, Crash, TransientError, crash

pytestmark = pytest.mark.django_db


def test_at_least_once_a_step_cut_off_is_called_again(calls: list[int]) -> None:
    """A step that its worker died in is called again, and the crash counts as no attempt."""

    def work() -> str:
        calls.append(current_step().attempt)
        if len(calls) == 1:
            raise Crash
        return "done"

    @workflow("steps.again")
    def flow(ctx: Context) -> str:
        return ctx.step("work", work, retry=ONCE)

    run_id = flow.start()
    crash()
    run_until_idle()
    assert flow.result(run_id) == "done"
    assert calls == [1, 1]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_at_most_once_a_step_cut_off_is_not_called_again(calls: list[int], asynchronous: bool) -> None:
    """The attempt is recorded before the call; found without a result, it was interrupted, and that is final."""

    def work() -> None:
        calls.append(StepRecord.objects.get().attempts)
        raise Crash

    answers: list[Any] = []

    def note(error: StepFailed) -> None:
        answers.append((type(error), error.step, error.attempts, error.is_a(StepInterrupted), str(error)))

    @workflow("steps.at-most-once")
    def plain(ctx: Context) -> None:
        try:
            ctx.step("work", work, at_most_once=True)
        except StepFailed as error:
            note(error)
        ctx.sleep("nap", 60)

    @workflow("steps.at-most-once-async")
    async def awaited(ctx: AsyncContext) -> None:
        try:
            await ctx.step("work", work, at_most_once=True)
        except StepFailed as error:
            note(error)
        await ctx.sleep("nap", 60)

    flow: Any = awaited if asynchronous else plain
    run_id = flow.start()
    crash()
    advance(HOUR)
    assert flow.status(run_id).state == "completed"
    assert calls == [1]
    says = "step 'work' was interrupted in attempt 1: its effect is not known"
    assert answers == [(StepInterrupted, "work", 1, True, says)] * 2


@pytest.mark.once
def test_at_most_once_an_exception_is_final(calls: list[int], settings: Any) -> None:
    """Without `retry=` of its own the step is called once, whatever policies workflow and settings have."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "RETRY": {"max_attempts": 5}}

    def fail() -> None:
        calls.append(1)
        raise TransientError

    @workflow("steps.at-most-once-final", retry=SOON)
    def flow(ctx: Context) -> None:
        ctx.step("fail", fail, at_most_once=True)

    run_id = flow.start()
    advance(HOUR)
    assert flow.status(run_id).state == "failed"
    assert calls == [1]


@pytest.mark.once
def test_at_most_once_a_timeout_is_final(calls: list[int]) -> None:
    """A call that ran out of time may have had its effect: it is not repeated."""

    async def hang() -> None:
        calls.append(1)
        await asyncio.Event().wait()

    @workflow("steps.at-most-once-timeout", retry=SOON)
    def flow(ctx: Context) -> None:
        ctx.step("hang", hang, at_most_once=True, timeout=0.01)

    run_id = flow.start()
    advance(HOUR)
    assert flow.status(run_id).state == "failed"
    assert calls == [1]


def test_at_most_once_with_retry_each_outcome_is_one_attempt(calls: list[int]) -> None:
    """With `retry=` given, a crash, an exception and a success are three attempts, numbered and recorded."""

    def work() -> str:
        calls.append(current_step().attempt)
        if len(calls) == 1:
            raise Crash
        if len(calls) == 2:
            raise TransientError("not yet")
        return "done"

    @workflow("steps.at-most-once-retry")
    def flow(ctx: Context) -> str:
        return ctx.step("work", work, at_most_once=True, retry=SOON)

    run_id = flow.start()
    crash()
    advance(HOUR)
    assert flow.result(run_id) == "done"
    assert calls == [1, 2, 3]
    row = StepRecord.objects.get(run_id=run_id)
    assert row.attempts == 3
    assert [part in row.errors for part in ("StepInterrupted", "TransientError", "not yet")] == [True, True, True]


def test_at_most_once_with_retry_only_crashes(calls: list[int]) -> None:
    """Crashes use up the attempts of the policy; the failure lists each interruption."""

    def work() -> None:
        calls.append(current_step().attempt)
        raise Crash

    caught: list[StepFailed] = []

    @workflow("steps.at-most-once-crashes")
    def flow(ctx: Context) -> None:
        try:
            ctx.step("work", work, at_most_once=True, retry=Retry(max_attempts=2, initial=1))
        except StepFailed as error:
            caught.append(error)

    run_id = flow.start()
    crash()
    run_until_idle()
    with pytest.raises(Crash):
        advance(60)
    advance(60)
    assert flow.status(run_id).state == "completed"
    assert calls == [1, 2]
    assert (type(caught[0]), caught[0].attempts, len(caught[0].errors)) == (StepInterrupted, 2, 2)
