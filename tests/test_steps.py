"""Steps: called once, stored, replayed; retried by their policy; and where a context may be used."""

from __future__ import annotations

import asyncio
import enum
import logging
import random
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from itertools import pairwise
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.db import OperationalError, connection, connections, models, transaction
from django.test.utils import CaptureQueriesContext
from freezegun import freeze_time

from canx_flow import (
    AsyncContext,
    Context,
    GiveUp,
    InsideTransaction,
    InvalidState,
    NotInStep,
    NotSerializable,
    OutsideStep,
    PayloadTooLarge,
    Retry,
    RetryAfter,
    StepFailed,
    StepInterrupted,
    StepTimeout,
    WrongContext,
    client,
    current_step,
    get_run,
    in_step,
    send_event,
    signals,
    workflow,
)
from canx_flow.models import Event, StepRecord, Timer, WorkflowRun
from canx_flow.testing import advance, run_until_idle

from .models import Effect

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SOON = Retry(initial=1, factor=1, jitter=0)
ONCE = Retry(max_attempts=1)


class _Crash(KeyboardInterrupt):
    """Ends an inline worker in the middle of what it does, as a kill would."""


class TransientError(Exception):
    """What is worth another try."""


class CardDeclined(Exception):  # noqa: N818 - reads as users would name it
    """What is not."""


class Color(enum.Enum):
    """A value whose class must be found again."""

    RED = "red"


class Topic(models.TextChoices):
    """Names as Django's choices."""

    PAID = "paid", "Paid"


class PlainTopic(str, enum.Enum):  # noqa: UP042 - StrEnum formats otherwise
    """Names as many projects write them."""

    PAID = "paid"


@dataclass(frozen=True)
class Address:
    """A value with fields."""

    street: str
    tags: tuple[str, ...] = ()


@pytest.fixture
def calls() -> list[Any]:
    """What the steps of a test did, in order."""
    return []


def crash() -> None:
    """Run what is ready until the worker dies of it."""
    with pytest.raises(_Crash):
        run_until_idle()


# -- once, and then from the record ----------------------------------------------------------------


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


# -- names -----------------------------------------------------------------------------------------


def test_c015_a_name_used_again_is_another_step(calls: list[int]) -> None:
    """One name used three times in a loop has three results, in order, also on replay."""
    seen: list[list[int]] = []

    def work(number: int) -> int:
        calls.append(number)
        return number * 10

    @workflow("steps.c015")
    def flow(ctx: Context) -> None:
        seen.append([ctx.step("work", work, number) for number in range(3)])
        ctx.sleep("nap", 60)

    run_id = flow.start()
    advance(60)
    assert seen == [[0, 10, 20], [0, 10, 20]]
    assert calls == [0, 1, 2]
    rows = StepRecord.objects.filter(run_id=run_id, kind="step").order_by("seq")
    assert list(rows.values_list("name", flat=True)) == ["work", "work#2", "work#3"]


def test_uses_of_a_name_are_counted_over_all_kinds() -> None:
    """A step, a sleep, a wait and a uuid of one name are its first, second, third and fourth use."""
    ids: list[UUID] = []

    @workflow("steps.kinds")
    def flow(ctx: Context) -> None:
        ctx.step("x", lambda: None)
        ctx.sleep("x", 60)
        ctx.wait_for("x", "news", timeout=60, default=None)
        ids.append(ctx.uuid("x"))
        ctx.step("x", lambda: None)

    run_id = flow.start()
    advance(200)
    rows = StepRecord.objects.filter(run_id=run_id).order_by("seq")
    assert list(rows.values_list("name", "kind")) == [
        ("x", "step"),
        ("x#2", "sleep"),
        ("x#3", "wait"),
        ("x#5", "step"),
    ]
    assert len(set(ids)) == 1


def test_names_and_keys_may_have_255_characters() -> None:
    """A name of 255 characters is a name on every database; so are event names, event keys, keys and dedup ids."""
    name = "é" * 255

    @workflow("steps.long")
    def flow(ctx: Context) -> Any:
        return ctx.step(name, lambda: current_step().name), ctx.wait_for("w" * 255, name, key=name)

    run_id = flow.using(key=name).start()
    assert flow.using(key=name).start() == run_id
    run_until_idle()
    assert send_event(name, 1, key=name, dedup_id=name)
    assert not send_event(name, 1, key=name, dedup_id=name)
    run_until_idle()
    assert flow.result(run_id) == (name, 1)


@pytest.mark.parametrize("kind", [Topic, PlainTopic])
def test_names_may_be_members_of_a_str_enum(kind: Any) -> None:
    """A member is the text it holds, as name of a step, event, key or dedup id, and as value of an attribute."""

    @workflow(f"steps.{kind.__name__}", queue=kind.PAID)
    def flow(ctx: Context) -> Any:
        ctx.step(kind.PAID, lambda: None)
        return ctx.wait_for("wait", kind.PAID, key=kind.PAID)

    run_id = flow.using(key=kind.PAID, attributes={"topic": kind.PAID}).start()
    run_until_idle()
    assert send_event(kind.PAID, 1, key=kind.PAID, dedup_id=kind.PAID)
    assert not send_event("paid", 1, key="paid", dedup_id="paid")
    assert flow.using(key="paid").start() == run_id
    run_until_idle()
    assert flow.result(run_id) == 1
    assert StepRecord.objects.get(run_id=run_id, kind="step").name == "paid"
    run = flow.runs.with_attributes(topic="paid").get()
    assert (run.id, run.queue) == (run_id, "paid")


def test_a_key_that_grows_too_long_is_refused() -> None:
    """The second use of a name of 254 characters would have a key of 256: ValueError, and nothing is stored of it."""
    name = "n" * 254

    @workflow("steps.too-long")
    def flow(ctx: Context) -> None:
        ctx.step(name, lambda: None)
        ctx.step(name, lambda: None)

    run_id = flow.start()
    run_until_idle()
    status = flow.status(run_id)
    assert (status.state, status.reason) == ("failed", "ValueError")
    assert "has 256 characters, at most 255 are allowed" in status.error["message"]  # type: ignore[index]
    assert StepRecord.objects.filter(run_id=run_id).count() == 1


ALIKE = ["Charge", "charge", "café", "cafe", "cafe\u0301", "ﬁn", "fin", "ß", "ss"]


def test_p14_names_of_steps_compare_byte_by_byte(calls: list[str]) -> None:
    """Names that differ in case, accents or composition are steps of their own on every database."""

    def work(label: str) -> str:
        calls.append(label)
        return label

    @workflow("steps.p14")
    def flow(ctx: Context) -> Any:
        results = [ctx.step(name, work, name) for name in ALIKE]
        ctx.sleep("nap", 60)
        return results

    run_id = flow.start()
    advance(60)
    assert flow.result(run_id) == calls == ALIKE
    rows = StepRecord.objects.filter(run_id=run_id, kind="step").order_by("seq")
    assert list(rows.values_list("name", flat=True)) == ALIKE


def test_p14_keys_of_runs_compare_byte_by_byte() -> None:
    """Each of the keys has a run of its own, found again by exactly that key."""

    @workflow("steps.p14-keys")
    def flow(ctx: Context) -> None:
        pass

    ids = [flow.using(key=key).start() for key in ALIKE]
    assert len(set(ids)) == len(ALIKE)
    assert [flow.using(key=key).start() for key in ALIKE] == ids


def test_p14_events_compare_byte_by_byte() -> None:
    """Names and keys of events, and their dedup ids, match exactly or not at all."""

    @workflow("steps.p14-events")
    def flow(ctx: Context, event: str, key: str | None) -> Any:
        return ctx.wait_for("wait", event, key=key, timeout=HOUR, default="nothing")

    by_name = [flow.start(name, None) for name in ALIKE]
    by_key = [flow.start("news", key) for key in ALIKE]
    directed = [flow.start(name, "key") for name in ALIKE]
    run_until_idle()
    for number, name in enumerate(ALIKE):
        assert send_event(name, number, dedup_id=name)
        assert send_event("news", number, key=name, dedup_id=name)
        assert flow.send(directed[number], ALIKE[number - 1], "wrong")
        assert flow.send(directed[number], name, number, dedup_id=name)
    run_until_idle()
    every = list(range(len(ALIKE)))
    assert [flow.status(run_id).result for run_id in by_name] == every
    assert [flow.status(run_id).result for run_id in by_key] == every
    assert [flow.status(run_id).result for run_id in directed] == every


