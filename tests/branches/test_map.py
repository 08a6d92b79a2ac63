"""`ctx.map`: one step for each item, side by side; what is stored is never called again."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from freezegun import freeze_time

from canx_flow import MapFailed, Retry, StepFailed, current_step
from canx_flow.models import StepRecord, Timer
from canx_flow.testing import advance, run_until_idle

from ..models import Effect
from ..steps.shared import Crash, crash
from .either import declared

pytestmark = pytest.mark.django_db

ONCE = Retry(max_attempts=1)
SOON = Retry(max_attempts=3, initial=1, factor=1, jitter=0)


def _double(number: int) -> int:
    return 2 * number


def _unless(bad: set[int], number: int) -> int:
    if number in bad:
        raise ValueError(f"{number} is bad")
    return number


def test_c063_c065_results_stand_in_the_order_of_the_items(kind: str) -> None:
    """Whatever ends first; no items, no step. Items may be any iterable."""

    async def body(ctx: Any) -> Any:
        return [
            await ctx.map("double", _double, (n for n in range(20))),
            await ctx.map("none", _double, []),
            await ctx.map("double", _double, [1], concurrency=1),
        ]

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    assert flow.result(run_id) == [[2 * n for n in range(20)], [], [2]]
    names = set(StepRecord.objects.filter(kind="step").values_list("name", flat=True))
    assert names == {f"double[{n}]" for n in range(20)} | {"double#2[0]"}
    assert set(StepRecord.objects.filter(kind="map").values_list("name", "state")) == {
        ("double", "completed"), ("none", "completed"), ("double#2", "completed"),
    }  # fmt: skip


def test_an_item_is_a_step(kind: str) -> None:
    """`current_step` knows its whole key; options are each step's own."""
    seen = []

    def note(number: int) -> None:
        step = current_step()
        seen.append((step.name, step.idempotency_key))

    async def body(ctx: Any) -> Any:
        return await ctx.gather(left=lambda c: c.map("note", note, [1, 2], at_most_once=True))

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    assert flow.result(run_id) == {"left": [None, None]}
    assert sorted(name for name, _key in seen) == ["left/note[0]", "left/note[1]"]
    assert len({key for _name, key in seen}) == 2


def test_each_item_has_the_options_of_its_step(kind: str) -> None:
    """`atomic`, `timeout` and `retry` are those of each call: its row is there with its result, and once."""

    def write(number: int) -> int:
        Effect.objects.create(name=str(number), value="")
        if number == 2 and current_step().attempt == 1:
            raise ValueError
        return number

    async def body(ctx: Any) -> Any:
        return await ctx.map("write", write, range(4), atomic=True, timeout=60, retry=SOON)

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    assert sorted(Effect.objects.values_list("name", flat=True)) == ["0", "1", "3"]
    advance(1)
    assert flow.result(run_id) == [0, 1, 2, 3]
    assert sorted(Effect.objects.values_list("name", flat=True)) == ["0", "1", "2", "3"]
    assert StepRecord.objects.get(name="write[2]").attempts == 2


def test_it_resumes_midway(kind: str, calls: list[int]) -> None:
    """After a crash only the items that were not stored are called."""

    def work(number: int) -> int:
        calls.append(number)
        if number == 7 and calls.count(7) == 1:
            raise Crash
        return number

    async def body(ctx: Any) -> int:
        return sum(await ctx.map("work", work, range(20)))

    flow = declared(kind, body)
    run_id = flow.start()
    crash()
    stored = StepRecord.objects.filter(kind="step").count()
    assert 0 < stored < 20
    run_until_idle()
    assert flow.result(run_id) == sum(range(20))
    assert len(calls) - 20 == 1


def test_a_retry_of_one_item_holds_no_other(kind: str, calls: list[int]) -> None:
    """It is a wait like any other; the run is suspended once only such waits are left."""

    def flaky(number: int) -> int:
        calls.append(number)
        if number % 2 and calls.count(number) < 3:
            raise ValueError("not yet")
        return number

    async def body(ctx: Any) -> Any:
        return await ctx.map("work", flaky, range(4), retry=SOON)

    flow = declared(kind, body)
    with freeze_time("2026-03-01 12:00:00"):
        run_id = flow.start()
        run_until_idle()
        status = flow.status(run_id)
        assert (status.state, status.step in ("work[1]", "work[3]")) == ("retrying", True)
        assert sorted(calls) == [0, 1, 2, 3]
        assert [advance(1), advance(1)] == [1, 1]
    assert flow.result(run_id) == [0, 1, 2, 3]
    assert sorted(calls) == [0, 1, 1, 1, 2, 3, 3, 3]


@pytest.mark.parametrize("tolerate", [1, 0.25, 0.49])
def test_c067_c068_so_many_failures_are_tolerated(kind: str, tolerate: float) -> None:
    """A count, or a share; their positions hold the StepFailed, on every replay."""

    async def body(ctx: Any) -> Any:
        results = await ctx.map("work", partial(_unless, {2}), range(4), retry=ONCE, tolerate=tolerate)
        await ctx.sleep("nap", 60)
        return [result.step if isinstance(result, StepFailed) else result for result in results]

    flow = declared(kind, body)
    run_id = flow.start()
    advance(60)
    assert flow.result(run_id) == [0, 1, "work[2]", 3]


