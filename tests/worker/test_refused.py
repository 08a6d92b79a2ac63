"""A change that is refused refuses what its run hands in after it: why, each branch knows, whichever learns first."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from canx_flow import AsyncContext, workflow
from canx_flow.core.changes import Change, Outcome
from canx_flow.models import WorkflowRun
from canx_flow.replay.driver import Driver
from canx_flow.worker.writer import Writer

from ..kinds import Body, each_kind
from .conftest import Activate

pytestmark = [
    pytest.mark.django_db(transaction=True),
    # Threads of a worker leave connections to the garbage collector, as their process does when it ends.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def _refuse(monkeypatch: pytest.MonkeyPatch, name: str, outcome: Outcome) -> None:
    """Have the first change that has this record refused."""
    write, left = Writer._write_alone, [outcome]

    def written(writer: Writer, change: Change) -> Outcome:
        if left and any(record.name == name for record in change.inserts):
            return left.pop()
        return write(writer, change)

    monkeypatch.setattr(Writer, "_write_alone", written)
    monkeypatch.setattr(Writer, "write", Writer._one_by_one)


@each_kind
def test_what_another_branch_stores_after_a_refused_change_loses_no_run(
    activate: Activate, monkeypatch: pytest.MonkeyPatch, kind: Callable[[Body], Any]
) -> None:
    """The change was not stored because the run is to be read anew: then that is done, by whichever branch."""
    learnt, learn = threading.Event(), Driver._learn

    def noted(driver: Driver, change: Change, outcome: Outcome) -> Outcome:
        try:
            return learn(driver, change, outcome)
        finally:
            if not outcome.stored:
                learnt.set()

    monkeypatch.setattr(Driver, "_learn", noted)
    _refuse(monkeypatch, "a/refused", Outcome(False, "running", awake=True))

    async def body(ctx: Any) -> Any:
        async def later(own: Any) -> Any:
            return await own.step("later", learnt.wait, 10)

        async def refused(own: Any) -> Any:
            return await own.step("refused", str, 1)

        return await ctx.gather(a=refused, b=later)

    flow = workflow("worker.any")(kind(body))
    assert activate(flow) == "completed"
    assert WorkflowRun.objects.get().result == '{"a":"1","b":true}'


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
