"""Runs with branches that are forked from a step of one, and that continue as new."""

from __future__ import annotations

from typing import Any

import pytest

from canx_flow import Retry, RunFailed
from canx_flow.models import StepRecord, Timer, WorkflowRun
from canx_flow.testing import advance, run_until_idle

from .either import declared

pytestmark = pytest.mark.django_db


def _noted(calls: list[Any], name: str) -> Any:
    def note(*what: Any) -> str:
        calls.append((name, *what))
        return "-".join(map(str, (name, *what)))

    return note


def test_c091_from_a_step_of_a_branch(kind: str, calls: list[Any]) -> None:
    """What the other branch had stored before it is not done again, nor is what its own branch had."""

    async def side(ctx: Any, name: str) -> list[str]:
        first = await ctx.step("first", _noted(calls, name), 1)
        await ctx.sleep("nap", 10 if name == "left" else 5)
        return [first, await ctx.step("second", _noted(calls, name), 2)]

    async def body(ctx: Any) -> Any:
        both = await ctx.gather(left=lambda c: side(c, "left"), right=lambda c: side(c, "right"))
        return [both, await ctx.step("last", _noted(calls, "last"))]

    flow = declared(kind, body)
    run_id = flow.start()
    advance(10)
    result = flow.result(run_id)
    assert calls[2:] == [("right", 2), ("left", 2), ("last",)]

    for step, again in (("left/second", ["left"]), ("right/second", ["left", "right"])):
        calls.clear()
        fork_id = flow.fork(run_id, step)
        advance(10)
        assert calls.pop() == ("last",)
        assert sorted(name for name, *_ in calls) == again
        assert flow.result(fork_id) == result


def test_c091_from_an_item_of_a_map(kind: str, calls: list[Any]) -> None:
    """The items that were stored before it are not called again."""

    async def body(ctx: Any) -> Any:
        items = await ctx.step("list", lambda: [1, 2, 3, 4])
        done = await ctx.map("item", _noted(calls, "item"), items, concurrency=1)
        return [*done, await ctx.step("last", _noted(calls, "last"))]

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    calls.clear()
    fork_id = flow.fork(run_id, "item[2]")
    run_until_idle()
    assert calls == [("item", 3), ("item", 4), ("last",)]
    assert flow.result(fork_id) == flow.result(run_id)


def test_c091_while_a_branch_still_waits(kind: str, calls: list[Any]) -> None:
    """The wait is not copied, but begun anew: nothing is stuck, and the run itself waits on."""

    async def left(ctx: Any) -> str:
        await ctx.step("one", _noted(calls, "one"))
        return str(await ctx.step("two", _noted(calls, "two")))

    async def body(ctx: Any) -> Any:
        return await ctx.gather(
            asked=lambda c: c.wait_for("read", "news"), napped=lambda c: c.sleep("nap", 60), left=left
        )

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    fork_id = flow.fork(run_id, "left/two")
    run_until_idle()
    assert calls == [("one",), ("two",), ("two",)]
    assert sorted(Timer.objects.filter(run_id=fork_id).values_list("step", flat=True)) == ["asked/read", "napped/nap"]
    assert flow.send(fork_id, "news", "there")
    advance(60)
    assert flow.result(fork_id) == {"asked": "there", "napped": None, "left": "two"}
    assert flow.status(run_id).state == "waiting"


def test_a_race_that_was_decided_is_decided_in_the_fork(kind: str, calls: list[Any]) -> None:
    """The same branch has won, whatever the other would do by now."""

    async def slow(ctx: Any) -> str:
        await ctx.sleep("nap", 60)
        return str(await ctx.step("late", _noted(calls, "late")))

    async def body(ctx: Any) -> Any:
        won = await ctx.race(slow=slow, quick=lambda c: c.step("quick", _noted(calls, "quick")))
        await ctx.step("after", _noted(calls, "after"))
        return won

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    fork_id = flow.fork(run_id, "after")
    advance(120)
    assert flow.result(fork_id) == flow.result(run_id) == ("quick", "quick")
    assert [name for name, *_ in calls] == ["quick", "after", "after"]
    assert not Timer.objects.filter(run_id=fork_id).exists()


def test_c134_a_run_continues_as_new_after_its_branches(kind: str, calls: list[Any]) -> None:
    """Their records go, and those of losers with their waits; the next generation's branches begin anew."""

    async def body(ctx: Any, number: int = 0) -> Any:
        both = await ctx.gather(
            left=lambda c: c.step("do", _noted(calls, "left"), number), right=lambda c: c.sleep("nap", 10)
        )
        won, _ = await ctx.race(asked=lambda c: c.wait_for("read", "never"), napped=lambda c: c.sleep("nap", 10))
        done = await ctx.map("item", _noted(calls, "item"), [number, number])
        if number < 2:
            ctx.continue_as_new(number + 1)
        return [both["left"], won, done]

    flow = declared(kind, body)
    run_id = flow.start()
    advance(60)
    assert flow.result(run_id) == ["left-2", "napped", ["item-2", "item-2"]]
    assert [what for what in calls if what[0] == "left"] == [("left", 0), ("left", 1), ("left", 2)]
    assert WorkflowRun.objects.get(id=run_id).generation == 2
    names = list(StepRecord.objects.values_list("name", flat=True))
    assert len(names) == len(set(names)) <= 9
    assert not Timer.objects.exists()


@pytest.mark.parametrize("verb", ["gather", "race"])
def test_it_is_refused_inside_a_branch(kind: str, verb: str) -> None:
    """Of a gather or a race, of which the others would be lost: WrongContext, which fails the branch."""

    async def again(ctx: Any) -> None:
        await ctx.step("one", lambda: 1)
        ctx.continue_as_new()

    async def body(ctx: Any) -> Any:
        return await getattr(ctx, verb)(again=again, other=lambda c: c.sleep("nap", 60))

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    with pytest.raises(RunFailed, match=r"WrongContext.*inside a branch"):
        flow.result(run_id)
    assert WorkflowRun.objects.get(id=run_id).generation == 0


def test_the_context_of_the_run_is_refused_while_its_branches_run(kind: str) -> None:
    """A branch that uses the outer context to continue as new is refused, too."""

    async def body(ctx: Any) -> Any:
        async def again(_ctx: Any) -> None:
            ctx.continue_as_new()

        return await ctx.gather(again=again)

    flow = declared(kind, body, retry=Retry(max_attempts=1))
    run_id = flow.start()
    run_until_idle()
    with pytest.raises(RunFailed, match="WrongContext"):
        flow.result(run_id)