@pytest.mark.parametrize("tolerate", [1, 0.25])
def test_c067_c068_one_more_failure_stops_it(kind: str, tolerate: float, calls: list[int]) -> None:
    """No other item is called, waits for retries are closed, and MapFailed holds what there is, on every replay."""

    def work(number: int) -> int:
        calls.append(number)
        if number == 0:
            raise ValueError("again")
        return _unless({1, 2}, number)

    class Policy(Retry):
        def wants(self, error: BaseException, attempts: int) -> bool:
            return "again" in str(error)

    async def body(ctx: Any) -> Any:
        try:
            await ctx.map("work", work, range(4), concurrency=1, retry=Policy(initial=5), tolerate=tolerate)
        except MapFailed as failed:
            await ctx.sleep("nap", 60)
            return [
                failed.step, [failure.step for failure in failed.failures], [type(r).__name__ for r in failed.results],
                str(failed),
            ]  # fmt: skip

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    assert list(Timer.objects.values_list("step", flat=True)) == ["nap"]
    advance(60)
    assert flow.result(run_id) == [
        "work", ["work[1]", "work[2]"], ["NoneType", "StepFailed", "StepFailed", "NoneType"],
        "2 of the 4 items of map 'work' failed: step 'work[1]' failed after 1 attempt: ValueError: 1 is bad",
    ]  # fmt: skip
    assert calls == [0, 1, 2]
    assert StepRecord.objects.get(name="work[0]").state == "closed"


def test_c070_all_may_fail_within_tolerance(kind: str) -> None:
    """The result lists each error and raises none until asked."""

    async def body(ctx: Any) -> Any:
        results = await ctx.map("work", partial(_unless, {0, 1}), range(2), retry=ONCE, tolerate=2)
        return [result.errors[-1]["message"] for result in results]

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    assert flow.result(run_id) == ["0 is bad", "1 is bad"]


def test_retry_of_a_run_that_a_map_has_failed_calls_the_failed_items_again(kind: str, calls: list[int]) -> None:
    """With fresh attempts; those that were stored are kept, and those that were not called are called."""
    bad = {1}

    def work(number: int) -> int:
        calls.append(number)
        return _unless(bad, number)

    async def deep(ctx: Any) -> Any:
        return await ctx.map("work", work, range(4), concurrency=1, retry=ONCE)

    async def body(ctx: Any) -> Any:
        return await ctx.gather(deep=deep)

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    assert (flow.status(run_id).state, flow.status(run_id).reason, calls) == ("failed", "MapFailed", [0, 1])
    bad.clear()
    flow.retry(run_id)
    run_until_idle()
    assert flow.result(run_id) == {"deep": [0, 1, 2, 3]}
    assert calls == [0, 1, 1, 2, 3]


def test_another_number_of_items_parks_the_run(kind: str) -> None:
    """The items are the body's: it has to come to the same ones on every replay."""
    items = [1, 2, 3]

    async def body(ctx: Any) -> Any:
        await ctx.map("work", _double, items)
        await ctx.sleep("nap", 60)

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    items.append(4)
    advance(60)
    status = flow.status(run_id)
    assert status.state == "parked"
    assert "HistoryMismatch" in status.reason
    assert "map of 3 items" in status.reason


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"concurrency": 0}, ValueError), ({"concurrency": 1.5}, TypeError), ({"concurrency": True}, TypeError),
        ({"tolerate": -1}, ValueError), ({"tolerate": 1.0}, ValueError), ({"tolerate": "1"}, TypeError),
        ({"tolerate": True}, TypeError), ({"retry": 3}, TypeError), ({"tolerate": float("nan")}, ValueError),
    ],
)  # fmt: skip
def test_c066_bad_options_are_refused(kind: str, options: dict[str, Any], error: type[Exception]) -> None:
    """C066: at the call, before anything is called; a concurrency of 0 is one of them."""

    async def body(ctx: Any) -> str:
        try:
            await ctx.map("work", _double, [1], **options)
        except error:
            return "refused"
        return ""

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    assert (flow.result(run_id), StepRecord.objects.count()) == ("refused", 0)


def test_a_map_in_a_gather_in_a_race(kind: str) -> None:
    """Keys and results are right at any depth."""

    async def fast(ctx: Any) -> Any:
        return await ctx.gather(
            odd=lambda c: c.map("double", _double, range(1, 10, 2)), even=lambda c: c.map("double", _double, [2, 4])
        )

    async def slow(ctx: Any) -> Any:
        await ctx.sleep("nap", 60)
        return await ctx.map("double", _double, [1])

    async def body(ctx: Any) -> Any:
        return await ctx.race(slow=slow, fast=fast)

    flow = declared(kind, body)
    run_id = flow.start()
    run_until_idle()
    assert flow.result(run_id) == ("fast", {"odd": [2, 6, 10, 14, 18], "even": [4, 8]})
    assert StepRecord.objects.filter(name="fast/odd/double[4]").exists()