def test_p14_workflows_compare_byte_by_byte() -> None:
    """Workflows that differ in case only have runs of their own."""
    flows = [workflow(f"steps.{name}", lambda _ctx, name=name: name) for name in ("Order", "order")]
    ids = [flow.start() for flow in flows]
    run_until_idle()
    assert [flow.result(run_id) for flow, run_id in zip(flows, ids, strict=True)] == ["Order", "order"]
    assert [run.id for run in flows[0].runs] == [ids[0]]


# -- failures --------------------------------------------------------------------------------------


def test_c016_a_caught_failure_replays_without_a_call(calls: list[Any]) -> None:
    """A step that failed for good raises the same StepFailed on every replay; its function is not called."""
    caught: list[StepFailed] = []

    def decline() -> None:
        calls.append(1)
        raise CardDeclined("no funds")

    @workflow("steps.c016")
    def flow(ctx: Context) -> str:
        try:
            ctx.step("charge", decline, retry=ONCE)
        except StepFailed as error:
            caught.append(error)
        ctx.sleep("nap", 60)
        return "went on"

    run_id = flow.start()
    advance(60)
    assert flow.result(run_id) == "went on"
    assert calls == [1]
    first, replayed = caught
    assert (first.step, first.attempts, str(first)) == (replayed.step, replayed.attempts, str(replayed))
    assert first.errors == replayed.errors
    assert str(first) == "step 'charge' failed after 1 attempt: tests.test_steps.CardDeclined: no funds"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_c017_the_value_of_a_later_attempt_is_used(calls: list[int], asynchronous: bool) -> None:
    """Failed once and then done: two attempts are recorded, with the error of the first, and the second's value."""

    def work() -> str:
        step = current_step()
        assert step is not None
        calls.append(step.attempt)
        if len(calls) == 1:
            raise TransientError("not yet")
        return "done"

    @workflow("steps.c017")
    def plain(ctx: Context) -> str:
        return ctx.step("work", work, retry=SOON)

    @workflow("steps.c017-async")
    async def awaited(ctx: AsyncContext) -> str:
        return await ctx.step("work", work, retry=SOON)

    flow: Any = awaited if asynchronous else plain
    run_id = flow.start()
    run_until_idle()
    status = flow.status(run_id)
    assert (status.state, status.step, status.attempt) == ("retrying", "work", 2)
    advance(60)
    assert flow.result(run_id) == "done"
    assert calls == [1, 2]
    row = StepRecord.objects.get(run_id=run_id)
    assert (row.state, row.attempts, row.seq) == ("completed", 2, 1)
    assert "not yet" in row.errors


def test_c018_after_the_last_attempt_the_error_has_all_of_them(calls: list[int]) -> None:
    """With four attempts and constant failure there are exactly four calls, and the error lists each of them."""
    caught: list[StepFailed] = []

    def fail() -> None:
        calls.append(len(calls) + 1)
        raise TransientError(f"failure {len(calls)}")

    @workflow("steps.c018")
    def flow(ctx: Context) -> None:
        try:
            ctx.step("fail", fail, retry=Retry(max_attempts=4, initial=10, factor=1, jitter=0))
        except StepFailed as error:
            caught.append(error)
            raise

    with freeze_time(START):
        run_id = flow.start()
        advance(HOUR)
    assert calls == [1, 2, 3, 4]
    error = caught[0]
    assert (error.step, error.attempts) == ("fail", 4)
    assert [item["message"] for item in error.errors] == [f"failure {number}" for number in calls]
    assert [item["type"] for item in error.errors] == ["tests.test_steps.TransientError"] * 4
    assert [datetime.fromisoformat(item["at"]) for item in error.errors] == [
        START + timedelta(seconds=10 * number) for number in range(4)
    ]
    assert all("raise TransientError" in item["traceback"] for item in error.errors)
    status = flow.status(run_id)
    assert (status.state, status.reason) == ("failed", "StepFailed")
    assert status.error["step"] == "fail"  # type: ignore[index]
    assert "failure 4" in status.error["message"]  # type: ignore[index]


@pytest.mark.once
def test_c020_waits_grow_by_the_factor() -> None:
    """Two seconds, times three, without jitter: the waits are 2, 6, 18, and then the most that is allowed."""
    waits = _waits(Retry(initial=2, factor=3, max_delay=20, jitter=0, max_attempts=6))
    assert waits == [2, 6, 18, 20, 20]


@pytest.mark.once
def test_c020_jitter_only_shortens_a_wait() -> None:
    """With jitter j each wait is within [(1 - j) x base, base], and they are not all the same share of it."""
    waits = _waits(Retry(initial=2, factor=3, max_delay=1000, jitter=0.5, max_attempts=6))
    shares = [wait / base for wait, base in zip(waits, (2, 6, 18, 54, 162), strict=True)]
    assert all(0.5 <= share <= 1 for share in shares)
    assert len(set(shares)) > 1


def _waits(policy: Retry) -> list[float]:
    """Seconds between the attempts of a step that always fails."""
    times: list[datetime] = []

    def fail() -> None:
        times.append(datetime.now(UTC))
        raise TransientError

    @workflow("steps.waits")
    def flow(ctx: Context) -> None:
        ctx.step("fail", fail, retry=policy)

    with freeze_time(START):
        flow.start()
        advance(timedelta(days=1))
    return [(later - earlier).total_seconds() for earlier, later in pairwise(times)]


@pytest.mark.once
@pytest.mark.parametrize(
    ("error", "policy", "expected"),
    [
        (TransientError, Retry(retry_on=(TransientError,), max_attempts=3, initial=1), 3),
        (CardDeclined, Retry(retry_on=(TransientError,), max_attempts=3, initial=1), 1),
        (CardDeclined, Retry(give_up_on=(CardDeclined,), max_attempts=3, initial=1), 1),
        (TransientError, Retry(give_up_on=(CardDeclined,), max_attempts=3, initial=1), 3),
    ],
)
def test_c021_only_what_is_worth_it_is_retried(
    calls: list[int], error: type[Exception], policy: Retry, expected: int
) -> None:
    """Another type than those of `retry_on`, or one of `give_up_on`, fails after one call."""

    def fail() -> None:
        calls.append(1)
        raise error

    @workflow("steps.c021")
    def flow(ctx: Context) -> None:
        ctx.step("fail", fail, retry=policy)

    run_id = flow.start()
    advance(HOUR)
    assert flow.status(run_id).state == "failed"
    assert len(calls) == expected


@pytest.mark.once
@pytest.mark.parametrize("delay", [30, 30.0, timedelta(seconds=30)])
def test_c022_retry_after_sets_the_next_delay(calls: list[datetime], delay: Any) -> None:
    """The next attempt comes after exactly the delay that the step asked for, whatever the policy's table says."""

    def work() -> str:
        calls.append(datetime.now(UTC))
        if len(calls) == 1:
            raise RetryAfter(delay)
        return "done"

    @workflow("steps.c022")
    def flow(ctx: Context) -> str:
        return ctx.step("work", work, retry=Retry(initial=2, max_delay=5, retry_on=(CardDeclined,)))

    with freeze_time(START):
        run_id = flow.start()
        run_until_idle()
        assert flow.status(run_id).resume_at == START + timedelta(seconds=30)
        advance(29)
        assert len(calls) == 1
        advance(1)
        assert flow.result(run_id) == "done"
    assert calls == [START, START + timedelta(seconds=30)]


@pytest.mark.once
def test_c022_retry_after_ends_with_the_attempts(calls: list[int]) -> None:
    """RetryAfter asks for a delay, not for more attempts than there are."""

    def work() -> None:
        calls.append(1)
        raise RetryAfter(5, "busy")

    @workflow("steps.c022-end")
    def flow(ctx: Context) -> None:
        ctx.step("work", work, retry=Retry(max_attempts=3))

    run_id = flow.start()
    advance(HOUR)
    assert len(calls) == 3
    assert "busy" in flow.status(run_id).error["message"]  # type: ignore[index]


