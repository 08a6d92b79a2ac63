"""What a context tells of its run."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from freezegun import freeze_time

from canx_flow import AsyncContext, Context, get_run, workflow
from canx_flow.models import StepRecord
from canx_flow.testing import advance, run_until_idle

from .shared import HOUR, START

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("asynchronous", [False, True])
def test_now_uuid_and_random_are_the_same_on_every_replay(asynchronous: bool) -> None:
    """Asked again on replay, they answer as they did; asked twice, they go on."""
    seen: list[Any] = []

    def look(ctx: Any) -> None:
        uuids = [ctx.uuid("order"), ctx.uuid("order"), ctx.uuid("other")]
        seen.append([ctx.now(), ctx.now(), *uuids, ctx.random.random(), ctx.random.randint(1, 10**9)])

    @workflow("steps.stable")
    def plain(ctx: Context) -> None:
        look(ctx)
        ctx.step("work", lambda: None)
        ctx.sleep("nap", HOUR)
        ctx.sleep("nap", HOUR)
        seen.append(ctx.now())

    @workflow("steps.stable-async")
    async def awaited(ctx: AsyncContext) -> None:
        look(ctx)
        await ctx.step("work", lambda: None)
        await ctx.sleep("nap", HOUR)
        await ctx.sleep("nap", HOUR)
        seen.append(ctx.now())

    flow: Any = awaited if asynchronous else plain
    with freeze_time(START):
        flow.start()
        advance(3 * HOUR)
    first, second, third, late = seen
    assert first == second == third
    assert first[0] == first[1] == START
    assert late == START + 2 * HOUR
    assert len(set(first[2:])) == 5
    assert all(isinstance(value, UUID) for value in first[2:5])


@pytest.mark.once
def test_two_runs_draw_different_uuids_and_numbers() -> None:
    """What is stable within a run differs between runs."""

    @workflow("steps.different")
    def flow(ctx: Context) -> Any:
        return ctx.uuid("order"), ctx.random.random()

    ids = flow.start(), flow.start()
    run_until_idle()
    one, two = (flow.result(run_id) for run_id in ids)
    assert one[0] != two[0]
    assert one[1] != two[1]


def test_now_uuid_and_random_cost_no_commit() -> None:
    """A body that asks for them a hundred times writes no more often than one that does not."""

    @workflow("steps.costs")
    def flow(ctx: Context, times: int) -> None:
        for _ in range(times):
            ctx.now()
            ctx.uuid("x")
            ctx.random.random()
        ctx.step("work", lambda: None)

    def statements(times: int) -> int:
        flow.start(times)
        with CaptureQueriesContext(connection) as queries:
            run_until_idle()
        return len([query for query in queries if "INSERT" in query["sql"] or "UPDATE" in query["sql"]])

    assert statements(100) == statements(1)


@pytest.mark.once
def test_c137_the_log_is_silent_on_replay(caplog: pytest.LogCaptureFixture) -> None:
    """A line logged through `ctx.log` appears once per run, however often the body is replayed."""

    @workflow("steps.c137")
    def flow(ctx: Context) -> None:
        ctx.log.info("begun %s", 1, extra={"more": "here"})
        ctx.step("first", lambda: None)
        ctx.log.warning("first done")
        ctx.sleep("nap", 60)
        ctx.log.info("awake")
        ctx.step("second", lambda: None)
        ctx.sleep("nap", 60)
        ctx.log.info("over")

    with caplog.at_level(logging.INFO, logger="canx_flow.workflow.steps.c137"):
        run_id = flow.start()
        advance(60)
        run_until_idle()
        advance(60)
    assert flow.status(run_id).state == "completed"
    lines = [record for record in caplog.records if record.name == "canx_flow.workflow.steps.c137"]
    assert [line.getMessage() for line in lines] == ["begun 1", "first done", "awake", "over"]
    assert {(line.run_id, line.workflow) for line in lines} == {(str(run_id), "steps.c137")}  # type: ignore[attr-defined]
    assert lines[0].more == "here"  # type: ignore[attr-defined]


@pytest.mark.once
def test_is_replaying_is_true_until_the_first_new_operation() -> None:
    """True while what comes next is expected on record, False from where the run goes on."""
    seen: list[list[bool]] = []

    @workflow("steps.replaying")
    def flow(ctx: Context) -> None:
        mine = [ctx.is_replaying]
        seen.append(mine)
        ctx.step("first", lambda: None)
        mine.append(ctx.is_replaying)
        ctx.sleep("nap", 60)
        mine.append(ctx.is_replaying)
        ctx.step("second", lambda: None)
        mine.append(ctx.is_replaying)

    flow.start()
    advance(60)
    assert seen == [[False, False], [True, True, False, False]]


@pytest.mark.once
def test_a_context_knows_its_run() -> None:
    """`run_id` and `workflow` say which run this is."""

    @workflow("steps.knows")
    def flow(ctx: Context) -> Any:
        return ctx.run_id, ctx.workflow

    run_id = flow.start()
    run_until_idle()
    assert flow.result(run_id) == (run_id, "steps.knows")


def test_attributes_are_what_the_body_has_set_so_far() -> None:
    """Attributes are written with the next commit, added to those of the start, and held back while replaying."""
    seen: list[Any] = []

    @workflow("steps.attributes")
    def flow(ctx: Context) -> None:
        def note() -> None:
            seen.append(get_run(ctx.run_id).attributes)

        ctx.set_attributes(phase="one", items=[1, {"a": None}])
        ctx.step("first", note)
        ctx.set_attributes(phase="two")
        ctx.sleep("nap", 60)
        ctx.step("second", note)
        ctx.set_attributes(phase="three")

    run_id = flow.using(attributes={"customer": 7}).start()
    run_until_idle()
    assert flow.status(run_id).attributes == {"customer": 7, "phase": "two", "items": [1, {"a": None}]}
    advance(60)
    common = {"customer": 7, "items": [1, {"a": None}]}
    assert seen == [{**common, "phase": "one"}, {**common, "phase": "two"}]
    assert flow.status(run_id).attributes == {**common, "phase": "three"}
    assert [run.id for run in flow.runs.with_attributes(phase="three", customer=7)] == [run_id]


@pytest.mark.once
def test_attributes_are_as_they_were_when_they_were_set() -> None:
    """A list that is changed after it was published is published anew by setting it again, and only then."""

    @workflow("steps.attributes-list")
    def flow(ctx: Context) -> None:
        done: list[str] = []
        for name in ("a", "b", "c"):
            ctx.step(name, lambda: None)
            done.append(name)
            if name != "c":
                ctx.set_attributes(done=done)
        ctx.sleep("nap", 60)

    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).attributes == {"done": ["a", "b"]}
    advance(60)
    assert flow.status(run_id).attributes == {"done": ["a", "b"]}


def test_attributes_of_a_run_that_fails_are_kept() -> None:
    """What was set before the failure is there to be found by it."""

    @workflow("steps.attributes-failed")
    def flow(ctx: Context) -> None:
        ctx.set_attributes(phase="doomed")
        raise ValueError("no")

    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).attributes == {"phase": "doomed"}


@pytest.mark.once
def test_attributes_do_not_wait_for_a_step_that_was_removed() -> None:
    """Code that no longer makes a step which is on record still publishes what it sets until its end."""
    with_step = [True]

    @workflow("steps.attributes-removed")
    def flow(ctx: Context) -> None:
        ctx.step("first", lambda: None)
        if with_step:
            ctx.step("removed", lambda: None)
        ctx.sleep("nap", 60)
        ctx.set_attributes(phase="over")

    run_id = flow.start()
    run_until_idle()
    with_step.clear()
    advance(60)
    status = flow.status(run_id)
    assert (status.state, status.attributes) == ("completed", {"phase": "over"})


def test_progress_is_shown_while_the_run_goes_on() -> None:
    """`status().progress` is what the body said last, with what is left out filled in."""
    seen: list[Any] = []

    @workflow("steps.progress")
    def flow(ctx: Context) -> None:
        ctx.progress(1, 10, "unpacking")
        ctx.step("first", lambda: seen.append(get_run(ctx.run_id).progress))
        ctx.progress(2.5)
        ctx.sleep("nap", 60)

    run_id = flow.start()
    assert flow.status(run_id).progress is None
    run_until_idle()
    assert seen == [{"done": 1, "total": 10, "message": "unpacking"}]
    assert flow.status(run_id).progress == {"done": 2.5, "total": None, "message": ""}


def test_progress_is_no_checkpoint_and_throttled() -> None:
    """However often a body reports, it makes no record, and hardly a write more."""

    @workflow("steps.progress-throttled")
    def flow(ctx: Context, reports: bool) -> None:
        for number in range(50):
            if reports:
                ctx.progress(number, 50)
            ctx.step("work", lambda: None)

    def updates(reports: bool) -> int:
        run_id = flow.start(reports)
        with CaptureQueriesContext(connection) as queries:
            run_until_idle()
        assert StepRecord.objects.filter(run_id=run_id).count() == 50
        return len([query for query in queries if query["sql"].startswith("UPDATE")])

    with freeze_time(START):
        assert updates(reports=True) <= updates(reports=False) + 3
