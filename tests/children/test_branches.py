"""Children of branches: gathered, raced, and called anew where a branch goes on that had lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from freezegun import freeze_time

from canx_flow import Retry, RunFailed, get_run
from canx_flow.models import Event, Timer
from canx_flow.testing import advance, run_until_idle

from ..kinds import each_kind
from . import shared
from .shared import HOUR, children, declared, lost, record

pytestmark = [pytest.mark.django_db, each_kind]

Kinds = Callable[..., Any]


def calling(name: str, workflow: Any, *arguments: Any) -> Callable[..., Any]:
    """A branch that calls a child."""

    async def branch(ctx: Any) -> Any:
        return await ctx.call(name, workflow, *arguments)

    return branch


def test_gathered_calls_go_on_side_by_side(kind: Kinds) -> None:
    """All children are there at once; each branch has its own child's result."""

    async def body(ctx: Any) -> Any:
        return await ctx.gather(
            quick=calling("pack", shared.pack, "tea"),
            slow=calling("nap", shared.sleep, "cups"),
            slower=calling("news", shared.wait),
        )

    parent = declared(kind, body)
    run_id = parent.start()
    run_until_idle()
    assert [child.state for child in children(run_id)] == ["completed", "sleeping", "waiting"]
    assert [(wait.step, wait.kind) for wait in parent.status(run_id).waits] == [
        ("slow/nap", "call"), ("slower/news", "call"),
    ]  # fmt: skip
    advance(HOUR)
    shared.wait.send(children(run_id)[2].id, "news", "rain")
    run_until_idle()
    assert parent.result(run_id, 0) == {"quick": "tea", "slow": "cups", "slower": "rain"}
    assert not Timer.objects.exists()


def test_the_children_of_a_races_losers_are_cancelled(kind: Kinds) -> None:
    """The winner's is not; one that was spawned goes on, for nobody but its caller knows what it is for."""

    async def spawning(ctx: Any) -> Any:
        await ctx.spawn("beside", shared.sleep)
        return await ctx.call("nap", shared.sleep)

    async def body(ctx: Any) -> Any:
        return await ctx.race(news=calling("news", shared.wait), nap=spawning)

    parent = declared(kind, body)
    run_id = parent.start()
    run_until_idle()
    by_step = {str(wait.step): wait.child_id for wait in parent.status(run_id).waits}
    shared.wait.send(by_step["news/news"], "news", "first")
    run_until_idle()
    assert parent.result(run_id, 0) == ("news", "first")
    assert get_run(by_step["nap/nap"]).state == "cancelled"
    assert sorted(child.state for child in children(run_id)) == ["cancelled", "completed", "sleeping"]


def test_a_retried_gather_calls_anew_what_it_had_given_up(kind: Kinds) -> None:
    """One call fails, so that the others' children are cancelled; the retry has all of them again."""

    async def body(ctx: Any) -> Any:
        return await ctx.gather(looks=calling("look", shared.fail, "tea"), waits=calling("news", shared.wait))

    lost.add("tea")
    parent = declared(kind, body)
    run_id = parent.start()
    run_until_idle()
    assert parent.status(run_id).reason == RunFailed.__name__
    assert sorted(child.state for child in children(run_id)) == ["cancelled", "failed"]
    lost.clear()
    parent.retry(run_id)
    run_until_idle()
    assert sorted(child.state for child in children(run_id)) == ["cancelled", "completed", "waiting"]
    [waiting] = parent.status(run_id).waits
    shared.wait.send(waiting.child_id, "news", "at last")
    run_until_idle()
    assert parent.result(run_id, 0) == {"looks": None, "waits": "at last"}
    assert record(run_id, "waits/news").state == "completed"
    assert not Event.objects.filter(consumed_at=None, run_id=waiting.child_id).exists()


def test_a_call_that_a_retry_has_made_due_loses_with_its_child(kind: Kinds) -> None:
    """The gather fails again before the branch has come to it: the child that goes on is cancelled, as any loser's."""

    def fail() -> None:
        raise ValueError

    async def child_body(ctx: Any) -> None:
        await ctx.sleep("first", 3)
        await ctx.step("look", look, retry=Retry(max_attempts=1))
        await ctx.sleep("long", HOUR)

    def look() -> None:
        if "tea" in lost:
            raise shared.Lost

    called = declared(kind, child_body)

    async def bad(ctx: Any) -> None:
        await ctx.step("bad", fail, retry=Retry(max_attempts=2, initial=10, jitter=0))

    async def body(ctx: Any) -> None:
        await ctx.gather(a=bad, b=calling("c", called))

    lost.add("tea")
    parent = declared(kind, body)
    run_id = parent.start()
    advance(5)
    assert get_run(run_id).state == "failed"
    lost.clear()
    parent.retry(run_id)
    advance(30)
    [only] = children(run_id)
    assert (get_run(run_id).state, only.state, record(run_id, "b/c").state) == ("failed", "cancelled", "closed")
    assert not Timer.objects.exists()


def test_a_wait_that_is_due_with_the_winner_is_closed(kind: Kinds) -> None:
    """Both timers have fired before either branch goes on."""

    async def winner(ctx: Any) -> None:
        await ctx.sleep("s", 5)

    async def loser(ctx: Any) -> Any:
        return await ctx.wait_for("w", "never", timeout=5, default="late")

    async def body(ctx: Any) -> Any:
        return (await ctx.race(winner=winner, loser=loser))[0]

    parent = declared(kind, body)
    with freeze_time("2026-03-01 12:00"):
        run_id = parent.start()
        advance(5)
    assert parent.result(run_id, 0) == "winner"
    assert record(run_id, "loser/w").state == "closed"