@pytest.mark.once
def test_give_up_stops_retrying(calls: list[int]) -> None:
    """GiveUp fails the step at once, whatever its policy says, and the run knows why."""

    def work() -> None:
        calls.append(1)
        raise GiveUp("the account is closed")

    @workflow("steps.give-up")
    def flow(ctx: Context) -> str:
        try:
            ctx.step("work", work, retry=Retry(max_attempts=None, retry_on=(BaseException,)))
        except StepFailed as error:
            return f"{error.is_a(GiveUp)}: {error}"
        return ""

    run_id = flow.start()
    advance(HOUR)
    assert len(calls) == 1
    result = flow.result(run_id)
    assert result.startswith("True: ")
    assert result.endswith("GiveUp: the account is closed")


def test_a_step_may_be_retried_for_ever(calls: list[int]) -> None:
    """With `max_attempts=None` there is always another attempt, and its errors do not pile up without end."""

    def work() -> str:
        calls.append(1)
        if len(calls) < 120:
            raise TransientError("x" * 100)
        return "done"

    @workflow("steps.for-ever")
    def flow(ctx: Context) -> str:
        return ctx.step("work", work, retry=Retry(max_attempts=None, initial=1, factor=1, jitter=0))

    run_id = flow.start()
    advance(HOUR)
    assert flow.result(run_id) == "done"
    row = StepRecord.objects.get(run_id=run_id)
    assert (row.attempts, len(calls)) == (120, 120)
    assert len(row.errors) < 120 * 1000


def test_the_count_of_attempts_survives_restarts_and_deployments(calls: list[int]) -> None:
    """Attempts are counted in the database: another worker, or another policy, goes on where the last one stopped."""
    policies = [Retry(max_attempts=10, initial=60, factor=1, jitter=0)]

    def fail() -> None:
        calls.append(current_step().attempt)
        raise TransientError

    @workflow("steps.count")
    def flow(ctx: Context) -> None:
        ctx.step("fail", fail, retry=policies[-1])

    run_id = flow.start()
    advance(90)
    assert calls == [1, 2]
    policies.append(Retry(max_attempts=3, initial=60))
    advance(HOUR)
    assert calls == [1, 2, 3]
    assert flow.status(run_id).state == "failed"


@pytest.mark.once
@pytest.mark.parametrize(
    ("settings_say", "workflow_says", "step_says", "expected"),
    [
        (None, None, None, 16),
        (2, None, None, 2),
        (2, 3, None, 3),
        (2, 3, 4, 4),
        (2, None, 4, 4),
        (None, 3, None, 3),
    ],
)
def test_the_step_s_policy_precedes_the_workflow_s_and_that_the_settings(
    calls: list[int],
    settings: Any,
    settings_say: int | None,
    workflow_says: int | None,
    step_says: int | None,
    expected: int,
) -> None:
    """Step before workflow before settings; without any of them there are 16 attempts."""
    if settings_say is not None:
        settings.CANX_FLOW = {**settings.CANX_FLOW, "RETRY": {"max_attempts": settings_say, "initial": 1}}

    def policy(attempts: int | None) -> Retry | None:
        return None if attempts is None else Retry(max_attempts=attempts, initial=1)

    def fail() -> None:
        calls.append(1)
        raise TransientError

    @workflow("steps.precedence", retry=policy(workflow_says))
    def flow(ctx: Context) -> None:
        ctx.step("fail", fail, retry=policy(step_says))

    run_id = flow.start()
    advance(timedelta(days=1))
    assert flow.status(run_id).state == "failed"
    assert len(calls) == expected


@pytest.mark.once
def test_is_a_knows_the_classes_of_the_last_error_on_replay_too() -> None:
    """`is_a` answers for the class, its bases and nothing else, from what is stored."""
    answers: list[list[bool]] = []

    class VeryDeclined(CardDeclined):
        """A subclass that exists only here."""

    def fail() -> None:
        raise VeryDeclined("no")

    @workflow("steps.is-a")
    def flow(ctx: Context) -> None:
        try:
            ctx.step("fail", fail, retry=ONCE)
        except StepFailed as error:
            classes = (VeryDeclined, CardDeclined, Exception, BaseException, TransientError, ValueError)
            answers.append([error.is_a(cls) for cls in classes])
        ctx.sleep("nap", 60)

    flow.start()
    advance(60)
    assert answers == [[True, True, True, True, False, False]] * 2


@pytest.mark.once
def test_is_a_asks_about_the_last_attempt() -> None:
    """An error that an earlier attempt met is not what the step failed with."""
    errors: list[Exception] = [CardDeclined(), TransientError()]
    answers: list[bool] = []

    def fail() -> None:
        raise errors.pop(0)

    @workflow("steps.is-a-last")
    def flow(ctx: Context) -> None:
        try:
            ctx.step("fail", fail, retry=Retry(max_attempts=2, initial=1))
        except StepFailed as error:
            answers.extend([error.is_a(CardDeclined), error.is_a(TransientError)])

    flow.start()
    advance(60)
    assert answers == [False, True]


@pytest.mark.once
@pytest.mark.parametrize("asynchronous", [False, True])
def test_system_exit_in_a_step_is_a_failed_attempt(calls: list[int], asynchronous: bool) -> None:
    """`sys.exit()` in a step ends neither worker nor run: it fails the attempt, and is retried if so is said."""

    def leave() -> None:
        calls.append(1)
        sys.exit(3)

    async def aleave() -> None:
        leave()

    def note(error: StepFailed) -> tuple[bool, int]:
        return error.is_a(SystemExit), error.attempts

    policy = Retry(max_attempts=2, initial=1, retry_on=(SystemExit,))

    @workflow("steps.system-exit")
    def plain(ctx: Context) -> Any:
        noted = []
        for function, retry in ((leave, ONCE), (aleave, ONCE), (leave, policy)):
            try:
                ctx.step("leave", function, retry=retry)
            except StepFailed as error:
                noted.append(note(error))
        return noted

    @workflow("steps.system-exit-async")
    async def awaited(ctx: AsyncContext) -> Any:
        noted = []
        for function, retry in ((leave, ONCE), (aleave, ONCE), (leave, policy)):
            try:
                await ctx.step("leave", function, retry=retry)
            except StepFailed as error:
                noted.append(note(error))
        return noted

    flow: Any = awaited if asynchronous else plain
    run_id = flow.start()
    advance(60)
    assert flow.result(run_id) == [(True, 1), (True, 1), (True, 2)]
    assert len(calls) == 4


@pytest.mark.once
def test_system_exit_in_the_body_fails_the_run() -> None:
    """A body that calls `sys.exit()` fails its run; the worker goes on with the others."""

    @workflow("steps.exit-body")
    def flow(ctx: Context, code: int) -> str:
        if code:
            sys.exit(code)
        return "well"

    ids = [flow.start(1), flow.start(0)]
    run_until_idle()
    assert [flow.status(run_id).state for run_id in ids] == ["failed", "completed"]
    assert flow.status(ids[0]).reason == "SystemExit"


# -- timeouts --------------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("timeout", [0.01, timedelta(milliseconds=10)])
def test_c026_a_step_that_takes_too_long_is_retried(calls: list[str], asynchronous: bool, timeout: Any) -> None:
    """Over its timeout an async step is cancelled; that is a failed attempt, recorded once, and retried."""

    async def hang_once() -> str:
        calls.append("called")
        if len(calls) > 2:
            return "done"
        try:
            await asyncio.Event().wait()
        finally:
            calls.append("cancelled")
        return "never"

    @workflow("steps.c026")
    def plain(ctx: Context) -> str:
        return ctx.step("hang", hang_once, retry=SOON, timeout=timeout)

    @workflow("steps.c026-async")
    async def awaited(ctx: AsyncContext) -> str:
        return await ctx.step("hang", hang_once, retry=SOON, timeout=timeout)

    flow: Any = awaited if asynchronous else plain
    run_id = flow.start()
    run_until_idle()
    assert calls == ["called", "cancelled"]
    row = StepRecord.objects.get(run_id=run_id)
    assert row.attempts == 1
    assert row.errors.count("canx_flow.exceptions.StepTimeout: ") == 1
    advance(60)
    assert flow.result(run_id) == "done"
    assert calls == ["called", "cancelled", "called"]


