"""`ctx.gather`: branches side by side, each with its own keys; what one waits for holds no other."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from freezegun import freeze_time

from canx_flow import Retry, StepFailed, WrongContext
from canx_flow.models import Event, StepRecord, Timer, WorkflowRun
from canx_flow.testing import advance, run_until_idle

from ..models import Effect
from ..steps.shared import Crash, crash
from .either import declared

pytestmark = pytest.mark.django_db

ONCE = Retry(max_attempts=1)
SOON = Retry(initial=1, factor=1, jitter=0)


def _names(**states: str) -> list[str]:
    return list(StepRecord.objects.filter(**states).order_by("seq").values_list("name", flat=True))


def _fail(message: str = "no") -> None:
    raise ValueError(message)


async def _nothing(_ctx: Any) -> None: ...


def test_c063_each_branch_returns_its_result_by_name(kind: str) -> None:
    """In the order given, whichever ends first; a branch that returns at once needs no step."""

    async def slow(ctx: Any) -> str:
        await ctx.sleep("nap", 60)
        return await ctx.step("work", lambda: "slow")  # type: ignore[no-any-return]

    async def body(ctx: Any) -> Any:
        results = await ctx.gather(left=slow, right=lambda c: c.step("work", lambda: ("fast", 1)), none=_nothing)
        return [results, list(results), await ctx.gather()]

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "sleeping"
    advance(60)
    assert flow.result(run_id) == [
        {"left": "slow", "right": ("fast", 1), "none": None}, ["left", "right", "none"], {},
    ]  # fmt: skip


def test_keys_are_those_of_the_branch(kind: str) -> None:
    """Prefixed by the branch's name, which is counted as a name in its scope; never by which branch ran first."""

    async def twice(ctx: Any) -> None:
        await ctx.step("reserve", lambda: 1)
        await ctx.step("reserve", lambda: 2)

    async def nested(ctx: Any) -> None:
        await ctx.gather(deep=twice)

    async def body(ctx: Any) -> None:
        await ctx.step("left", lambda: 0)
        await ctx.gather(left=twice, right=nested)
        await ctx.gather(left=twice)

    flow = declared(kind, body)
    flow.start()
    run_until_idle()
    assert _names(kind="step") == [
        "left", "left#2/reserve", "left#2/reserve#2", "right/deep/reserve", "right/deep/reserve#2",
        "left#3/reserve", "left#3/reserve#2",
    ]  # fmt: skip


def test_c062_only_the_branch_that_had_not_finished_runs_again(kind: str, calls: list[str]) -> None:
    """The other's steps are on record; no step is called twice."""

    async def left(ctx: Any) -> str:
        await ctx.step("a", calls.append, "left a")
        return "left"

    async def right(ctx: Any) -> str:
        await ctx.step("a", calls.append, "right a")
        await ctx.sleep("nap", 60)
        await ctx.step("b", calls.append, "right b")
        return "right"

    async def body(ctx: Any) -> Any:
        return await ctx.gather(left=left, right=right)

    flow = declared(kind, body)
    run_id = flow.start()
    advance(60)
    assert flow.result(run_id) == {"left": "left", "right": "right"}
    assert sorted(calls) == ["left a", "right a", "right b"]


def test_a_crash_in_one_branch_costs_the_other_nothing(kind: str, calls: list[str]) -> None:
    """What was stored before it stays; the step that was cut off is called again."""

    def die() -> str:
        calls.append("die")
        if calls.count("die") == 1:
            raise Crash
        return "alive"

    async def body(ctx: Any) -> Any:
        return await ctx.gather(left=lambda c: c.step("a", calls.append, "a"), right=lambda c: c.step("die", die))

    flow = declared(kind, body)
    run_id = flow.start()
    crash()
    run_until_idle()
    assert flow.result(run_id) == {"left": None, "right": "alive"}
    assert calls == ["a", "die", "die"]


def test_c073_the_run_waits_for_all_that_its_branches_wait_for(kind: str) -> None:
    """It is suspended once every branch is blocked, on all of these waits, and holds nothing."""

    async def body(ctx: Any) -> Any:
        return await ctx.gather(
            nap=lambda c: c.sleep("nap", 3600),
            news=lambda c: c.wait_for("read", "news"),
            again=lambda c: c.step("fail", _fail, retry=Retry(max_attempts=2, initial=60, jitter=0)),
        )

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    status = flow.status(run_id)
    assert (status.state, status.step) == ("retrying", "again/fail")
    assert {wait.step for wait in status.waits} == {"nap/nap", "news/read", "again/fail"}
    assert WorkflowRun.objects.get().owner_id is None


