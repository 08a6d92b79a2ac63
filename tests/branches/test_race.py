"""`ctx.race`: the first branch to end decides, the same on every replay; the others start nothing more."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from freezegun import freeze_time

from canx_flow import GiveUp, Retry, StepFailed
from canx_flow.core import clock
from canx_flow.models import Event, StepRecord, Timer
from canx_flow.store import timers
from canx_flow.testing import advance, run_until_idle

from ..steps.shared import START, Crash, crash
from .either import declared

pytestmark = pytest.mark.django_db

ONCE = Retry(max_attempts=1)


def _fail() -> None:
    raise ValueError("no")


async def _napped(ctx: Any) -> str:
    await ctx.sleep("nap", 10)
    return "napped"


def test_c071_the_first_to_end_wins_on_every_replay(kind: str, calls: list[Any]) -> None:
    """Though the other would have ended since; what that waited for is closed."""

    async def body(ctx: Any) -> Any:
        won = await ctx.race(slow=lambda c: c.sleep("nap", 60), quick=_napped)
        calls.append(won)
        await ctx.sleep("after", 3600)
        return won

    flow = declared(kind, body)
    run_id = flow.start()
    advance(10)
    assert list(Timer.objects.values_list("step", flat=True)) == ["after"]
    assert StepRecord.objects.get(name="slow/nap").state == "closed"
    advance(3600)
    assert flow.result(run_id) == ("quick", "napped")
    assert calls == [("quick", "napped")] * 2


@pytest.mark.parametrize("verb", ["race", "gather"])
def test_a_sleep_that_is_over_before_the_run_hears_of_it_decides_nothing(
    kind: str, verb: str, calls: list[Any]
) -> None:
    """Its timer is fired while the step is called that ends first, or fails: that decides, and the sleep is closed."""

    def work() -> str:
        calls.append("work")
        if len(calls) == 1:
            raise ValueError("not yet")
        clock.shift(timedelta(seconds=60))
        assert timers.fire("default").acted == 1
        if verb == "gather":
            raise GiveUp("never")
        return "worked"

    async def body(ctx: Any) -> Any:
        retry = Retry(initial=5, jitter=0)
        branches: Any = {"nap": _napped, "step": lambda c: c.step("work", work, retry=retry)}
        try:
            return await getattr(ctx, verb)(**branches)
        except StepFailed as failed:
            return failed.step

    flow = declared(kind, body)
    run_id = flow.start()
    advance(5)
    assert flow.result(run_id) == (("step", "worked") if verb == "race" else "step/work")
    assert StepRecord.objects.get(name="nap/nap").state == "closed"


@pytest.mark.parametrize(("due", "winner"), [(5, "step"), (60, "nap")])
def test_c071_of_a_step_and_a_sleep(kind: str, due: int, winner: str, calls: list[Any]) -> None:
    """C071: a step that succeeds at its second attempt, before or after a sleep is over; the same on each replay."""

    def work() -> str:
        calls.append("work")
        return "worked" if len(calls) > 1 else _fail() or ""

    async def body(ctx: Any) -> Any:
        retry = Retry(initial=due, jitter=0)
        won = await ctx.race(step=lambda c: c.step("work", work, retry=retry), nap=lambda c: c.sleep("nap", 30))
        for number in range(3):
            await ctx.sleep(f"after {number}", 60)
        return won

    flow = declared(kind, body)
    run_id = flow.start()
    advance(300)
    assert flow.result(run_id) == (("step", "worked") if winner == "step" else ("nap", None))
    assert calls == ["work"] * (2 if winner == "step" else 1)


def test_the_winner_is_recorded_before_anything_follows(kind: str, calls: list[str]) -> None:
    """A crash in the step after it changes nothing."""

    def die() -> None:
        calls.append("die")
        if len(calls) == 1:
            raise Crash

    async def body(ctx: Any) -> Any:
        won, _ = await ctx.race(asked=lambda c: c.wait_for("read", "news"), quick=lambda c: c.step("one", lambda: 1))
        await ctx.step("die", die)
        return won

    flow = declared(kind, body)
    run_id = flow.start()
    crash()
    flow.send(run_id, "news")  # Too late.
    run_until_idle()
    assert flow.result(run_id) == "quick"
    assert Event.objects.get().consumed_at is None


def test_a_wait_that_has_lost_consumes_nothing(kind: str) -> None:
    """The event is left to the next wait for it."""

    async def body(ctx: Any) -> Any:
        won, _ = await ctx.race(asked=lambda c: c.wait_for("read", "news"), quick=_napped)
        return [won, await ctx.wait_for("read", "news")]

    flow = declared(kind, body)
    run_id = flow.start()
    advance(10)
    flow.send(run_id, "news", "late")
    run_until_idle()
    assert flow.result(run_id) == ["quick", "late"]
    assert Event.objects.get().consumed_by == "read"


def test_an_event_decides_against_a_timer(kind: str) -> None:
    """An approval races a timeout."""

    async def body(ctx: Any) -> Any:
        return await ctx.race(approved=lambda c: c.wait_for("read", "approval"), late=_napped)

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "sleeping"
    flow.send(run_id, "approval", {"by": "ann"})
    run_until_idle()
    assert flow.result(run_id) == ("approved", {"by": "ann"})
    assert not Timer.objects.exists()


def test_a_failure_may_be_the_first_to_end(kind: str) -> None:
    """It is raised, and replays."""

    async def body(ctx: Any) -> str:
        try:
            await ctx.race(fails=lambda c: c.step("fail", _fail, retry=ONCE), naps=_napped)
        except StepFailed as failure:
            await ctx.sleep("nap", 60)
            return failure.step
        return ""

    flow = declared(kind, body)
    run_id = flow.start()
    advance(60)
    assert flow.result(run_id) == "fails/fail"


def test_retry_of_a_run_that_a_race_has_failed_keeps_the_winner(kind: str, calls: list[int]) -> None:
    """Its failed step is tried again; what has lost has lost."""

    def work() -> str:
        calls.append(1)
        if len(calls) == 1:
            _fail()
        return "worked"

    async def body(ctx: Any) -> Any:
        return await ctx.race(works=lambda c: c.step("work", work, retry=ONCE), naps=_napped)

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "failed"
    flow.retry(run_id)
    run_until_idle()
    assert flow.result(run_id) == ("works", "worked")


def test_c074_a_race_may_stand_in_a_gather_in_a_race(kind: str, calls: list[str]) -> None:
    """Keys and replay are right at any depth, and what an outer race has decided closes all below."""

    def race(name: str, nap: int) -> Any:
        async def quick(ctx: Any) -> str:
            await ctx.sleep("nap", nap)
            await ctx.step("work", calls.append, name)
            return name

        return lambda c: c.race(quick=quick, never=lambda d: d.wait_for("read", "never"))

    async def body(ctx: Any) -> Any:
        won = await ctx.race(
            fast=lambda c: c.gather(a=race("a", 10), b=race("b", 20)),
            slow=lambda c: c.gather(x=race("x", 15), y=race("y", 60)),
        )
        await ctx.sleep("after", 60)
        return won

    flow = declared(kind, body)
    run_id = flow.start()
    advance(25)
    assert calls == ["a", "x", "b"]
    assert list(Timer.objects.values_list("step", flat=True)) == ["after"]
    advance(60)
    assert flow.result(run_id) == ("fast", {"a": ("quick", "a"), "b": ("quick", "b")})
    assert calls == ["a", "x", "b"]
    assert set(StepRecord.objects.filter(state="closed").values_list("name", flat=True)) == {
        "fast/a/never/read", "fast/b/never/read", "slow/x/never/read", "slow/y/never/read", "slow/y/quick/nap",
    }  # fmt: skip


def test_a_race_without_branches_is_refused(kind: str) -> None:
    """Nobody could ever win it."""

    async def body(ctx: Any) -> None:
        await ctx.race()

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    assert (flow.status(run_id).state, flow.status(run_id).reason) == ("failed", "ValueError")


def test_a_winner_that_todays_code_does_not_have_parks_the_run(kind: str) -> None:
    """It goes on when the branch is back."""

    async def before(ctx: Any) -> Any:
        won = await ctx.race(quick=lambda c: c.step("one", lambda: 1), slow=_napped)
        await ctx.sleep("nap", 60)
        return won

    async def after(ctx: Any) -> Any:
        return await ctx.race(slow=_napped)

    run_id = declared(kind, before).start()
    run_until_idle()
    flow = declared(kind, after)
    advance(60)
    assert flow.status(run_id).state == "parked"
    assert "'quick'" in flow.status(run_id).reason


@pytest.mark.parametrize("verb", ["race", "gather"])
def test_branches_that_have_changed_places_are_named(kind: str, verb: str) -> None:
    """Two of one scope have swapped: the message says which branch is missed in which of them, and what to do."""

    async def decides(ctx: Any) -> None:
        if verb == "gather":
            raise LookupError

    async def one(ctx: Any) -> None:
        with suppress(LookupError):
            await getattr(ctx, verb)(one=decides, naps=_napped)

    async def two(ctx: Any) -> None:
        with suppress(LookupError):
            await getattr(ctx, verb)(two=decides, naps=_napped)

    def body(*parts: Any) -> Any:
        async def outer(ctx: Any) -> None:
            for part in parts:
                await part(ctx)
            await ctx.sleep("nap", 60)

        async def function(ctx: Any) -> None:
            await ctx.gather(outer=outer)

        return function

    run_id = declared(kind, body(one, two)).start()
    run_until_idle()
    flow = declared(kind, body(two, one))
    advance(60)
    status = flow.status(run_id)
    assert (status.state, status.error["type"]) == ("parked", "canx_flow.exceptions.HistoryMismatch")
    did = {"race": "won", "gather": "failed"}[verb]
    assert status.error["message"] == (
        f"run {run_id} has a {verb} recorded under 'outer/#{verb}', which branch 'outer/one' has {did}, but its code "
        f"now has no such branch there. {verb.capitalize()}s are told apart by the order of their calls: keep it, or "
        f"deploy the old code again."
    )
    flow = declared(kind, body(one, two))
    run_until_idle()
    assert flow.status(run_id).state == "completed"


@pytest.mark.parametrize("verb", ["race", "gather"])
def test_a_step_that_is_due_when_its_branch_loses_is_closed(kind: str, verb: str, calls: list[str]) -> None:
    """Its next attempt was due with what has decided: it is never called, and nothing says that it is to be."""

    def fails() -> None:
        calls.append("tried")
        raise ValueError

    async def tries(ctx: Any) -> None:
        await ctx.step("work", fails, retry=Retry(initial=60, factor=1, jitter=0))

    async def decides(ctx: Any) -> None:
        await ctx.sleep("nap", 30)
        if verb == "gather":
            raise LookupError

    async def body(ctx: Any) -> None:
        with suppress(LookupError):
            await getattr(ctx, verb)(tries=tries, decides=decides)
        await ctx.sleep("after", 60)

    flow = declared(kind, body)
    with freeze_time(START) as clock:
        run_id = flow.start()
        run_until_idle()
        clock.tick(90)
        run_until_idle()
        assert flow.status(run_id).step == "after"
        assert StepRecord.objects.get(name="tries/work").state == "closed"
        assert not Timer.objects.exclude(step="after").exists()
        clock.tick(60)
        run_until_idle()
        assert flow.status(run_id).state == "completed"
    assert calls == ["tried"]


def test_what_a_crash_has_left_of_a_loser_is_closed(kind: str, calls: list[str]) -> None:
    """It was in its second attempt as the race was decided, and died in it: the next activation calls it no more."""

    def fails() -> None:
        calls.append("tried")
        raise ValueError

    async def tries(ctx: Any) -> None:
        await ctx.step("work", fails, retry=Retry(initial=60, factor=1, jitter=0))

    async def body(ctx: Any) -> Any:
        won = await ctx.race(tries=tries, nap=lambda c: c.sleep("nap", 30))
        await ctx.sleep("after", 60)
        return won

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    advance(30)
    # As the record of a step stands that is called again.
    assert StepRecord.objects.filter(name="tries/work").update(state="due") == 1
    advance(60)
    assert flow.result(run_id) == ("nap", None)
    assert StepRecord.objects.get(name="tries/work").state == "closed"
    assert calls == ["tried"]
