"""Children of branches: gathered, raced, and called anew where a branch goes on that had lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from freezegun import freeze_time

from canx_flow import Retry, RunFailed, get_run
from canx_flow.core.claimed import ClaimedRun
from canx_flow.models import Event, Timer
from canx_flow.replay.connection_store import ConnectionStore
from canx_flow.testing import advance, run_until_idle

from ..kinds import each_kind
from ..steps.shared import START
from . import shared
from .shared import HOUR, child, children, declared, lost, record

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


def test_a_childs_end_decides_when_it_came(kind: Kinds) -> None:
    """Its parent was paused then, and the timer that it races was due before anything was looked at, too."""

    async def body(ctx: Any) -> Any:
        return await ctx.race(nap=napping, news=calling("news", shared.wait))

    async def napping(ctx: Any) -> None:
        await ctx.sleep("nap", 60)

    parent = declared(kind, body)
    with freeze_time(START) as clock:
        run_id = parent.start()
        run_until_idle()
        parent.pause(run_id)
        clock.tick(30)
        shared.wait.send(child(run_id).id, "news", "first")
        run_until_idle()
        clock.tick(60)
        parent.resume(run_id)
        run_until_idle()
        assert parent.result(run_id, 0) == ("news", "first")


def test_a_race_of_children_asks_once_how_they_have_ended(kind: Kinds, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, and though most have not ended."""

    async def body(ctx: Any) -> Any:
        return await ctx.race(**{f"n{n}": calling("news", shared.wait) for n in range(5)})

    parent = declared(kind, body)
    run_id = parent.start()
    run_until_idle()
    asked: list[int] = []
    find = ConnectionStore.find_ends

    def noted(store: ConnectionStore, run: ClaimedRun, events: Sequence[str]) -> Any:
        asked.append(len(events))
        return find(store, run, events)

    monkeypatch.setattr(ConnectionStore, "find_ends", noted)
    shared.wait.send(children(run_id)[3].id, "news", "rain")
    run_until_idle()
    assert parent.result(run_id, 0) == ("n3", "rain")
    assert asked == [5]


@pytest.mark.parametrize("how", ["cancelled", "completed meanwhile", "failed meanwhile", "after an undo"])
def test_nothing_grows_by_the_ends_of_children_that_were_given_up(kind: Kinds, how: str) -> None:
    """No message of it is left with the parent, which would never read it."""
    undone: list[str] = []

    async def nap(ctx: Any) -> str:
        if how == "after an undo":
            await ctx.step("book", str, "booked", compensate=undone.append)
        await ctx.sleep("nap", 60)
        if how == "failed meanwhile":
            raise shared.Lost
        return "slept"

    called = declared(kind, nap)

    async def body(ctx: Any) -> Any:
        won = await ctx.race(short=napping, calls=calling("nap", called))
        await ctx.sleep("after", HOUR)
        return won

    async def napping(ctx: Any) -> None:
        await ctx.sleep("nap", 30)

    parent = declared(kind, body)
    with freeze_time(START) as clock:
        run_id = parent.start()
        run_until_idle()
        # Both are claimed at one moment: the child is about to end when its parent goes on without it.
        clock.tick(100 if "meanwhile" in how else 30)
        run_until_idle()
        assert parent.status(run_id).step == "after"
        [only] = children(run_id)
        assert only.state == ("cancelled" if how == "after an undo" else how.partition(" ")[0])
        assert undone == (["booked"] if how == "after an undo" else [])
        assert not Event.objects.filter(run_id=run_id, consumed_at=None).exists()
        clock.tick(HOUR)
        run_until_idle()
        assert parent.status(run_id).state == "completed"
    assert not Timer.objects.exists()