def test_a_branch_goes_on_while_the_others_wait(kind: str, calls: list[str]) -> None:
    """Each by its own timer, in one activation for each group of wake-ups."""

    def waits(seconds: int) -> Any:
        async def branch(ctx: Any) -> None:
            await ctx.sleep("nap", seconds)
            await ctx.step("wake", calls.append, seconds)

        return branch

    async def body(ctx: Any) -> None:
        await ctx.gather(a=waits(30), b=waits(10), c=waits(30), d=waits(20))

    flow = declared(kind, body)
    with freeze_time("2026-03-01 12:00:00"):
        run_id = flow.start()
        run_until_idle()
        assert [advance(10) for _ in range(3)] == [1, 1, 1]
    assert calls == [10, 20, 30, 30]
    assert flow.status(run_id).state == "completed"


def test_two_waits_for_one_event_are_served_in_the_order_opened(kind: str) -> None:
    """No event is read twice; the wait that was opened first reads the first."""

    async def body(ctx: Any) -> Any:
        def reads(name: str) -> Any:
            return lambda c: c.wait_for(name, "news")

        return await ctx.gather(second=reads("b"), first=reads("a"))

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    flow.send(run_id, "news", 1)
    run_until_idle()
    assert flow.status(run_id).state == "waiting"
    flow.send(run_id, "news", 2)
    run_until_idle()
    assert flow.result(run_id) == {"second": 1, "first": 2}
    assert list(Event.objects.order_by("id").values_list("consumed_by", flat=True)) == ["second/b", "first/a"]


# -- failures --------------------------------------------------------------------------------------


async def _fails(ctx: Any) -> None:
    await ctx.step("fail", _fail, retry=ONCE)


def test_the_first_failure_is_raised_and_the_others_start_nothing_more(kind: str, calls: list[str]) -> None:
    """What they waited for is closed, with the record of the decision; uncaught, it fails the run."""

    async def waits(ctx: Any) -> None:
        await ctx.step("first", calls.append, "first")
        await ctx.sleep("nap", 60)
        await ctx.step("never", calls.append, "never")

    async def body(ctx: Any) -> None:
        await ctx.gather(waits=waits, asks=lambda c: c.wait_for("read", "news"), fails=_fails)

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    status = flow.status(run_id)
    assert (status.state, status.reason) == ("failed", "StepFailed")
    assert calls == ["first"]
    assert not Timer.objects.exists()
    assert set(_names(state="closed")) == {"waits/nap", "asks/read"}
    advance(3600)
    assert calls == ["first"]


def test_a_failure_that_was_caught_replays(kind: str, calls: list[str]) -> None:
    """The same one is raised on each replay, though others would fail, too, by now."""

    async def late(ctx: Any) -> None:
        await ctx.sleep("nap", 10)
        await _fails(ctx)

    async def body(ctx: Any) -> Any:
        try:
            await ctx.gather(late=late, fails=_fails)
        except StepFailed as failure:
            calls.append(failure.step)
        await ctx.sleep("after", 60)
        return "caught"

    flow = declared(kind, body)
    run_id = flow.start()
    advance(100)
    assert flow.result(run_id) == "caught"
    assert calls == ["fails/fail", "fails/fail"]


def test_an_exception_of_a_branch_itself_is_raised(kind: str) -> None:
    """Not only a step's: what leaves a branch leaves the gather."""

    async def breaks(ctx: Any) -> None:
        await ctx.step("fine", lambda: 1)
        raise LookupError("no such thing")

    async def body(ctx: Any) -> str:
        try:
            await ctx.gather(fine=_nothing, breaks=breaks)
        except LookupError as error:
            await ctx.sleep("nap", 1)
            return str(error)
        return ""

    flow = declared(kind, body)
    run_id = flow.start()
    advance(1)
    assert flow.result(run_id) == "no such thing"


def test_an_outage_in_a_branch_hands_the_run_back(kind: str, calls: list[str]) -> None:
    """A database that is away is no failure of the branch: nothing is decided by it."""

    async def reads(ctx: Any) -> str:
        calls.append("reads")
        if len(calls) == 1:
            raise OperationalError("the connection is closed")
        return "read"

    async def body(ctx: Any) -> Any:
        return await ctx.gather(reads=reads, works=lambda c: c.step("work", lambda: 1))

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "retrying"
    advance(10)
    assert flow.result(run_id) == {"reads": "read", "works": 1}
    assert _names(state="failed") == []


