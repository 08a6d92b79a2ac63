"""`ctx.patched` beside branches: what of a run's history counts as later than the call."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from canx_flow import Retry, get_run
from canx_flow.models import StepRecord
from canx_flow.testing import advance, run_until_idle

from .either import declared

pytestmark = pytest.mark.django_db


async def _naps(ctx: Any) -> str:
    """A branch with a sleep between two steps."""
    await ctx.step("before", str)
    await ctx.sleep("nap", 60)
    await ctx.step("after", str)
    return "rested"


def _again(run_id: Any, flow: Any) -> None:
    """Have a suspended run replay with today's code."""
    flow.pause(run_id)
    flow.resume(run_id)
    run_until_idle()


def test_c128_branches_under_way_are_past_a_call_in_front_of_them(kind: str) -> None:
    """Their records are the run's: it is told False in front of the gather, and True behind it."""
    answers: list[tuple[bool, bool]] = []

    async def before(ctx: Any) -> None:
        await ctx.gather(left=_naps, right=_naps)

    async def after(ctx: Any) -> None:
        front = ctx.patched("front")
        await ctx.gather(left=_naps, right=_naps)
        answers.append((front, ctx.patched("behind")))
        await ctx.sleep("more", 60)

    run_id = declared(kind, before).start()
    run_until_idle()
    flow = declared(kind, after)
    _again(run_id, flow)
    advance(60)
    _again(run_id, flow)
    advance(60)
    assert get_run(run_id).state == "completed"
    assert answers == [(False, True)] * 3


def test_c128_in_a_branch_its_own_records_decide(kind: str) -> None:
    """One branch is past its point, its sibling is not."""

    async def waits(ctx: Any) -> Any:
        await ctx.step("first", str)
        return await ctx.wait_for("go", "go")

    async def late(ctx: Any) -> Any:
        await ctx.sleep("nap", 60)
        return None

    async def before(ctx: Any) -> Any:
        return await ctx.gather(left=waits, right=late)

    async def asking(ctx: Any) -> bool:
        answer: bool = ctx.patched("x")
        await waits(ctx)
        return answer

    async def then_asking(ctx: Any) -> bool:
        await late(ctx)
        answer: bool = ctx.patched("x")
        await ctx.step("then", str)
        return answer

    async def after(ctx: Any) -> Any:
        return await ctx.gather(left=asking, right=then_asking)

    run_id = declared(kind, before).start()
    run_until_idle()
    flow = declared(kind, after)
    _again(run_id, flow)
    advance(60)
    flow.send(run_id, "go")
    run_until_idle()
    assert get_run(run_id).result == {"left": False, "right": True}


@pytest.mark.parametrize("late", [False, True])
def test_c128_what_losers_have_stored_late_is_not_later(kind: str, late: bool) -> None:
    """Behind a race that is decided only the run's own records count, whichever was stored last."""
    answers: list[tuple[bool, bool]] = []

    async def slow(ctx: Any) -> None:
        await ctx.step("one", str)
        if late:
            await ctx.step("two", str)

    async def before(ctx: Any) -> None:
        await ctx.race(quick=lambda c: c.step("work", str), slow=slow)
        await ctx.step("own", str)
        await ctx.sleep("nap", 60)

    async def after(ctx: Any) -> None:
        await ctx.race(quick=lambda c: c.step("work", str), slow=slow)
        first = ctx.patched("first")
        await ctx.step("own", str)
        await ctx.sleep("nap", 60)
        answers.append((first, ctx.patched("then")))
        await ctx.sleep("more", 60)

    run_id = declared(kind, before).start()
    run_until_idle()
    _store_last(run_id, "slow/one")
    flow = declared(kind, after)
    _again(run_id, flow)
    advance(60)
    _store_last(run_id, "slow/one")
    _again(run_id, flow)
    advance(60)
    assert get_run(run_id).state == "completed"
    assert answers == [(False, True)] * 3


def test_c128_behind_a_map_that_goes_on_is_new(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its items are no later records, whichever was stored last: what follows is new, and is logged."""
    tries: list[int] = []

    def double(number: int) -> int:
        tries.append(number)
        if tries.count(number) == 1 and number == 1:
            raise ConnectionError("away")
        return 2 * number

    async def body(ctx: Any) -> Any:
        numbers = await ctx.map("double", double, range(3), retry=Retry(initial=60, jitter=0))
        ctx.log.info("doubled")
        return numbers, ctx.patched("behind")

    run_id = declared(kind, body).start()
    with caplog.at_level(logging.INFO, "canx_flow.workflow.branches.any"):
        run_until_idle()
        assert get_run(run_id).state == "retrying"
        advance(60)
    assert get_run(run_id).result == ([0, 2, 4], True)
    assert [record.message for record in caplog.records if record.name.endswith("branches.any")] == ["doubled"]


def _store_last(run_id: Any, name: str) -> None:
    """Have a record of a loser be the last that was stored, as one of a step that was in flight may be."""
    last = StepRecord.objects.filter(run_id=run_id).order_by("-seq").values_list("seq", flat=True)[0]
    StepRecord.objects.update_or_create(
        run_id=run_id, name=name,
        defaults={
            "seq": last + 1, "kind": "step", "state": "completed", "attempts": 1, "result": '""',
            "started_at": get_run(run_id).created_at,
        },
    )  # fmt: skip
