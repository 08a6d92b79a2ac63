"""Histories with branches are replayed by `flowreplay`'s code as any other."""

from __future__ import annotations

from typing import Any

import pytest

from canx_flow.histories.exporting import export
from canx_flow.testing import advance, replay, run_until_idle

from .either import declared

pytestmark = [pytest.mark.django_db, pytest.mark.once]


async def _journey(ctx: Any) -> Any:
    async def naps(own: Any) -> str:
        await own.step("before", lambda: 1)
        await own.sleep("nap", 60)
        return await own.step("after", lambda: "rested")  # type: ignore[no-any-return]

    won, _ = await ctx.race(slow=naps, quick=lambda c: c.step("work", lambda: "done"))
    numbers = await ctx.map("double", lambda number: 2 * number, range(5))
    return [won, numbers, await ctx.gather(naps=naps, reads=lambda c: c.wait_for("read", "news"))]


def test_a_history_with_branches_fits_its_own_code(kind: str) -> None:
    """Under way and at its end; what has lost is not missed."""
    flow = declared(kind, _journey)
    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "sleeping"
    assert replay(export(run_id)) == []
    advance(60)
    flow.send(run_id, "news", 3)
    run_until_idle()
    assert flow.result(run_id) == ["quick", [0, 2, 4, 6, 8], {"naps": "rested", "reads": 3}]
    assert replay(export(run_id)) == []


def test_a_step_that_a_branch_has_gained_is_told(kind: str) -> None:
    """The run has completed without it."""

    async def other(ctx: Any) -> Any:
        return await ctx.gather(left=lambda c: c.step("new", lambda: 1))

    async def body(ctx: Any) -> Any:
        return await ctx.gather(left=lambda c: c.step("old", lambda: 1))

    run_id = declared(kind, body).start()
    run_until_idle()
    declared(kind, other)
    assert [(mismatch.why, mismatch.step) for mismatch in replay(export(run_id))] == [("new", "left/new")]


async def _ships(ctx: Any) -> Any:
    """Branches that have come to a sleep, behind a step and a map."""
    await ctx.step("pack", str)
    await ctx.map("label", str, range(3))
    return await ctx.gather(left=_sleeps, right=_sleeps)


async def _sleeps(ctx: Any) -> None:
    await ctx.step("load", str)
    await ctx.sleep("drive", 60)
    await ctx.step("unload", str)


async def _more_branches(ctx: Any) -> Any:
    await ctx.step("pack", str)
    await ctx.map("label", str, range(3))
    return await ctx.gather(left=_sleeps, right=_sleeps, middle=_sleeps)


async def _less_branches(ctx: Any) -> Any:
    await ctx.step("pack", str)
    await ctx.map("label", str, range(3))
    return await ctx.gather(left=_sleeps)


async def _gathers_before(ctx: Any) -> Any:
    await ctx.gather(new=lambda c: c.step("look", str))
    return await _ships(ctx)


async def _maps_before(ctx: Any) -> Any:
    await ctx.map("weigh", str, range(50))
    return await _ships(ctx)


async def _other_items(ctx: Any) -> Any:
    await ctx.step("pack", str)
    await ctx.map("label", str, range(4))
    return await ctx.gather(left=_sleeps, right=_sleeps)


async def _loads_otherwise(ctx: Any) -> Any:
    async def other(own: Any) -> None:
        await own.step("check", str)
        await _sleeps(own)

    await ctx.step("pack", str)
    await ctx.map("label", str, range(3))
    return await ctx.gather(left=_sleeps, right=other)


async def _steps_instead(ctx: Any) -> Any:
    await ctx.step("pack", str)
    await ctx.step("drive", str)


CHANGES = {
    #                      while its branches sleep        and once it has completed
    "the same": (_ships, [], []),
    "a branch more": (_more_branches, [], [("new", "middle/load")]),
    "a branch less": (_less_branches, [("missing", "right")], [("missing", "right"), ("result", "")]),
    "a gather before": (_gathers_before, [("new", "new/look")], [("new", "new/look")]),
    "a map before": (_maps_before, [("new", "weigh")], [("new", "weigh")]),
    "other items": (_other_items, [("kind", "label")], [("kind", "label")]),
    "a step in a branch": (_loads_otherwise, [("new", "right/check")], [("new", "right/check")]),
    "no branches": (_steps_instead, [("new", "drive")], [("new", "drive")]),
}


@pytest.mark.parametrize("how", CHANGES)
def test_c130_changes_around_branches_are_listed(kind: str, how: str) -> None:
    """One mismatch for each, where today's code leaves the history."""
    completed = declared(kind, _ships).start()
    run_until_idle()
    advance(60)
    sleeping = declared(kind, _ships).start()
    run_until_idle()
    changed, of_sleeping, of_completed = CHANGES[how]
    declared(kind, changed)
    found = [[(each.why, each.step) for each in replay(export(each))] for each in (sleeping, completed)]
    assert found == [of_sleeping, of_completed]