def test_retry_of_the_run_tries_the_failed_step_and_lets_the_others_go_on(kind: str, calls: list[str]) -> None:
    """What the failure had decided is not decided any more; what it had closed is opened again."""

    def work() -> str:
        calls.append("work")
        return _fail() or "" if calls.count("work") == 1 else "worked"

    async def waits(ctx: Any) -> str:
        await ctx.step("before", calls.append, "before")
        await ctx.sleep("nap", 60)
        return await ctx.wait_for("read", "news", timeout=60, default="none")  # type: ignore[no-any-return]

    async def deep(ctx: Any) -> Any:
        return await ctx.gather(works=lambda c: c.step("work", work, retry=ONCE))

    async def body(ctx: Any) -> Any:
        return await ctx.gather(waits=waits, deep=deep)

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "failed"
    flow.retry(run_id)
    run_until_idle()
    assert flow.status(run_id).state == "sleeping"
    advance(200)
    assert flow.result(run_id) == {"deep": {"works": "worked"}, "waits": "none"}


def test_a_failed_branch_that_todays_code_does_not_fail_parks_the_run(kind: str) -> None:
    """Its siblings were closed for a failure that is none any more; nothing is guessed."""

    async def before(ctx: Any) -> None:
        try:
            await ctx.gather(fails=_fails, fine=lambda c: c.sleep("nap", 10))
        except StepFailed:
            await ctx.sleep("nap", 60)

    async def cares(ctx: Any) -> None:
        with suppress(StepFailed):
            await _fails(ctx)

    async def after(ctx: Any) -> None:
        await ctx.gather(fails=cares, fine=lambda c: c.sleep("nap", 10))

    run_id = declared(kind, before).start()
    run_until_idle()
    flow = declared(kind, after)
    advance(60)
    status = flow.status(run_id)
    assert status.state == "parked"
    assert "HistoryMismatch" in status.reason
    assert "'fails'" in status.reason


# -- retries ---------------------------------------------------------------------------------------


def test_a_retry_is_a_wait_of_its_branch_alone(kind: str, calls: list[str]) -> None:
    """The others go on meanwhile, each attempt is counted once."""

    def flaky() -> str:
        calls.append("flaky")
        return _fail() or "" if calls.count("flaky") < 3 else "worked"

    async def steady(ctx: Any) -> str:
        for _ in range(3):
            await ctx.step("beat", calls.append, "beat")
            await ctx.sleep("nap", 0.4)
        return "steady"

    async def body(ctx: Any) -> Any:
        return await ctx.gather(flaky=lambda c: c.step("work", flaky, retry=SOON), steady=steady)

    flow = declared(kind, body)
    run_id = flow.start()
    advance(5)
    assert flow.result(run_id) == {"flaky": "worked", "steady": "steady"}
    assert calls == ["flaky", "beat", "beat", "beat", "flaky", "flaky"]
    assert StepRecord.objects.get(name="flaky/work").attempts == 3


def test_records_that_have_ended_stand_in_the_order_of_their_ends(kind: str) -> None:
    """A step that was tried again, or a wait, gets its number when it ends, not when it began."""
    calls: list[int] = []

    def flaky() -> None:
        calls.append(1)
        if len(calls) == 1:
            _fail()

    async def body(ctx: Any) -> None:
        await ctx.gather(
            read=lambda c: c.wait_for("news", "news"),
            flaky=lambda c: c.step("work", flaky, retry=SOON),
            quick=lambda c: c.step("work", lambda: 1),
        )

    flow = declared(kind, body)
    run_id = flow.start()
    advance(2)
    flow.send(run_id, "news")
    run_until_idle()
    assert _names() == ["quick/work", "flaky/work", "read/news", "#gather"]


# -- contexts --------------------------------------------------------------------------------------


def test_the_context_of_the_body_is_not_for_its_branches(kind: str) -> None:
    """Used while its own gather runs it raises WrongContext, whatever else is stored."""

    async def body(ctx: Any) -> str:
        async def wrong(_own: Any) -> None:
            await ctx.step("wrong", lambda: 1)

        try:
            await ctx.gather(fine=lambda c: c.step("fine", lambda: 1), wrong=wrong)
        except WrongContext:
            return str(await ctx.step("after", lambda: "refused"))
        return ""

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    assert flow.result(run_id) == "refused"
    assert _names(kind="step") == ["fine/fine", "after"]


def test_the_context_of_a_branch_is_not_for_the_body(kind: str) -> None:
    """It has ended with its branch."""
    kept: list[Any] = []

    async def body(ctx: Any) -> str:
        async def keeps(own: Any) -> None:
            kept.append(own)
            await own.step("fine", lambda: 1)

        await ctx.gather(keeps=keeps)
        try:
            await kept[-1].step("late", lambda: 1)
        except WrongContext:
            return "refused"
        return ""

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).result == "refused"


