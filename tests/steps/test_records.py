"""A step is called once and stored; a replay answers from its record."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from freezegun import freeze_time

from canx_flow import AsyncContext, Context, workflow
from canx_flow.models import StepRecord
from canx_flow.testing import advance, run_until_idle

from .shared import HOUR, START, Address, Color

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("asynchronous", [False, True])
def test_c012_a_finished_step_is_not_called_again(calls: list[str], asynchronous: bool) -> None:
    """When the run resumes, a finished step returns its stored value, and its function is not called."""

    def work(label: str) -> str:
        calls.append(label)
        return label.upper()

    async def awork(label: str) -> str:
        return work(label)

    @workflow("steps.c012")
    def plain(ctx: Context) -> list[str]:
        first = ctx.step("first", work, "one")
        ctx.sleep("nap", HOUR)
        return [first, ctx.step("second", awork, "two")]

    @workflow("steps.c012-async")
    async def awaited(ctx: AsyncContext) -> list[str]:
        first = await ctx.step("first", work, "one")
        await ctx.sleep("nap", HOUR)
        return [first, await ctx.step("second", awork, "two")]

    flow: Any = awaited if asynchronous else plain
    run_id = flow.start()
    run_until_idle()
    assert calls == ["one"]
    advance(HOUR)
    assert flow.result(run_id) == ["ONE", "TWO"]
    assert calls == ["one", "two"]


def test_c012_every_step_is_a_record(calls: list[str]) -> None:
    """Steps are stored in the order they ended, each with its kind, state, attempts and times."""

    @workflow("steps.records")
    def flow(ctx: Context) -> None:
        ctx.step("first", lambda: calls.append("first"))
        ctx.sleep("nap", HOUR)
        ctx.step("second", lambda: calls.append("second"))

    with freeze_time(START):
        run_id = flow.start()
        advance(HOUR)
    rows = StepRecord.objects.filter(run_id=run_id).order_by("seq")
    assert list(rows.values_list("seq", "name", "kind", "state", "attempts", "started_at", "finished_at")) == [
        (1, "first", "step", "completed", 1, START, START),
        (2, "nap", "sleep", "completed", 0, START, START + HOUR),
        (3, "second", "step", "completed", 1, START + HOUR, START + HOUR),
    ]


def test_c013_a_step_may_use_what_another_returned(calls: list[Any]) -> None:
    """The second step gets the value of the first on replay as it did the first time."""

    @workflow("steps.c013")
    def flow(ctx: Context) -> Any:
        number = ctx.step("draw", random.random)
        ctx.sleep("nap", 60)
        ctx.step("use", calls.append, number)
        ctx.sleep("nap", 60)
        return number

    run_id = flow.start()
    advance(HOUR)
    assert calls == [flow.result(run_id)]


VALUES = [
    None,
    True,
    7,
    -(10**40),
    2.5,
    "text \x00 ÿ 🐍",
    [1, [2, {"three": 4}]],
    {"b": 1, "a": {"nested": [None]}},
    (1, (2, 3)),
    {1, 2},
    frozenset({"a"}),
    b"\x00\xff",
    datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC),
    datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    date(2026, 3, 1),
    time(12, 30),
    timedelta(days=-1, microseconds=1),
    Decimal("1.10"),
    UUID("01890a5d-ac96-774b-bcce-b302099a8057"),
    Color.RED,
    Address("Elm Street", ("a", "b")),
]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_c014_p3_values_are_equal_before_and_after_replay(asynchronous: bool) -> None:
    """Whatever may be stored comes back equal and of the same type, on the first return and on replay."""
    seen: list[list[Any]] = []

    @workflow("steps.c014")
    def plain(ctx: Context) -> None:
        seen.append([ctx.step("value", lambda value=value: value) for value in VALUES])
        ctx.sleep("nap", 60)

    @workflow("steps.c014-async")
    async def awaited(ctx: AsyncContext) -> None:
        seen.append([await ctx.step("value", lambda value=value: value) for value in VALUES])
        await ctx.sleep("nap", 60)

    flow: Any = awaited if asynchronous else plain
    flow.start()
    advance(60)
    assert len(seen) == 2
    for values in seen:
        assert values == VALUES
        assert [type(value) for value in values] == [type(value) for value in VALUES]
        assert list(values[7]) == ["b", "a"]
        assert values[13].tzinfo.key == "Europe/Berlin"
        assert values[13].utcoffset() == VALUES[13].utcoffset()


@pytest.mark.once
@pytest.mark.parametrize("atomic", [False, True])
def test_p3_the_first_return_is_the_decoded_value(atomic: bool) -> None:
    """What a step returns the first time is what every replay returns: a copy, not the object of the function."""

    class Name(str):
        """Stored as a plain `str`."""

        __slots__ = ()

    mine = {"list": [1, 2], "name": Name("x")}

    @workflow("steps.decoded")
    def flow(ctx: Context) -> Any:
        value = ctx.step("value", lambda: mine, atomic=atomic)
        assert value is not mine
        assert type(value["name"]) is str
        mine["list"].append(3)  # type: ignore[attr-defined]
        return value

    run_id = flow.start()
    run_until_idle()
    assert flow.result(run_id) == {"list": [1, 2], "name": "x"}


@pytest.mark.parametrize(
    "value",
    [
        {"$type": "datetime", "value": "2026"},
        {"_error": True},
        {"__canx__": {"kind": "step"}},
        {"$tuple": [1, 2]},
        {"$dict": [["$set", [1]]]},
        {"$dataclass": ["os:environ", {}]},
        {"$": None},
        {"type": "builtins.ValueError", "message": "no", "traceback": "", "mro": []},
    ],
)
def test_p7_data_that_looks_like_the_engine_s_passes_untouched(value: dict[str, Any], calls: list[Any]) -> None:
    """A user's own dict is only ever a dict: as argument, result, payload, attribute and return value."""

    @workflow("steps.p7")
    def flow(ctx: Context, given: Any) -> Any:
        calls.append(given)
        calls.append(ctx.step("echo", lambda: [given]))
        ctx.set_attributes(like=given)
        calls.append(ctx.wait_for("event", "news"))
        return given

    run_id = flow.start(value)
    flow.send(run_id, "news", value)
    run_until_idle()
    assert calls == [value, [value], value]
    status = flow.status(run_id)
    assert (status.state, status.result, status.attributes) == ("completed", value, {"like": value})


