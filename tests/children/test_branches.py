"""Children of branches: gathered, raced, and called anew where a branch goes on that had lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from canx_flow import RunFailed, get_run
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