@pytest.mark.once
def test_c026_a_timeout_that_is_final_replays(calls: list[Any]) -> None:
    """After the last attempt StepFailed says that it was a timeout, now and on replay."""

    async def hang() -> None:
        calls.append("called")
        await asyncio.Event().wait()

    answers: list[list[bool]] = []

    @workflow("steps.c026-final")
    def flow(ctx: Context) -> None:
        try:
            ctx.step("hang", hang, retry=ONCE, timeout=0.01)
        except StepFailed as error:
            answers.append([error.is_a(StepTimeout), error.is_a(TimeoutError), "0.01 seconds" in str(error)])
        ctx.sleep("nap", 60)

    run_id = flow.start()
    advance(60)
    assert flow.status(run_id).state == "completed"
    assert calls == ["called"]
    assert answers == [[True, True, True]] * 2


@pytest.mark.once
def test_c026_a_timeout_of_the_function_s_own_is_no_step_timeout() -> None:
    """A TimeoutError that the function raises itself is kept as it is."""

    async def own() -> None:
        raise TimeoutError("the provider's")

    @workflow("steps.c026-own")
    def flow(ctx: Context) -> Any:
        try:
            ctx.step("own", own, retry=ONCE, timeout=60)
        except StepFailed as error:
            return error.is_a(TimeoutError), error.is_a(StepTimeout)

    run_id = flow.start()
    run_until_idle()
    assert flow.result(run_id) == (True, False)


# -- results that cannot be stored -----------------------------------------------------------------


def _deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(5000):
        value = [value]
    return value


@pytest.mark.once
@pytest.mark.parametrize("options", [{}, {"atomic": True}, {"at_most_once": True}])
@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (object, "NotSerializable"),
        (lambda: float("nan"), "NotSerializable"),
        (lambda: {"rows": [{1: 2}]}, "NotSerializable"),
        (lambda: (number for number in range(3)), "NotSerializable"),
        (_deep, "NotSerializable"),
        (lambda: "x" * 1_000_001, "PayloadTooLarge"),
    ],
)
def test_c027_p4_a_result_that_cannot_be_stored_fails_the_step_once(
    calls: list[int], result: Callable[[], Any], kind: str, options: dict[str, Any]
) -> None:
    """The function was called once, the step fails without a retry, the run fails with it, and nothing loops."""

    def work() -> Any:
        calls.append(1)
        return result()

    @workflow("steps.c027")
    def flow(ctx: Context) -> None:
        ctx.step("before", lambda: "kept")
        ctx.step("work", work, **options)

    run_id = flow.start()
    assert run_until_idle() == 1
    status = flow.status(run_id)
    assert (status.state, status.reason) == ("failed", "StepFailed")
    assert f"{kind}: the result of step 'work'" in status.error["message"]  # type: ignore[index]
    advance(HOUR)
    assert calls == [1]
    assert flow.runs.get(id=run_id).records.get(name="work").attempts == 1


@pytest.mark.once
def test_c027_the_message_names_the_step_and_the_path() -> None:
    """Whoever reads the failure sees which step it was, where in its result, and what to return instead."""

    @workflow("steps.c027-path")
    def flow(ctx: Context) -> None:
        ctx.step("load", lambda: {"runs": [1, WorkflowRun.objects.all()]})

    run_id = flow.start()
    run_until_idle()
    message = flow.status(run_id).error["message"]  # type: ignore[index]
    assert "the result of step 'load' cannot be stored: at ['runs'][1]: " in message
    assert "return the primary keys" in message


@pytest.mark.once
def test_c027_such_a_failure_can_be_caught() -> None:
    """It is a StepFailed like any other: caught, the run goes on, and the catch replays."""

    @workflow("steps.c027-caught")
    def flow(ctx: Context) -> Any:
        try:
            ctx.step("work", object)
        except StepFailed as error:
            caught = error.is_a(NotSerializable), error.is_a(PayloadTooLarge)
        ctx.sleep("nap", 60)
        return caught

    run_id = flow.start()
    advance(60)
    assert flow.result(run_id) == (True, False)


class _UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text either")

    def __reduce__(self) -> Any:
        raise TypeError("nor a pickle")


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    "error",
    [
        _UnprintableError(threading.Lock()),
        ValueError("NUL \x00 and half a pair \ud800"),
        ValueError("🐍" * 100_000),
        ExceptionGroup("several", [ValueError("one"), _UnprintableError()]),
        ValueError(object(), threading.Lock()),
    ],
    ids=["unprintable", "nul", "huge", "group", "arguments"],
)
@pytest.mark.parametrize("in_body", [False, True])
def test_c028_every_exception_is_stored(error: Exception, in_body: bool) -> None:
    """Whatever an exception is and does when it is looked at, the failure is stored, shown and replayed."""

    @workflow("steps.c028")
    def flow(ctx: Context) -> None:
        if in_body:
            raise error
        ctx.step("fail", _raise, error, retry=ONCE)

    run_id = flow.start()
    run_until_idle()
    status = flow.status(run_id)
    assert status.state == "failed"
    assert type(error).__name__ in str(status.error["message" if not in_body else "type"])  # type: ignore[index]


@pytest.mark.once
@pytest.mark.parametrize("asynchronous", [False, True])
def test_c030_a_step_in_a_step_is_refused(calls: list[str], asynchronous: bool) -> None:
    """A step function that uses the context fails with WrongContext, without a retry: there are never two records."""

    @workflow("steps.c030")
    def plain(ctx: Context) -> None:
        ctx.step("outer", lambda: ctx.step("inner", calls.append, "inner"))

    @workflow("steps.c030-async")
    async def awaited(ctx: AsyncContext) -> None:
        async def outer() -> None:
            await ctx.step("inner", calls.append, "inner")

        await ctx.step("outer", outer)

    flow: Any = awaited if asynchronous else plain
    run_id = flow.start()
    run_until_idle()
    status = flow.status(run_id)
    assert status.state == "failed"
    assert "WrongContext" in status.error["message"]  # type: ignore[index]
    assert "inside a step function" in status.error["message"]  # type: ignore[index]
    assert calls == []
    assert list(flow.runs.get().records.values_list("name", "state", "attempts")) == [("outer", "failed", 1)]


# -- at most once ----------------------------------------------------------------------------------


def test_at_least_once_a_step_cut_off_is_called_again(calls: list[int]) -> None:
    """A step that its worker died in is called again, and the crash counts as no attempt."""

    def work() -> str:
        calls.append(current_step().attempt)
        if len(calls) == 1:
            raise _Crash
        return "done"

    @workflow("steps.again")
    def flow(ctx: Context) -> str:
        return ctx.step("work", work, retry=ONCE)

    run_id = flow.start()
    crash()
    run_until_idle()
    assert flow.result(run_id) == "done"
    assert calls == [1, 1]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_at_most_once_a_step_cut_off_is_not_called_again(calls: list[int], asynchronous: bool) -> None:
    """The attempt is recorded before the call; found without a result, it was interrupted, and that is final."""

    def work() -> None:
        calls.append(StepRecord.objects.get().attempts)
        raise _Crash

    answers: list[Any] = []

    def note(error: StepFailed) -> None:
        answers.append((type(error), error.step, error.attempts, error.is_a(StepInterrupted), str(error)))

    @workflow("steps.at-most-once")
    def plain(ctx: Context) -> None:
        try:
            ctx.step("work", work, at_most_once=True)
        except StepFailed as error:
            note(error)
        ctx.sleep("nap", 60)

    @workflow("steps.at-most-once-async")
    async def awaited(ctx: AsyncContext) -> None:
        try:
            await ctx.step("work", work, at_most_once=True)
        except StepFailed as error:
            note(error)
        await ctx.sleep("nap", 60)

    flow: Any = awaited if asynchronous else plain
    run_id = flow.start()
    crash()
    advance(HOUR)
    assert flow.status(run_id).state == "completed"
    assert calls == [1]
    says = "step 'work' was interrupted in attempt 1: its effect is not known"
    assert answers == [(StepInterrupted, "work", 1, True, says)] * 2