@pytest.mark.once
def test_a_plain_step_function_may_be_anything_that_can_be_called(calls: list[Any]) -> None:
    """Functions, async functions, lambdas, partials, methods, classes and objects with `__call__` are steps alike."""

    class Service:
        def __call__(self, x: int) -> int:
            return x + 1

        def method(self, x: int) -> int:
            return x + 2

    async def awaited(x: int) -> int:
        await asyncio.sleep(0)
        return x + 3

    def keywords(x: int, *, more: int) -> int:
        return x + more

    @workflow("steps.callables")
    def plain(ctx: Context) -> Any:
        return [
            ctx.step("object", Service(), 0),
            ctx.step("method", Service().method, 0),
            ctx.step("async", awaited, 0),
            ctx.step("partial", partial(keywords, more=4), 0),
            ctx.step("partial async", partial(awaited, 2)),
            ctx.step("lambda", lambda: keywords(0, more=6)),
            ctx.step("lambda async", lambda: awaited(4)),
            ctx.step("class", Decimal, 8),
        ]

    @workflow("steps.callables-async")
    async def asynchronous(ctx: AsyncContext) -> Any:
        return [
            await ctx.step("object", Service(), 0),
            await ctx.step("method", Service().method, 0),
            await ctx.step("async", awaited, 0),
            await ctx.step("partial", partial(keywords, more=4), 0),
            await ctx.step("partial async", partial(awaited, 2)),
            await ctx.step("lambda", lambda: keywords(0, more=6)),
            await ctx.step("lambda async", lambda: awaited(4)),
            await ctx.step("class", Decimal, 8),
        ]

    ids = plain.start(), asynchronous.start()
    run_until_idle()
    assert plain.result(ids[0]) == asynchronous.result(ids[1]) == [1, 2, 3, 4, 5, 6, 7, Decimal(8)]
