"""A wait for a step's next attempt that is closed before it is stored: what decides comes in the same turn."""

from __future__ import annotations

from typing import Any

import pytest
from freezegun import freeze_time

from canx_flow import MapFailed, Retry, StepFailed
from canx_flow.models import StepRecord, Timer
from canx_flow.testing import advance, run_until_idle

from ..steps.shared import START
from .either import declared

pytestmark = pytest.mark.django_db

OFTEN, TWICE = (Retry(max_attempts=most, initial=7, factor=1, jitter=0) for most in (5, 2))


class Fails:
    """Steps that fail as often as they are told to."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, name: str, times: int = 100) -> str:
        self.calls.append(name)
        if self.calls.count(name) <= times:
            raise ValueError(name)
        return name


async def _gathered(ctx: Any, fails: Fails) -> Any:
    try:
        await ctx.gather(
            a=lambda c: c.step("work", fails, "a", retry=OFTEN), b=lambda c: c.step("work", fails, "b", retry=TWICE)
        )
    except StepFailed as failed:
        return failed.step


async def _raced(ctx: Any, fails: Fails) -> Any:
    return await ctx.race(
        a=lambda c: c.step("work", fails, "a", retry=OFTEN), b=lambda c: c.step("work", fails, "b", 1, retry=OFTEN)
    )


async def _mapped(ctx: Any, fails: Fails) -> Any:
    class Policy(Retry):
        def wants(self, error: BaseException, attempts: int) -> bool:
            return str(error) == "a" or attempts < 2

    try:
        await ctx.map("work", fails, ["a", "b"], retry=Policy(initial=7, factor=1, jitter=0))
    except MapFailed as failed:
        return [failure.step for failure in failed.failures]


@pytest.mark.parametrize(
    ("body", "result", "waits"),
    [(_gathered, "b/work", "a/work"), (_raced, ("b", "b"), "a/work"), (_mapped, ["work[1]"], "work[0]")],
    ids=["gather", "race", "map"],
)
def test_what_waits_for_its_third_attempt_is_closed_by_what_ends_at_its_second(
    kind: str, body: Any, result: Any, waits: str
) -> None:
    """The run goes on as what has decided says, with nothing left that is waited for."""
    fails = Fails()
    flow = declared(kind, lambda ctx: body(ctx, fails))
    with freeze_time(START):
        run_id = flow.start()
        run_until_idle()
        advance(7)
    status = flow.status(run_id)
    assert (status.state, status.error) == ("completed", None)
    assert flow.result(run_id) == result
    assert fails.calls == ["a", "b", "a", "b"]
    assert not Timer.objects.exists()
    record = StepRecord.objects.get(name=waits)
    assert (record.state, record.attempts) == ("closed", 2)