@pytest.mark.once
def test_at_most_once_an_exception_is_final(calls: list[int], settings: Any) -> None:
    """Without `retry=` of its own the step is called once, whatever policies workflow and settings have."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "RETRY": {"max_attempts": 5}}

    def fail() -> None:
        calls.append(1)
        raise TransientError

    @workflow("steps.at-most-once-final", retry=SOON)
    def flow(ctx: Context) -> None:
        ctx.step("fail", fail, at_most_once=True)

    run_id = flow.start()
    advance(HOUR)
    assert flow.status(run_id).state == "failed"
    assert calls == [1]


@pytest.mark.once
def test_at_most_once_a_timeout_is_final(calls: list[int]) -> None:
    """A call that ran out of time may have had its effect: it is not repeated."""

    async def hang() -> None:
        calls.append(1)
        await asyncio.Event().wait()

    @workflow("steps.at-most-once-timeout", retry=SOON)
    def flow(ctx: Context) -> None:
        ctx.step("hang", hang, at_most_once=True, timeout=0.01)

    run_id = flow.start()
    advance(HOUR)
    assert flow.status(run_id).state == "failed"
    assert calls == [1]


def test_at_most_once_with_retry_each_outcome_is_one_attempt(calls: list[int]) -> None:
    """With `retry=` given, a crash, an exception and a success are three attempts, numbered and recorded."""

    def work() -> str:
        calls.append(current_step().attempt)
        if len(calls) == 1:
            raise _Crash
        if len(calls) == 2:
            raise TransientError("not yet")
        return "done"

    @workflow("steps.at-most-once-retry")
    def flow(ctx: Context) -> str:
        return ctx.step("work", work, at_most_once=True, retry=SOON)

    run_id = flow.start()
    crash()
    advance(HOUR)
    assert flow.result(run_id) == "done"
    assert calls == [1, 2, 3]
    row = StepRecord.objects.get(run_id=run_id)
    assert row.attempts == 3
    assert [part in row.errors for part in ("StepInterrupted", "TransientError", "not yet")] == [True, True, True]


def test_at_most_once_with_retry_only_crashes(calls: list[int]) -> None:
    """Crashes use up the attempts of the policy; the failure lists each interruption."""

    def work() -> None:
        calls.append(current_step().attempt)
        raise _Crash

    caught: list[StepFailed] = []

    @workflow("steps.at-most-once-crashes")
    def flow(ctx: Context) -> None:
        try:
            ctx.step("work", work, at_most_once=True, retry=Retry(max_attempts=2, initial=1))
        except StepFailed as error:
            caught.append(error)

    run_id = flow.start()
    crash()
    run_until_idle()
    with pytest.raises(_Crash):
        advance(60)
    advance(60)
    assert flow.status(run_id).state == "completed"
    assert calls == [1, 2]
    assert (type(caught[0]), caught[0].attempts, len(caught[0].errors)) == (StepInterrupted, 2, 2)


# -- suspension ------------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize("kind", ["sleep", "wait", "retry"])
def test_p2_except_exception_does_not_swallow_a_suspension(calls: list[str], kind: str) -> None:
    """`except Exception` around a sleep, a wait or a step lets the run suspend; what is held is let go of."""

    def work() -> str:
        if "tried" not in calls:
            calls.append("tried")
            raise TransientError
        return "done"

    @workflow("steps.p2")
    def flow(ctx: Context) -> str:
        try:
            if kind == "sleep":
                ctx.sleep("nap", 60)
            elif kind == "wait":
                ctx.wait_for("nap", "news", timeout=60, default=None)
            else:
                ctx.step("nap", work, retry=SOON)
        except Exception:  # noqa: BLE001 - the point of the test
            calls.append("swallowed")
        finally:
            calls.append("finally")
        return "over"

    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state in {"sleeping", "waiting", "retrying"}
    advance(HOUR)
    assert flow.result(run_id) == "over"
    assert "swallowed" not in calls
    assert calls.count("finally") == 2


@pytest.mark.once
@pytest.mark.parametrize("asynchronous", [False, True])
def test_p2_a_bare_except_does_not_keep_the_run_from_suspending(calls: list[str], asynchronous: bool) -> None:
    """Swallowed, a suspension is raised again by every further context call, and the return value is ignored."""

    @workflow("steps.p2-bare")
    def plain(ctx: Context) -> str:
        try:
            ctx.sleep("nap", 60)
        except:  # noqa: E722 - the point of the test
            calls.append("swallowed")
        for call in (
            lambda: ctx.step("more", calls.append, "called"),
            lambda: ctx.sleep("more", 1),
            lambda: ctx.wait_for("more", "news"),
            ctx.now,
            lambda: ctx.random,
            lambda: ctx.uuid("more"),
            lambda: ctx.set_attributes(a=1),
            lambda: ctx.progress(1),
        ):
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - the point of the test
                calls.append(type(error).__name__)
        return "too early"

    @workflow("steps.p2-bare-async")
    async def awaited(ctx: AsyncContext) -> str:
        try:
            await ctx.sleep("nap", 60)
        except:  # noqa: E722 - the point of the test
            calls.append("swallowed")
        try:
            await ctx.step("more", calls.append, "called")
        except BaseException as error:  # noqa: BLE001 - the point of the test
            calls.extend([type(error).__name__] * 8)
        return "too early"

    flow: Any = awaited if asynchronous else plain
    run_id = flow.start()
    run_until_idle()
    status = flow.status(run_id)
    assert (status.state, status.result, status.attributes) == ("sleeping", None, {})
    assert calls[0] == "swallowed"
    assert len(calls) == 9
    assert len(set(calls[1:])) == 1
    assert calls[1] != "called"


@pytest.mark.once
def test_p2_raising_something_else_out_of_a_suspension_fails_nothing() -> None:
    """A `finally` or `except` that raises its own error while the run suspends does not end the run."""
    first = [True]

    @workflow("steps.p2-raise")
    def flow(ctx: Context) -> str:
        try:
            ctx.sleep("nap", 60)
        finally:
            if first:
                first.clear()
                raise ValueError("from the finally")
        return "over"

    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "sleeping"
    advance(60)
    assert flow.result(run_id) == "over"


# -- work ------------------------------------------------------------------------------------------


def test_p8_the_work_of_steps_is_linear_in_their_number() -> None:
    """Twice as many steps ask twice as much of the database, and call twice as many Python functions."""

    @workflow("steps.p8")
    def flow(ctx: Context, number: int) -> int:
        return sum(ctx.step("one", lambda: 1) for _ in range(number))

    def cost(number: int) -> tuple[int, int]:
        run_id = flow.start(number)
        counted = [0]

        def count(_frame: Any, event: str, _argument: Any) -> None:
            if event == "call":
                counted[0] += 1

        with CaptureQueriesContext(connection) as queries:
            sys.setprofile(count)
            try:
                run_until_idle()
            finally:
                sys.setprofile(None)
        assert flow.result(run_id) == number
        return len(queries), counted[0]

    cost(10)  # What is made once and kept is made here.
    few, more, most = (cost(number) for number in (50, 100, 200))
    # Nearly: on a slow machine one of them asks once more how its run stands before it begins.
    for kind in (0, 1):
        growth = (most[kind] - more[kind]) / (more[kind] - few[kind])
        assert growth == pytest.approx(2, rel=0.05)


def test_p8_two_thousand_steps_are_read_at_once_and_replayed_without_a_question() -> None:
    """A run of 2,000 steps completes; resumed, it loads its records with one SELECT, and asks nothing per step."""

    @workflow("steps.p8-replay")
    def flow(ctx: Context, number: int) -> int:
        total = sum(ctx.step("one", lambda: 1) for _ in range(number))
        ctx.sleep("nap", 60)
        return total

    def resumed(number: int) -> tuple[int, int]:
        run_id = flow.start(number)
        run_until_idle()
        with CaptureQueriesContext(connection) as queries:
            advance(60)
        assert flow.result(run_id) == number
        reads = [query["sql"] for query in queries if "canx_flow_steprecord" in query["sql"]]
        return len(queries), len([sql for sql in reads if sql.startswith("SELECT")])

    assert resumed(2000) == resumed(2)


# -- what a context tells --------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_now_uuid_and_random_are_the_same_on_every_replay(asynchronous: bool) -> None:
    """Asked again on replay, they answer as they did; asked twice, they go on."""
    seen: list[Any] = []

    def look(ctx: Any) -> None:
        uuids = [ctx.uuid("order"), ctx.uuid("order"), ctx.uuid("other")]
        seen.append([ctx.now(), ctx.now(), *uuids, ctx.random.random(), ctx.random.randint(1, 10**9)])

    @workflow("steps.stable")
    def plain(ctx: Context) -> None:
        look(ctx)
        ctx.step("work", lambda: None)
        ctx.sleep("nap", HOUR)
        ctx.sleep("nap", HOUR)
        seen.append(ctx.now())

    @workflow("steps.stable-async")
    async def awaited(ctx: AsyncContext) -> None:
        look(ctx)
        await ctx.step("work", lambda: None)
        await ctx.sleep("nap", HOUR)
        await ctx.sleep("nap", HOUR)
        seen.append(ctx.now())

    flow: Any = awaited if asynchronous else plain
    with freeze_time(START):
        flow.start()
        advance(3 * HOUR)
    first, second, third, late = seen
    assert first == second == third
    assert first[0] == first[1] == START
    assert late == START + 2 * HOUR
    assert len(set(first[2:])) == 5
    assert all(isinstance(value, UUID) for value in first[2:5])


@pytest.mark.once
def test_two_runs_draw_different_uuids_and_numbers() -> None:
    """What is stable within a run differs between runs."""

    @workflow("steps.different")
    def flow(ctx: Context) -> Any:
        return ctx.uuid("order"), ctx.random.random()

    ids = flow.start(), flow.start()
    run_until_idle()
    one, two = (flow.result(run_id) for run_id in ids)
    assert one[0] != two[0]
    assert one[1] != two[1]


def test_now_uuid_and_random_cost_no_commit() -> None:
    """A body that asks for them a hundred times writes no more often than one that does not."""

    @workflow("steps.costs")
    def flow(ctx: Context, times: int) -> None:
        for _ in range(times):
            ctx.now()
            ctx.uuid("x")
            ctx.random.random()
        ctx.step("work", lambda: None)

    def statements(times: int) -> int:
        flow.start(times)
        with CaptureQueriesContext(connection) as queries:
            run_until_idle()
        return len([query for query in queries if "INSERT" in query["sql"] or "UPDATE" in query["sql"]])

    assert statements(100) == statements(1)


@pytest.mark.once
def test_c137_the_log_is_silent_on_replay(caplog: pytest.LogCaptureFixture) -> None:
    """A line logged through `ctx.log` appears once per run, however often the body is replayed."""

    @workflow("steps.c137")
    def flow(ctx: Context) -> None:
        ctx.log.info("begun %s", 1, extra={"more": "here"})
        ctx.step("first", lambda: None)
        ctx.log.warning("first done")
        ctx.sleep("nap", 60)
        ctx.log.info("awake")
        ctx.step("second", lambda: None)
        ctx.sleep("nap", 60)
        ctx.log.info("over")

    with caplog.at_level(logging.INFO, logger="canx_flow.workflow.steps.c137"):
        run_id = flow.start()
        advance(60)
        run_until_idle()
        advance(60)
    assert flow.status(run_id).state == "completed"
    lines = [record for record in caplog.records if record.name == "canx_flow.workflow.steps.c137"]
    assert [line.getMessage() for line in lines] == ["begun 1", "first done", "awake", "over"]
    assert {(line.run_id, line.workflow) for line in lines} == {(str(run_id), "steps.c137")}  # type: ignore[attr-defined]
    assert lines[0].more == "here"  # type: ignore[attr-defined]


@pytest.mark.once
def test_is_replaying_is_true_until_the_first_new_operation() -> None:
    """True while what comes next is expected on record, False from where the run goes on."""
    seen: list[list[bool]] = []

    @workflow("steps.replaying")
    def flow(ctx: Context) -> None:
        mine = [ctx.is_replaying]
        seen.append(mine)
        ctx.step("first", lambda: None)
        mine.append(ctx.is_replaying)
        ctx.sleep("nap", 60)
        mine.append(ctx.is_replaying)
        ctx.step("second", lambda: None)
        mine.append(ctx.is_replaying)

    flow.start()
    advance(60)
    assert seen == [[False, False], [True, True, False, False]]


@pytest.mark.once
def test_a_context_knows_its_run() -> None:
    """`run_id` and `workflow` say which run this is."""

    @workflow("steps.knows")
    def flow(ctx: Context) -> Any:
        return ctx.run_id, ctx.workflow

    run_id = flow.start()
    run_until_idle()
    assert flow.result(run_id) == (run_id, "steps.knows")


def test_attributes_are_what_the_body_has_set_so_far() -> None:
    """Attributes are written with the next commit, added to those of the start, and held back while replaying."""
    seen: list[Any] = []

    @workflow("steps.attributes")
    def flow(ctx: Context) -> None:
        def note() -> None:
            seen.append(get_run(ctx.run_id).attributes)

        ctx.set_attributes(phase="one", items=[1, {"a": None}])
        ctx.step("first", note)
        ctx.set_attributes(phase="two")
        ctx.sleep("nap", 60)
        ctx.step("second", note)
        ctx.set_attributes(phase="three")

    run_id = flow.using(attributes={"customer": 7}).start()
    run_until_idle()
    assert flow.status(run_id).attributes == {"customer": 7, "phase": "two", "items": [1, {"a": None}]}
    advance(60)
    common = {"customer": 7, "items": [1, {"a": None}]}
    assert seen == [{**common, "phase": "one"}, {**common, "phase": "two"}]
    assert flow.status(run_id).attributes == {**common, "phase": "three"}
    assert [run.id for run in flow.runs.with_attributes(phase="three", customer=7)] == [run_id]


@pytest.mark.once
def test_attributes_are_as_they_were_when_they_were_set() -> None:
    """A list that is changed after it was published is published anew by setting it again, and only then."""

    @workflow("steps.attributes-list")
    def flow(ctx: Context) -> None:
        done: list[str] = []
        for name in ("a", "b", "c"):
            ctx.step(name, lambda: None)
            done.append(name)
            if name != "c":
                ctx.set_attributes(done=done)
        ctx.sleep("nap", 60)

    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).attributes == {"done": ["a", "b"]}
    advance(60)
    assert flow.status(run_id).attributes == {"done": ["a", "b"]}


def test_attributes_of_a_run_that_fails_are_kept() -> None:
    """What was set before the failure is there to be found by it."""

    @workflow("steps.attributes-failed")
    def flow(ctx: Context) -> None:
        ctx.set_attributes(phase="doomed")
        raise ValueError("no")

    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).attributes == {"phase": "doomed"}


@pytest.mark.once
def test_attributes_do_not_wait_for_a_step_that_was_removed() -> None:
    """Code that no longer makes a step which is on record still publishes what it sets until its end."""
    with_step = [True]

    @workflow("steps.attributes-removed")
    def flow(ctx: Context) -> None:
        ctx.step("first", lambda: None)
        if with_step:
            ctx.step("removed", lambda: None)
        ctx.sleep("nap", 60)
        ctx.set_attributes(phase="over")

    run_id = flow.start()
    run_until_idle()
    with_step.clear()
    advance(60)
    status = flow.status(run_id)
    assert (status.state, status.attributes) == ("completed", {"phase": "over"})


def test_progress_is_shown_while_the_run_goes_on() -> None:
    """`status().progress` is what the body said last, with what is left out filled in."""
    seen: list[Any] = []

    @workflow("steps.progress")
    def flow(ctx: Context) -> None:
        ctx.progress(1, 10, "unpacking")
        ctx.step("first", lambda: seen.append(get_run(ctx.run_id).progress))
        ctx.progress(2.5)
        ctx.sleep("nap", 60)

    run_id = flow.start()
    assert flow.status(run_id).progress is None
    run_until_idle()
    assert seen == [{"done": 1, "total": 10, "message": "unpacking"}]
    assert flow.status(run_id).progress == {"done": 2.5, "total": None, "message": ""}


def test_progress_is_no_checkpoint_and_throttled() -> None:
    """However often a body reports, it makes no record, and hardly a write more."""

    @workflow("steps.progress-throttled")
    def flow(ctx: Context, reports: bool) -> None:
        for number in range(50):
            if reports:
                ctx.progress(number, 50)
            ctx.step("work", lambda: None)

    def updates(reports: bool) -> int:
        run_id = flow.start(reports)
        with CaptureQueriesContext(connection) as queries:
            run_until_idle()
        assert StepRecord.objects.filter(run_id=run_id).count() == 50
        return len([query for query in queries if query["sql"].startswith("UPDATE")])

    with freeze_time(START):
        assert updates(reports=True) <= updates(reports=False) + 3


# -- the step itself -------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_step_function_may_ask_where_it_is(calls: list[Any], asynchronous: bool) -> None:
    """`current_step()` gives run, whole key, attempt and idempotency key in plain and async steps, and only there."""

    def work() -> None:
        assert in_step()
        step = current_step()
        calls.append((step.run_id, step.name, step.attempt, step.idempotency_key))

    async def awork() -> None:
        await asyncio.sleep(0)
        work()

    def outside() -> None:
        assert not in_step()
        with pytest.raises(NotInStep, match="outside a step"):
            current_step()

    @workflow("steps.current")
    def plain(ctx: Context) -> None:
        for function in (work, awork, work):
            outside()
            ctx.step("work", function)

    @workflow("steps.current-async")
    async def awaited(ctx: AsyncContext) -> None:
        for function in (work, awork, work):
            outside()
            await ctx.step("work", function)

    flow: Any = awaited if asynchronous else plain
    outside()
    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "completed"
    assert [call[:3] for call in calls] == [(run_id, "work", 1), (run_id, "work#2", 1), (run_id, "work#3", 1)]
    keys = {call[3] for call in calls}
    assert len(keys) == 3
    assert all(str(UUID(key)) == key for key in keys)


@pytest.mark.once
def test_the_idempotency_key_is_stable_over_retries_and_crashes(calls: list[str]) -> None:
    """One step has one key, whatever happens to its attempts and its worker; another run's step has another."""

    def work() -> None:
        calls.append(current_step().idempotency_key)
        if len(calls) == 1:
            raise _Crash
        if len(calls) == 2:
            raise TransientError

    @workflow("steps.idempotency")
    def flow(ctx: Context) -> None:
        ctx.step("work", work, retry=SOON)

    flow.start()
    crash()
    advance(60)
    flow.start()
    run_until_idle()
    assert len(calls) == 4
    assert len(set(calls[:3])) == 1
    assert calls[3] != calls[0]


