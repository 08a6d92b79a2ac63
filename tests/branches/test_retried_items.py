"""`retry` of a run whose body has raised what an item of a map has come to: that item is called, its map goes on."""

from __future__ import annotations

from typing import Any

import pytest

from canx_flow import MapFailed, Retry, StepFailed
from canx_flow.models import StepRecord
from canx_flow.testing import advance, run_until_idle

from ..steps.shared import ONCE
from .either import declared

pytestmark = pytest.mark.django_db


class _Shop:
    """Pays what is not refused, and lists each call."""

    def __init__(self, *refused: int) -> None:
        self.refused = set(refused)
        self.calls: list[Any] = []

    def pay(self, number: int) -> str:
        self.calls.append(number)
        if number in self.refused:
            raise ValueError("refused")
        return f"paid {number}"

    async def pay_all(self, ctx: Any) -> Any:
        results = await ctx.map("pay", self.pay, [1, 2, 3], tolerate=2, concurrency=1, retry=ONCE)
        await ctx.step("note", self.calls.append, "noted")
        await ctx.sleep("nap", 5)
        return results


def _raise_first(results: Any) -> Any:
    for result in results:
        if isinstance(result, StepFailed):
            raise result
    return results


async def _in_body(ctx: Any, shop: _Shop) -> Any:
    return _raise_first(await shop.pay_all(ctx))


async def _in_branch(ctx: Any, shop: _Shop) -> Any:
    found = await ctx.gather(a=lambda c: _in_body(c, shop), b=lambda c: c.step("other", shop.calls.append, "other"))
    return found["a"]


async def _of_branch(ctx: Any, shop: _Shop) -> Any:
    found = await ctx.gather(a=shop.pay_all, b=lambda c: c.step("other", shop.calls.append, "other"))
    return _raise_first(found["a"])


async def _of_winner(ctx: Any, shop: _Shop) -> Any:
    async def outer(own: Any) -> Any:
        return await own.race(a=shop.pay_all, b=lambda c: c.sleep("late", 3600))

    return _raise_first((await ctx.gather(outer=outer))["outer"][1])


@pytest.mark.parametrize("body", [_in_body, _in_branch, _of_branch, _of_winner])
def test_an_items_failure_that_was_tolerated_and_raised_is_tried_again(kind: str, body: Any) -> None:
    """It alone; what the body has come to behind the map is kept, and so is every other failure that was tolerated."""
    shop = _Shop(2, 3)
    flow = declared(kind, lambda ctx: body(ctx, shop))
    run_id = flow.start()
    advance(10)
    assert flow.status(run_id).state == "failed"
    shop.refused, called = {3}, list(shop.calls)
    assert flow.retry(run_id)
    run_until_idle()
    # Now the failure of the third comes first.
    assert (flow.status(run_id).state, shop.calls) == ("failed", [*called, 2])
    shop.refused = set()
    assert flow.retry(run_id)
    run_until_idle()
    assert flow.result(run_id) == ["paid 1", "paid 2", "paid 3"]
    assert shop.calls == [*called, 2, 3]
    assert not StepRecord.objects.exclude(state__in=("completed", "closed")).exists()


def test_the_item_may_be_tried_as_often_as_its_policy_says(kind: str) -> None:
    """The run waits for its next attempt as before; it fails with it again if that fails."""
    shop = _Shop(2)

    async def body(ctx: Any) -> Any:
        retry = Retry(max_attempts=2, initial=10, jitter=0)
        results = await ctx.map("pay", shop.pay, [1, 2], tolerate=1, retry=retry)
        await ctx.step("note", shop.calls.append, "noted")
        return _raise_first(results)

    flow = declared(kind, body)
    run_id = flow.start()
    advance(10)
    assert flow.retry(run_id)
    run_until_idle()
    assert flow.status(run_id).state == "retrying"
    advance(10)
    assert (flow.status(run_id).state, flow.status(run_id).error["step"]) == ("failed", "pay[1]")
    assert flow.retry(run_id)
    run_until_idle()
    shop.refused = set()
    advance(10)
    assert flow.result(run_id) == ["paid 1", "paid 2"]
    assert shop.calls == [1, 2, 2, "noted", *[2] * 4]


def test_an_item_of_a_map_that_has_failed_may_be_raised_in_its_place(kind: str) -> None:
    """All items that have failed are called again, and those that were not called are called."""
    shop = _Shop(2, 3)

    async def body(ctx: Any) -> Any:
        try:
            return await ctx.map("pay", shop.pay, [1, 2, 3, 4], tolerate=1, concurrency=1, retry=ONCE)
        except MapFailed as failed:
            raise failed.failures[0] from None

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).error["step"] == "pay[1]"
    shop.refused = set()
    assert flow.retry(run_id)
    run_until_idle()
    assert flow.result(run_id) == [f"paid {number}" for number in (1, 2, 3, 4)]
    assert shop.calls == [1, 2, 3, 2, 3, 4]
