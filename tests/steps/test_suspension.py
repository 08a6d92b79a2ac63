"""A body that is left while it waits, and what a swallowed suspension does."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from canx_flow import AsyncContext, Context, workflow
from canx_flow.testing import advance, run_until_idle

from .shared import HOUR, SOON, TransientError

pytestmark = pytest.mark.django_db


@pytest.mark.once
@pytest.mark.parametrize("kind", ["sleep", "wait", "retry"])
def test_p2_except_exception_does_not_swallow_a_suspension(calls: list[str], kind: str) -> None:
    """`except Exception` around a sleep, a wait or a step lets the run suspend; what is held is let go of."""

    def work() -> str:
        if "tried" not in calls:
            calls.append("tried")
            raise TransientError
        return "done"

    @workflow("steps.p2")
    def flow(ctx: Context) -> str:
        try:
            if kind == "sleep":
                ctx.sleep("nap", 60)
            elif kind == "wait":
                ctx.wait_for("nap", "news", timeout=60, default=None)
            else:
                ctx.step("nap", work, retry=SOON)
        except Exception:  # noqa: BLE001 - the point of the test
            calls.append("swallowed")
        finally:
            calls.append("finally")
        return "over"

    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state in {"sleeping", "waiting", "retrying"}
    advance(HOUR)
    assert flow.result(run_id) == "over"
    assert "swallowed" not in calls
    assert calls.count("finally") == 2


@pytest.mark.once
@pytest.mark.parametrize("asynchronous", [False, True])
def test_p2_a_bare_except_does_not_keep_the_run_from_suspending(calls: list[str], asynchronous: bool) -> None:
    """Swallowed, a suspension is raised again by every further context call, and the return value is ignored."""

    @workflow("steps.p2-bare")
    def plain(ctx: Context) -> str:
        try:
            ctx.sleep("nap", 60)
        except:  # noqa: E722 - the point of the test
            calls.append("swallowed")
        for call in (
            lambda: ctx.step("more", calls.append, "called"),
            lambda: ctx.sleep("more", 1),
            lambda: ctx.wait_for("more", "news"),
            ctx.now,
            lambda: ctx.random,
            lambda: ctx.uuid("more"),
            lambda: ctx.set_attributes(a=1),
            lambda: ctx.progress(1),
        ):
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - the point of the test
                calls.append(type(error).__name__)
        return "too early"

    @workflow("steps.p2-bare-async")
    async def awaited(ctx: AsyncContext) -> str:
        try:
            await ctx.sleep("nap", 60)
        except:  # noqa: E722 - the point of the test
            calls.append("swallowed")
        try:
            await ctx.step("more", calls.append, "called")
        except BaseException as error:  # noqa: BLE001 - the point of the test
            calls.extend([type(error).__name__] * 8)
        return "too early"

    flow: Any = awaited if asynchronous else plain
    run_id = flow.start()
    run_until_idle()
    status = flow.status(run_id)
    assert (status.state, status.result, status.attributes) == ("sleeping", None, {})
    assert calls[0] == "swallowed"
    assert len(calls) == 9
    assert len(set(calls[1:])) == 1
    assert calls[1] != "called"


@pytest.mark.once
def test_p2_raising_something_else_out_of_a_suspension_fails_nothing() -> None:
    """A `finally` or `except` that raises its own error while the run suspends does not end the run."""
    first = [True]

    @workflow("steps.p2-raise")
    def flow(ctx: Context) -> str:
        try:
            ctx.sleep("nap", 60)
        finally:
            if first:
                first.clear()
                raise ValueError("from the finally")
        return "over"

    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "sleeping"
    advance(60)
    assert flow.result(run_id) == "over"


def test_p8_the_work_of_steps_is_linear_in_their_number() -> None:
    """Twice as many steps ask twice as much of the database, and call twice as many Python functions."""

    @workflow("steps.p8")
    def flow(ctx: Context, number: int) -> int:
        return sum(ctx.step("one", lambda: 1) for _ in range(number))

    def cost(number: int) -> tuple[int, int]:
        run_id = flow.start(number)
        counted = [0]

        def count(_frame: Any, event: str, _argument: Any) -> None:
            if event == "call":
                counted[0] += 1

        with CaptureQueriesContext(connection) as queries:
            sys.setprofile(count)
            try:
                run_until_idle()
            finally:
                sys.setprofile(None)
        assert flow.result(run_id) == number
        return len(queries), counted[0]

    cost(10)  # What is made once and kept is made here.
    few, more, most = (cost(number) for number in (50, 100, 200))
    # Nearly: on a slow machine one of them asks once more how its run stands before it begins.
    for kind in (0, 1):
        growth = (most[kind] - more[kind]) / (more[kind] - few[kind])
        assert growth == pytest.approx(2, rel=0.05)


def test_p8_two_thousand_steps_are_read_at_once_and_replayed_without_a_question() -> None:
    """A run of 2,000 steps completes; resumed, it loads its records with one SELECT, and asks nothing per step."""

    @workflow("steps.p8-replay")
    def flow(ctx: Context, number: int) -> int:
        total = sum(ctx.step("one", lambda: 1) for _ in range(number))
        ctx.sleep("nap", 60)
        return total

    def resumed(number: int) -> tuple[int, int]:
        run_id = flow.start(number)
        run_until_idle()
        with CaptureQueriesContext(connection) as queries:
            advance(60)
        assert flow.result(run_id) == number
        reads = [query["sql"] for query in queries if "canx_flow_steprecord" in query["sql"]]
        return len(queries), len([sql for sql in reads if sql.startswith("SELECT")])

    assert resumed(2000) == resumed(2)