# -- wrong use -------------------------------------------------------------------------------------


@pytest.mark.once
def test_a_context_belongs_to_its_thread(calls: list[Any]) -> None:
    """Every context call from another thread raises WrongContext; the body's own thread goes on."""

    def attempt(call: Callable[[], Any]) -> None:
        try:
            call()
        except WrongContext as error:
            calls.append(str(error))
        finally:
            connections.close_all()

    @workflow("steps.thread")
    def flow(ctx: Context) -> str:
        for call in (
            lambda: ctx.step("x", lambda: 1),
            lambda: ctx.sleep("x", 1),
            lambda: ctx.sleep_until("x", START),
            lambda: ctx.wait_for("x", "news"),
            ctx.now,
            lambda: ctx.uuid("x"),
            lambda: ctx.random,
            lambda: ctx.set_attributes(a=1),
            lambda: ctx.progress(1),
        ):
            thread = threading.Thread(target=attempt, args=(call,))
            thread.start()
            thread.join()
        return ctx.step("x", lambda: "mine")

    run_id = flow.start()
    run_until_idle()
    assert flow.result(run_id) == "mine"
    assert len(calls) == 9
    assert all("in another thread" in says and str(run_id) in says for says in calls)
    assert list(flow.runs.get().records.values_list("name", flat=True)) == ["x"]