def test_a_branch_logs_once_and_has_random_numbers_of_its_own(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """`is_replaying`, `log`, `random`, `now` and `uuid` are the branch's, and the same on every replay."""
    seen: list[Any] = []

    def branch(name: str, nap: int) -> Any:
        async def function(ctx: Any) -> None:
            ctx.log.info("%s begins", name)
            seen.append((name, ctx.random.random(), ctx.uuid("id"), ctx.now()))
            await ctx.sleep("nap", nap)
            ctx.log.info("%s woke", name)
            await ctx.step("work", lambda: 1)
            ctx.log.info("%s worked", name)

        return function

    async def body(ctx: Any) -> None:
        await ctx.gather(a=branch("a", 10), b=branch("b", 20))
        ctx.log.info("both")
        await ctx.sleep("end", 10)
        ctx.log.info("end")

    flow = declared(kind, body)
    with caplog.at_level(logging.INFO, logger="canx_flow.workflow"):
        flow.start()
        for _ in range(4):
            advance(10)
    assert [record.message for record in caplog.records] == [
        "a begins", "b begins", "a woke", "a worked", "b woke", "b worked", "both", "end",
    ]  # fmt: skip
    assert len(set(seen)) == 2
    assert len({number for _name, number, _id, _now in seen}) == 2


@pytest.mark.parametrize("verb", ["gather", "race"])
@pytest.mark.parametrize(
    ("branches", "error"),
    [
        ({"left": 3}, TypeError), ({"left/right": _nothing}, ValueError), ({"": _nothing}, ValueError),
        ({"#x": _nothing}, ValueError),
    ],
)  # fmt: skip
@pytest.mark.once
def test_what_is_no_branch_is_refused(kind: str, verb: str, branches: Any, error: type[Exception]) -> None:
    """Names as steps have them, and functions: refused at the call, before anything begins."""

    async def body(ctx: Any) -> str:
        try:
            await getattr(ctx, verb)(fine=lambda c: c.step("never", lambda: 1), **branches)
        except error:
            return "refused"
        return ""

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    assert (flow.result(run_id), _names()) == ("refused", [])


def test_a_thousand_branches(kind: str) -> None:
    """Each sleeps and works: they are blocked together, and woken together."""

    async def branch(ctx: Any) -> int:
        await ctx.sleep("nap", 1)
        return await ctx.step("one", lambda: 1)  # type: ignore[no-any-return]

    async def body(ctx: Any) -> int:
        return sum((await ctx.gather(**{f"b{n}": branch for n in range(1000)})).values())

    flow = declared(kind, body)
    with freeze_time("2026-03-01 12:00:00"):
        run_id = flow.start()
        assert run_until_idle() + advance(timedelta(seconds=2)) <= 4
    assert flow.result(run_id) == 1000


# -- other kinds of steps ----------------------------------------------------------------------------


def test_steps_of_every_kind_stand_side_by_side(kind: str) -> None:
    """Atomic ones, such as are called at most once, with a timeout, async ones; their numbers are all different."""

    async def later() -> str:
        return "later"

    def row(name: str) -> int:
        return int(Effect.objects.create(name=name, value="").pk)

    async def body(ctx: Any) -> Any:
        results = await ctx.gather(
            row=lambda c: c.step("write", row, "a", atomic=True),
            other=lambda c: c.step("write", row, "b", atomic=True),
            once=lambda c: c.step("once", lambda: "once", at_most_once=True),
            timed=lambda c: c.step("timed", lambda: "timed", timeout=30),
            later=lambda c: c.step("later", later),
        )
        return [results[name] for name in ("once", "timed", "later")]

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    assert flow.result(run_id) == ["once", "timed", "later"]
    assert set(Effect.objects.values_list("name", flat=True)) == {"a", "b"}
    numbers = list(StepRecord.objects.values_list("seq", flat=True))
    assert len(numbers) == len(set(numbers)) == 6


def test_an_atomic_step_that_fails_leaves_its_branch_alone(kind: str) -> None:
    """Its writes are rolled back, its sibling's are kept."""

    def broken() -> None:
        Effect.objects.create(name="broken", value="")
        raise ValueError

    async def body(ctx: Any) -> None:
        async def fails(own: Any) -> None:
            with suppress(StepFailed):
                await own.step("write", broken, atomic=True, retry=ONCE)

        await ctx.gather(fails=fails, fine=lambda c: c.step("write", _effect, atomic=True))

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "completed"
    assert list(Effect.objects.values_list("name", flat=True)) == ["fine"]


def _effect() -> None:
    Effect.objects.create(name="fine", value="")
