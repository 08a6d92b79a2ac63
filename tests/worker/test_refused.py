"""A change that is refused refuses what its run hands in after it: why, each branch knows, whichever learns first."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from canx_flow import AsyncContext, Retry, workflow
from canx_flow.core.changes import Change, Outcome
from canx_flow.models import StepRecord, WorkflowRun
from canx_flow.replay.driver import Driver
from canx_flow.worker.writer import Writer

from ..kinds import Body, each_kind
from ..workflows import two_steps
from .conftest import Activate

pytestmark = [
    pytest.mark.django_db(transaction=True),
    # Threads of a worker leave connections to the garbage collector, as their process does when it ends.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def _refuse(
    monkeypatch: pytest.MonkeyPatch, name: str, outcome: Outcome, meanwhile: Callable[[], object] = lambda: None
) -> None:
    """Have the first change that has this record refused; `meanwhile` is called before that is told."""
    write, left = Writer._write_alone, [outcome]

    def written(writer: Writer, change: Change) -> Outcome:
        if left and any(record.name == name for record in change.inserts):
            meanwhile()
            return left.pop()
        return write(writer, change)

    monkeypatch.setattr(Writer, "_write_alone", written)
    monkeypatch.setattr(Writer, "write", Writer._one_by_one)


@pytest.fixture
def learnt(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once a branch has learnt that its change was refused."""
    learnt, learn = threading.Event(), Driver._learn

    def noted(driver: Driver, change: Change, outcome: Outcome) -> Outcome:
        try:
            return learn(driver, change, outcome)
        finally:
            if not outcome.stored:
                learnt.set()

    monkeypatch.setattr(Driver, "_learn", noted)
    return learnt


@each_kind
@pytest.mark.parametrize("at_most_once", [False, True], ids=["", "at most once"])
def test_a_step_in_flight_is_stored_though_another_branchs_change_is_refused(
    activate: Activate,
    monkeypatch: pytest.MonkeyPatch,
    learnt: threading.Event,
    kind: Callable[[Body], Any],
    at_most_once: bool,
) -> None:
    """The run is to be read anew: then that is done, by whichever branch, and the step is not called again."""
    _refuse(monkeypatch, "a/refused", Outcome(False, "running", awake=True))
    in_flight, calls = threading.Event(), []

    def late() -> bool:
        calls.append("late")
        in_flight.set()
        return learnt.wait(10)

    async def body(ctx: Any) -> Any:
        async def later(own: Any) -> Any:
            return await own.step("later", late, at_most_once=at_most_once)

        async def refused(own: Any) -> Any:
            return await own.step("refused", in_flight.wait, 10)

        return await ctx.gather(a=refused, b=later)

    flow = workflow("worker.any")(kind(body))
    assert activate(flow) == "completed"
    assert WorkflowRun.objects.get().result == '{"a":true,"b":true}'
    assert calls == ["late"]


@each_kind
def test_an_attempt_that_has_failed_by_then_is_stored_too(
    activate: Activate, monkeypatch: pytest.MonkeyPatch, kind: Callable[[Body], Any]
) -> None:
    """Its branch was left before that was learnt, to wait for its next attempt: it waits for that still."""
    written, left, adopt = threading.Event(), threading.Event(), Driver.adopt
    calls: list[str] = []

    def noted(driver: Driver, below: Driver) -> None:
        adopt(driver, below)
        if below.branch.scope.prefix == "b/":
            left.set()

    def fail() -> None:
        calls.append("fail")
        written.wait(10)
        raise ValueError

    async def body(ctx: Any) -> Any:
        async def fails(own: Any) -> Any:
            await own.step("step", fail, retry=Retry(initial=60, jitter=0))

        await ctx.gather(a=lambda own: own.sleep("refused", 60), b=fails)

    monkeypatch.setattr(Driver, "adopt", noted)
    _refuse(monkeypatch, "a/refused", Outcome(False, "running", awake=True), lambda: (written.set(), left.wait(10)))
    flow = workflow("worker.any")(kind(body))
    activate(flow)
    assert left.is_set()
    assert calls == ["fail"]
    assert set(StepRecord.objects.values_list("name", "state", "attempts")) == {
        ("a/refused", "open", 0), ("b/step", "open", 1),
    }  # fmt: skip


@each_kind
def test_a_step_in_flight_is_undone_though_a_child_comes_too_late(
    activate: Activate, learnt: threading.Event, kind: Callable[[Body], Any]
) -> None:
    """The run is cancelled as another branch calls a child: that never starts, and what was charged is paid back."""
    in_flight, paid_back = threading.Event(), []

    def charge() -> str:
        in_flight.set()
        return "paid" if learnt.wait(10) else "not learnt"

    def cancel() -> bool:
        return in_flight.wait(10) and flow.cancel(WorkflowRun.objects.get().id)

    async def body(ctx: Any) -> Any:
        async def charged(own: Any) -> Any:
            return await own.step("charge", charge, compensate=paid_back.append)

        async def shipped(own: Any) -> Any:
            await own.step("pick", cancel)
            return await own.call("ship", two_steps, "label")

        await ctx.gather(charged=charged, shipped=shipped)

    flow = workflow("worker.any")(kind(body))
    assert activate(flow) == "cancelled"
    assert paid_back == ["paid"]
    assert WorkflowRun.objects.count() == 1
    assert set(StepRecord.objects.values_list("name", "state")) == {
        ("charged/charge", "completed"), ("charged/charge[undo]", "completed"), ("shipped/pick", "completed"),
    }  # fmt: skip


def test_a_branch_that_hears_first_of_anothers_refused_change_says_why(
    activate: Activate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run fails by the error of that change, though what came after it is learnt of first."""
    _refuse(monkeypatch, "first/step", Outcome(False, error=ValueError("no column holds this")))
    first_stored, second_adopted, adopt = asyncio.Event(), asyncio.Event(), Driver.adopt

    def noted(driver: Driver, below: Driver) -> None:
        adopt(driver, below)
        second_adopted.set()

    monkeypatch.setattr(Driver, "adopt", noted)

    @workflow("worker.any")
    async def flow(ctx: AsyncContext) -> None:
        async def first(own: AsyncContext) -> None:
            await own.step("step", str, 1)
            first_stored.set()
            await second_adopted.wait()
            await own.sleep("nap", 60)

        async def second(own: AsyncContext) -> None:
            await first_stored.wait()
            await own.step("step", str, 1)
            await own.sleep("nap", 60)

        await ctx.gather(first=first, second=second)

    assert activate(flow) == "failed"
    assert "no column holds this" in (WorkflowRun.objects.get().error or "")