@pytest.mark.once
def test_an_async_context_belongs_to_its_task(calls: list[Any]) -> None:
    """Its calls are made there; of two that are awaited side by side, as `asyncio.gather` does, one is refused."""

    @workflow("steps.task")
    async def flow(ctx: AsyncContext) -> str:
        results = await asyncio.gather(
            ctx.step("one", lambda: 1), ctx.step("two", lambda: 2), asyncio.to_thread(ctx.now), return_exceptions=True
        )
        calls.extend(results)
        return await ctx.step("x", lambda: "mine")

    run_id = flow.start()
    run_until_idle()
    assert flow.result(run_id) == "mine"
    assert [type(result) for result in calls] == [int, WrongContext, WrongContext]
    assert "ctx.step('two')" in str(calls[1])
    assert "ctx.step('one') is under way" in str(calls[1])
    assert "ctx.gather" in str(calls[1])
    assert list(flow.runs.get().records.values_list("name", flat=True)) == ["one", "x"]


@pytest.mark.once
@pytest.mark.parametrize("asynchronous", [False, True])
def test_every_context_call_is_refused_inside_a_step(calls: list[Any], asynchronous: bool) -> None:
    """Inside a step function the context answers nothing but who the run is."""

    def look(ctx: Any) -> None:
        for call in (
            ctx.now,
            lambda: ctx.uuid("x"),
            lambda: ctx.random,
            lambda: ctx.set_attributes(a=1),
            lambda: ctx.progress(1),
        ):
            with pytest.raises(WrongContext, match="inside a step function"):
                call()
        calls.append(ctx.run_id)

    @workflow("steps.inside")
    def plain(ctx: Context) -> None:
        def refused() -> None:
            look(ctx)
            for call in (lambda: ctx.sleep("x", 1), lambda: ctx.wait_for("x", "news")):
                with pytest.raises(WrongContext):
                    call()

        ctx.step("work", refused, retry=ONCE)

    @workflow("steps.inside-async")
    async def awaited(ctx: AsyncContext) -> None:
        async def refused() -> None:
            look(ctx)
            for call in (lambda: ctx.sleep("x", 1), lambda: ctx.wait_for("x", "news")):
                with pytest.raises(WrongContext):
                    await call()

        await ctx.step("work", refused, retry=ONCE)
        await ctx.step("plain", look, ctx, retry=ONCE)

    flow: Any = awaited if asynchronous else plain
    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "completed", flow.status(run_id).error
    assert set(calls) == {run_id}
    assert flow.status(run_id).attributes == {}


@pytest.mark.once
def test_a_context_ends_with_its_activation(calls: list[Any]) -> None:
    """A context that was kept is refused in another run's body, in a later replay, and outside any body."""
    kept: list[Context] = []

    def use(ctx: Context) -> None:
        for call in (lambda: ctx.step("stolen", calls.append, "called"), ctx.now, lambda: ctx.sleep("stolen", 1)):
            with pytest.raises(WrongContext):
                call()

    @workflow("steps.keeper")
    def keeper(ctx: Context) -> None:
        for old in kept:
            use(old)
        kept.append(ctx)
        ctx.sleep("nap", 60)

    @workflow("steps.thief")
    def thief(ctx: Context) -> str:
        use(kept[0])
        return ctx.step("own", lambda: "fine")

    first = keeper.start()
    run_until_idle()
    second = thief.start()
    run_until_idle()
    assert thief.status(second).state == "completed", thief.status(second).error
    use(kept[0])
    advance(60)
    assert keeper.status(first).state == "completed", keeper.status(first).error
    assert calls == []
    assert not StepRecord.objects.filter(name="stolen").exists()


def _outside(run_id: UUID, other: Any) -> dict[str, Callable[[], Any]]:
    """Every call that is made about runs from outside, by name, on a run of the workflow `other`."""
    subject = Effect(pk=1)
    subject._state.adding = False
    return {
        "start": other.start,
        "using": lambda: other.using(key="k").start(),
        "start_many": lambda: other.start_many([()]),
        "status": lambda: other.status(run_id),
        "result": lambda: other.result(run_id),
        "cancel": lambda: other.cancel(run_id),
        "retry": lambda: other.retry(run_id),
        "rerun": lambda: other.rerun(run_id),
        "pause": lambda: other.pause(run_id),
        "resume": lambda: other.resume(run_id),
        "wake": lambda: other.wake(run_id),
        "send": lambda: other.send(run_id, "news"),
        "send_event": lambda: send_event("news"),
        "runs": lambda: other.runs,
        "get_run": lambda: get_run(run_id),
        "client.get_run": lambda: client.get_run(run_id),
        "client.cancel": lambda: client.cancel(run_id),
        "client.runs": client.runs,
        "for_subject": lambda: WorkflowRun.objects.for_subject(subject),
        "states": lambda: WorkflowRun.objects.states("failed"),
        "with_attributes": lambda: WorkflowRun.objects.with_attributes(a=1),
        "bulk cancel": lambda: WorkflowRun.objects.filter(id=run_id).cancel(),
        "bulk retry": lambda: WorkflowRun.objects.none().retry(),
    }


