"""Results of steps and workflows, and those that cannot be stored."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from canx_flow import AsyncContext, Context, NotSerializable, PayloadTooLarge, StepFailed, workflow
from canx_flow.models import StepRecord, Timer, WorkflowRun
from canx_flow.testing import advance, run_until_idle

from .shared import HOUR, ONCE

pytestmark = pytest.mark.django_db


def _deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(5000):
        value = [value]
    return value


@pytest.mark.once
@pytest.mark.parametrize("options", [{}, {"atomic": True}, {"at_most_once": True}])
@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (object, "NotSerializable"),
        (lambda: float("nan"), "NotSerializable"),
        (lambda: {"rows": [{1: 2}]}, "NotSerializable"),
        (lambda: (number for number in range(3)), "NotSerializable"),
        (_deep, "NotSerializable"),
        (lambda: "x" * 1_000_001, "PayloadTooLarge"),
    ],
)
def test_c027_p4_a_result_that_cannot_be_stored_fails_the_step_once(
    calls: list[int], result: Callable[[], Any], kind: str, options: dict[str, Any]
) -> None:
    """The function was called once, the step fails without a retry, the run fails with it, and nothing loops."""

    def work() -> Any:
        calls.append(1)
        return result()

    @workflow("steps.c027")
    def flow(ctx: Context) -> None:
        ctx.step("before", lambda: "kept")
        ctx.step("work", work, **options)

    run_id = flow.start()
    assert run_until_idle() == 1
    status = flow.status(run_id)
    assert (status.state, status.reason) == ("failed", "StepFailed")
    assert f"{kind}: the result of step 'work'" in status.error["message"]  # type: ignore[index]
    advance(HOUR)
    assert calls == [1]
    assert flow.runs.get(id=run_id).records.get(name="work").attempts == 1


@pytest.mark.once
def test_c027_the_message_names_the_step_and_the_path() -> None:
    """Whoever reads the failure sees which step it was, where in its result, and what to return instead."""

    @workflow("steps.c027-path")
    def flow(ctx: Context) -> None:
        ctx.step("load", lambda: {"runs": [1, WorkflowRun.objects.all()]})

    run_id = flow.start()
    run_until_idle()
    message = flow.status(run_id).error["message"]  # type: ignore[index]
    assert "the result of step 'load' cannot be stored: at ['runs'][1]: " in message
    assert "return the primary keys" in message


@pytest.mark.once
def test_c027_such_a_failure_can_be_caught() -> None:
    """It is a StepFailed like any other: caught, the run goes on, and the catch replays."""

    @workflow("steps.c027-caught")
    def flow(ctx: Context) -> Any:
        try:
            ctx.step("work", object)
        except StepFailed as error:
            caught = error.is_a(NotSerializable), error.is_a(PayloadTooLarge)
        ctx.sleep("nap", 60)
        return caught

    run_id = flow.start()
    advance(60)
    assert flow.result(run_id) == (True, False)


class _UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text either")

    def __reduce__(self) -> Any:
        raise TypeError("nor a pickle")


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    "error",
    [
        _UnprintableError(threading.Lock()),
        ValueError("NUL \x00 and half a pair \ud800"),
        ValueError("🐍" * 100_000),
        ExceptionGroup("several", [ValueError("one"), _UnprintableError()]),
        ValueError(object(), threading.Lock()),
    ],
    ids=["unprintable", "nul", "huge", "group", "arguments"],
)
@pytest.mark.parametrize("in_body", [False, True])
def test_c028_every_exception_is_stored(error: Exception, in_body: bool) -> None:
    """Whatever an exception is and does when it is looked at, the failure is stored, shown and replayed."""

    @workflow("steps.c028")
    def flow(ctx: Context) -> None:
        if in_body:
            raise error
        ctx.step("fail", _raise, error, retry=ONCE)

    run_id = flow.start()
    run_until_idle()
    status = flow.status(run_id)
    assert status.state == "failed"
    assert type(error).__name__ in str(status.error["message" if not in_body else "type"])  # type: ignore[index]


@pytest.mark.once
@pytest.mark.parametrize("asynchronous", [False, True])
def test_c030_a_step_in_a_step_is_refused(calls: list[str], asynchronous: bool) -> None:
    """A step function that uses the context fails with WrongContext, without a retry: there are never two records."""

    @workflow("steps.c030")
    def plain(ctx: Context) -> None:
        ctx.step("outer", lambda: ctx.step("inner", calls.append, "inner"))

    @workflow("steps.c030-async")
    async def awaited(ctx: AsyncContext) -> None:
        async def outer() -> None:
            await ctx.step("inner", calls.append, "inner")

        await ctx.step("outer", outer)

    flow: Any = awaited if asynchronous else plain
    run_id = flow.start()
    run_until_idle()
    status = flow.status(run_id)
    assert status.state == "failed"
    assert "WrongContext" in status.error["message"]  # type: ignore[index]
    assert "inside a step function" in status.error["message"]  # type: ignore[index]
    assert calls == []
    assert list(flow.runs.get().records.values_list("name", "state", "attempts")) == [("outer", "failed", 1)]


@pytest.mark.once
@pytest.mark.parametrize(
    ("value", "reason"), [(object, "NotSerializable"), (lambda: "x" * 1_000_001, "PayloadTooLarge")]
)
def test_a_return_value_that_cannot_be_stored_fails_the_run(value: Callable[[], Any], reason: str) -> None:
    """The run fails with that error, its steps kept; it is not replayed for it."""

    @workflow("steps.return")
    def flow(ctx: Context) -> Any:
        ctx.step("work", lambda: "kept")
        return value()

    run_id = flow.start()
    assert run_until_idle() == 1
    status = flow.status(run_id)
    assert (status.state, status.reason) == ("failed", reason)
    assert f"the return value of run {run_id}" in status.error["message"]  # type: ignore[index]
    assert StepRecord.objects.get(run_id=run_id).state == "completed"
    assert not Timer.objects.exists()


@pytest.fixture(autouse=True)
def _no_profile_left() -> Iterator[None]:
    """A test that counts calls leaves no profile function behind."""
    before = sys.getprofile()
    yield
    sys.setprofile(before)
