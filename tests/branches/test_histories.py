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
