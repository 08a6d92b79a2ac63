"""Waits of branches that were decided without: what comes afterwards is for others."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from canx_flow import StepFailed
from canx_flow.testing import advance, run_until_idle

from ..steps.shared import ONCE
from .either import declared

pytestmark = pytest.mark.django_db


async def _asks(ctx: Any) -> Any:
    return await ctx.wait_for("asked", "news")


async def _naps(ctx: Any) -> None:
    await ctx.sleep("nap", 5)


async def _naps_and_fails(ctx: Any) -> None:
    await _naps(ctx)
    await ctx.step("fails", int, "none", retry=ONCE)


async def _race(ctx: Any) -> None:
    await ctx.race(asks=_asks, naps=_naps)


async def _race_of_gather(ctx: Any) -> None:
    await ctx.race(outer=lambda own: own.gather(asks=_asks, other=lambda c: c.sleep("nap", 60)), naps=_naps)


async def _failed_gather(ctx: Any) -> None:
    with suppress(StepFailed):
        await ctx.gather(asks=_asks, fails=_naps_and_fails)


@pytest.mark.parametrize("decided", [_race, _race_of_gather, _failed_gather])
def test_an_event_is_not_left_to_a_branch_that_was_decided_without(kind: str, decided: Any) -> None:
    """The next wait for it reads it at its first look, though that branch has waited longer, until then."""

    async def body(ctx: Any) -> Any:
        await decided(ctx)
        await ctx.step("send", lambda: flow.send(run_id, "news", "rain"))
        return await ctx.wait_for("last look", "news", timeout=0, default="missed")

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    advance(5)
    assert flow.result(run_id) == "rain"