@workflow("steps.other")
def other_flow(ctx: Context) -> str:
    """The run that bodies and steps ask about."""
    return "done"


@pytest.mark.once
def test_calls_from_outside_are_refused_in_a_body() -> None:
    """Every call about runs, reads too, raises OutsideStep in a body: there it would happen at every replay."""
    other = other_flow.using(delay=HOUR).start()
    refused: dict[str, str] = {}

    @workflow("steps.outside-step")
    def flow(ctx: Context) -> None:
        for name, call in _outside(other, other_flow).items():
            try:
                call()
            except OutsideStep as error:
                refused[name] = str(error)

    run_id = flow.start()
    run_until_idle()
    assert set(refused) == set(_outside(other, other_flow))
    assert all("Put it into a step" in says and str(run_id) in says for says in refused.values())
    assert other_flow.status(other).state == "sleeping"
    assert other_flow.runs.count() == 1
    assert not Event.objects.exists()


@pytest.mark.once
def test_async_twins_are_refused_in_an_async_body() -> None:
    """The same for the async twins in an `async def` workflow, and for plain calls in it."""
    other = other_flow.using(delay=HOUR).start()
    refused: list[str] = []

    @workflow("steps.outside-step-async")
    async def flow(ctx: AsyncContext) -> None:
        for call in (
            other_flow.astart,
            lambda: other_flow.using(key="k").astart(),
            lambda: other_flow.astart_many([()]),
            lambda: other_flow.astatus(other),
            lambda: other_flow.aresult(other),
            lambda: other_flow.acancel(other),
            lambda: other_flow.aretry(other),
            lambda: other_flow.arerun(other),
            lambda: other_flow.apause(other),
            lambda: other_flow.aresume(other),
            lambda: other_flow.awake(other),
            lambda: other_flow.asend(other, "news"),
            lambda: client.aget_run(other),
            lambda: client.asend_event("news"),
        ):
            with pytest.raises(OutsideStep):
                await call()
            refused.append("async")
        for plain in _outside(other, other_flow).values():
            with pytest.raises(OutsideStep):
                plain()
            refused.append("plain")

    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "completed", flow.status(run_id).error
    assert refused.count("async") == 14
    assert WorkflowRun.objects.count() == 2


def test_calls_from_outside_are_welcome_in_a_step() -> None:
    """Inside a step they do what they do anywhere; only waiting for a result would hold the step."""
    other = other_flow.using(delay=HOUR).start()
    failed: dict[str, str] = {}

    def work() -> None:
        for name, call in _outside(other, other_flow).items():
            try:
                call()
            except InvalidState as error:
                failed[name] = str(error)

    @workflow("steps.in-step")
    def flow(ctx: Context) -> None:
        ctx.step("work", work, retry=ONCE)

    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "completed", flow.status(run_id).error
    # Retry and send come after the cancellation.
    assert set(failed) == {"result", "retry", "send"}
    assert "inside a step" in failed["result"]


@pytest.mark.once
def test_a_receiver_of_a_signal_is_not_the_body() -> None:
    """A receiver of `step_completed` may ask about the run: it is called beside the body, not by it."""
    seen: list[str] = []

    def look(sender: Any, run_id: UUID, **kwargs: Any) -> None:
        seen.append(get_run(run_id).state)

    @workflow("steps.receiver")
    def flow(ctx: Context) -> None:
        ctx.step("first", lambda: None)
        ctx.step("second", lambda: None)

    signals.step_completed.connect(look)
    try:
        flow.start()
        run_until_idle()
    finally:
        signals.step_completed.disconnect(look)
    assert len(seen) == 2


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.parametrize("alias", ["default", "other"])
def test_a_context_call_inside_a_transaction_of_the_body_is_refused(calls: list[Any], alias: str) -> None:
    """A body must not hold a transaction over a context call: InsideTransaction, whichever database it is on."""

    @workflow("steps.inside-transaction")
    def flow(ctx: Context) -> str:
        with transaction.atomic(using=alias):
            for call in (
                lambda: ctx.step("x", calls.append, "called"),
                lambda: ctx.sleep("x", 1),
                lambda: ctx.wait_for("x", "news"),
                ctx.now,
                lambda: ctx.uuid("x"),
                lambda: ctx.random,
                lambda: ctx.set_attributes(a=1),
                lambda: ctx.progress(1),
            ):
                with pytest.raises(InsideTransaction, match=f"inside a transaction on '{alias}'"):
                    call()
        return ctx.step("x", lambda: "after")

    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "completed", flow.status(run_id).error
    assert flow.result(run_id) == "after"
    assert calls == []


@pytest.mark.once
def test_inside_transaction_uncaught_fails_the_run_and_rolls_back() -> None:
    """Uncaught it fails the run with that error, in a test case's own transaction too."""

    @workflow("steps.inside-transaction-fails")
    def flow(ctx: Context) -> None:
        with transaction.atomic():
            ctx.step("x", lambda: None)

    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).reason == "InsideTransaction"
    assert not StepRecord.objects.exists()


# -- the database away -----------------------------------------------------------------------------


@pytest.mark.once
def test_an_operational_error_in_the_body_is_an_outage(calls: list[int]) -> None:
    """Leaving the body, it hands the run back for a while that grows, and is no failure of the run."""

    @workflow("steps.outage")
    def flow(ctx: Context) -> str:
        calls.append(1)
        if len(calls) < 4:
            raise OperationalError("server closed the connection unexpectedly")
        return "done"

    waits: list[float] = []
    with freeze_time(START) as frozen:
        run_id = flow.start()
        for _ in range(3):
            run_until_idle()
            status = flow.status(run_id)
            assert (status.state, status.error) == ("retrying", None)
            assert status.resume_at is not None
            waits.append((status.resume_at - datetime.now(UTC)).total_seconds())
            frozen.tick(timedelta(seconds=waits[-1]))
        run_until_idle()
    assert flow.result(run_id) == "done"
    assert waits == sorted(waits)
    assert waits[0] > 0


@pytest.mark.once
def test_an_outage_without_end_fails_the_run(calls: list[int], settings: Any) -> None:
    """After MAX_RECOVERIES hand-backs in a row without a new record, the database being there, the run fails."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "MAX_RECOVERIES": 3}

    @workflow("steps.outage-ends")
    def flow(ctx: Context) -> None:
        ctx.step("work", lambda: None)
        calls.append(1)
        raise OperationalError("no such table")

    run_id = flow.start()
    advance(timedelta(days=1))
    status = flow.status(run_id)
    assert (status.state, status.reason) == ("failed", "OperationalError")
    assert len(calls) == 4


@pytest.mark.once
def test_an_operational_error_in_a_step_is_the_step_s() -> None:
    """In a step it is an exception like any other: a failed attempt, retried by the policy."""
    errors = [OperationalError("gone")]

    def work() -> str:
        if errors:
            raise errors.pop()
        return "done"

    @workflow("steps.outage-step")
    def flow(ctx: Context) -> str:
        return ctx.step("work", work, retry=SOON)

    run_id = flow.start()
    advance(60)
    assert flow.result(run_id) == "done"
    assert StepRecord.objects.get(run_id=run_id).attempts == 2


# -- what the workflow returns ---------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize(
    ("value", "reason"), [(object, "NotSerializable"), (lambda: "x" * 1_000_001, "PayloadTooLarge")]
)
def test_a_return_value_that_cannot_be_stored_fails_the_run(value: Callable[[], Any], reason: str) -> None:
    """The run fails with that error, its steps kept; it is not replayed for it."""

    @workflow("steps.return")
    def flow(ctx: Context) -> Any:
        ctx.step("work", lambda: "kept")
        return value()

    run_id = flow.start()
    assert run_until_idle() == 1
    status = flow.status(run_id)
    assert (status.state, status.reason) == ("failed", reason)
    assert f"the return value of run {run_id}" in status.error["message"]  # type: ignore[index]
    assert StepRecord.objects.get(run_id=run_id).state == "completed"
    assert not Timer.objects.exists()


@pytest.fixture(autouse=True)
def _no_profile_left() -> Iterator[None]:
    """A test that counts calls leaves no profile function behind."""
    before = sys.getprofile()
    yield
    sys.setprofile(before)
