"""Limits of steps under the inline driver, whose clock is moved: rates, places, what is reserved, and bad input."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from canx_flow import AsyncContext, Context, Retry, StepFailed, queues, workflow
from canx_flow.core import clock
from canx_flow.models import LimitBucket, LimitHolder, StepRecord, Timer, Worker, WorkflowRun
from canx_flow.store import limits
from canx_flow.testing import advance, run_until_idle

pytestmark = pytest.mark.django_db

LIMITS = {
    "slow": {"rate": "1/m"},
    "burst": {"rate": "60/m", "burst": 3},
    "places": {"concurrency": 2},
    "both": {"rate": "1/m", "concurrency": 1},
}


@pytest.fixture(autouse=True)
def _limits(settings: Any) -> None:
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LIMITS": LIMITS}


@pytest.fixture
def began() -> list[Any]:
    """The moments at which steps were called."""
    return []


def _seconds(began: list[Any]) -> list[int]:
    return [round((moment - began[0]).total_seconds()) for moment in began]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_rate_is_kept_by_runs_that_wait_their_turn(began: list[Any], asynchronous: bool) -> None:
    """Five runs of a step limited to one a minute begin a minute apart, in the order in which they asked."""

    @workflow("limits.slow")
    def plain(ctx: Context, number: int) -> int:
        return ctx.step("call", lambda: began.append(clock.now()) or number, limit="slow")

    @workflow("limits.slow-async")
    async def awaited(ctx: AsyncContext, number: int) -> int:
        return await ctx.step("call", lambda: began.append(clock.now()) or number, limit="slow")

    flow: Any = awaited if asynchronous else plain
    runs = flow.start_many([(number,) for number in range(5)])
    run_until_idle()
    states = [flow.status(run_id).state for run_id in runs]
    assert states == ["completed", *["sleeping"] * 4]
    waits = [flow.status(run_id).resume_at for run_id in runs[1:]]
    assert waits == sorted(waits)
    advance(timedelta(minutes=4))
    assert [flow.status(run_id).state for run_id in runs] == ["completed"] * 5
    assert _seconds(began) == [0, 60, 120, 180, 240]
    assert [flow.result(run_id) for run_id in runs] == [0, 1, 2, 3, 4]
    assert not Timer.objects.exists()


def test_a_burst_begins_at_once_and_fills_again(began: list[Any]) -> None:
    """As many as the burst begin at once, the others at the rate."""

    @workflow("limits.burst")
    def flow(ctx: Context) -> None:
        ctx.step("call", lambda: began.append(clock.now()), limit="burst")

    flow.start_many([()] * 6)
    run_until_idle()
    assert len(began) == 3
    advance(3)
    assert _seconds(began) == [0, 0, 0, 1, 2, 3]


def test_a_call_may_cost_several_starts(began: list[Any]) -> None:
    """A call with a cost takes as many starts of the rate."""

    @workflow("limits.cost")
    def flow(ctx: Context) -> None:
        for _ in range(3):
            ctx.step("call", lambda: began.append(clock.now()), limit="burst", cost=3)

    flow.start()
    run_until_idle()
    advance(10)
    assert _seconds(began) == [0, 3, 6]


def test_each_key_has_a_bucket_of_its_own(began: list[Any]) -> None:
    """What one account has used up leaves others alone."""

    @workflow("limits.keys")
    def flow(ctx: Context, account: Any) -> None:
        ctx.step("call", lambda: began.append(account), limit=("slow", account))

    some = UUID(int=7)
    flow.start_many([("a",), ("b",), ("a",), (7,), (some,)])
    run_until_idle()
    assert began == ["a", "b", 7, some]
    advance(60)
    assert began == ["a", "b", 7, some, "a"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_branches_and_items_keep_the_rate(began: list[Any], asynchronous: bool) -> None:
    """In gather and in map each step takes its own start, and the others of its run go on meanwhile."""

    def call(_item: int = 0) -> None:
        began.append(clock.now())

    @workflow("limits.branches")
    def plain(ctx: Context) -> str:
        ctx.gather(
            left=lambda below: below.step("call", call, limit="slow"),
            right=lambda below: below.step("call", call, limit="slow"),
            other=lambda below: below.step("free", lambda: None),
        )
        ctx.map("all", call, [1, 2], limit="slow")
        return "done"

    @workflow("limits.branches-async")
    async def awaited(ctx: AsyncContext) -> str:
        async def limited(below: AsyncContext) -> None:
            await below.step("call", call, limit="slow")

        async def free(below: AsyncContext) -> None:
            await below.step("free", lambda: None)

        await ctx.gather(left=limited, right=limited, other=free)
        await ctx.map("all", call, [1, 2], limit="slow")
        return "done"

    flow: Any = awaited if asynchronous else plain
    run_id = flow.start()
    run_until_idle()
    assert StepRecord.objects.filter(run_id=run_id, name="other/free", state="completed").exists()
    advance(timedelta(minutes=5))
    assert flow.result(run_id) == "done"
    assert _seconds(began) == [0, 60, 120, 180]


def test_a_retry_takes_a_start_of_its_own(began: list[Any]) -> None:
    """Each attempt waits for the limit anew; waiting is no attempt, and leaves nothing in the record."""

    def fail() -> None:
        began.append(clock.now())
        if len(began) < 3:
            raise ValueError("no")

    @workflow("limits.retry")
    def flow(ctx: Context) -> None:
        ctx.step("call", fail, limit="slow", retry=Retry(initial=1, jitter=0))

    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "retrying"
    advance(2)
    assert flow.status(run_id).state == "sleeping"
    advance(timedelta(minutes=3))
    assert flow.status(run_id).state == "completed"
    assert _seconds(began) == [0, 60, 120]
    assert StepRecord.objects.get(run_id=run_id).attempts == 3


def test_a_step_that_fails_for_good_keeps_nothing_of_its_limit() -> None:
    """What was reserved for it is gone from its record, and so is its place."""

    def fail() -> None:
        raise ValueError("no")

    @workflow("limits.fails")
    def flow(ctx: Context) -> str:
        try:
            ctx.step("call", fail, limit="both", retry=Retry(max_attempts=1))
        except StepFailed:
            return "caught"
        return "never"

    runs = flow.start_many([()] * 2)
    advance(60)
    assert [flow.result(run_id) for run_id in runs] == ["caught"] * 2
    assert set(StepRecord.objects.values_list("state", "result")) == {("failed", None)}
    assert not LimitHolder.objects.exists()


@pytest.mark.parametrize("option", ["atomic", "at_most_once", "timeout", "compensate"])
def test_limits_go_with_every_other_option(began: list[Any], option: str) -> None:
    """A step that is atomic, called once at most, in limited time, or undone waits as any other, and is called once."""
    given: Any = {"timeout": {"timeout": 5}, "compensate": {"compensate": lambda _result: None}}.get(
        option, {option: True}
    )

    @workflow("limits.options")
    def flow(ctx: Context) -> int:
        return ctx.step("call", lambda: began.append(clock.now()) or 7, limit="both", **given)

    runs = flow.start_many([()] * 3)
    advance(timedelta(minutes=2))
    assert [flow.result(run_id) for run_id in runs] == [7] * 3
    assert _seconds(began) == [0, 60, 120]
    assert not LimitHolder.objects.exists()


def test_a_replay_asks_for_no_limit(began: list[Any], settings: Any) -> None:
    """A step that is over is returned, whatever has become of its limit."""

    @workflow("limits.replay")
    def flow(ctx: Context) -> int:
        answer = ctx.step("call", lambda: began.append(1) or 5, limit="slow")
        ctx.sleep("nap", 3600)
        return answer

    run_id = flow.start()
    run_until_idle()
    before = LimitBucket.objects.get().tat
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LIMITS": {}}
    advance(3600)
    assert flow.result(run_id) == 5
    assert (began, LimitBucket.objects.get().tat) == ([1], before)


def test_an_outage_of_ten_minutes_does_not_end_in_a_burst(began: list[Any]) -> None:
    """Starts that are found late by more than the burst are reserved anew, so the rate holds after the outage, too."""

    @workflow("limits.outage")
    def flow(ctx: Context) -> None:
        ctx.step("call", lambda: began.append(clock.now()), limit="slow")

    runs = flow.start_many([()] * 12)
    run_until_idle()
    assert len(began) == 1
    clock.shift(timedelta(minutes=10))  # Nobody has worked meanwhile: whatever fell due is found now.
    run_until_idle()
    advance(timedelta(minutes=30))
    assert [flow.status(run_id).state for run_id in runs] == ["completed"] * 12
    apart = [(after - before).total_seconds() for before, after in pairwise(began[1:])]
    # One may still be within its burst when it is found.
    assert all(seconds > 59 for seconds in apart[1:])
    assert len(apart) == 10


def test_a_paused_run_reserves_anew_when_it_goes_on(began: list[Any]) -> None:
    """A run that was paused over its moment waits for another one."""

    @workflow("limits.paused")
    def flow(ctx: Context) -> None:
        ctx.step("call", lambda: began.append(clock.now()), limit="slow")

    first, second = flow.start_many([()] * 2)
    run_until_idle()
    flow.pause(second)
    advance(600)
    third = flow.start()
    run_until_idle()
    assert len(began) == 2
    flow.resume(second)
    run_until_idle()
    assert (flow.status(second).state, len(began)) == ("sleeping", 2)
    advance(60)
    assert {flow.status(run_id).state for run_id in (first, second, third)} == {"completed"}


def test_a_run_that_is_woken_early_keeps_its_moment(began: list[Any]) -> None:
    """`wake` ends a wait, and the limit still holds."""

    @workflow("limits.woken")
    def flow(ctx: Context) -> None:
        ctx.step("call", lambda: began.append(clock.now()), limit="slow")

    _first, second = flow.start_many([()] * 2)
    run_until_idle()
    moment = flow.status(second).resume_at
    assert flow.wake(second)
    run_until_idle()
    status = flow.status(second)
    assert status.state == "sleeping"
    assert status.resume_at is not None
    assert moment is not None
    assert abs((status.resume_at - moment).total_seconds()) < 1
    advance(60)
    assert _seconds(began) == [0, 60]


def test_the_loser_of_a_race_waits_no_more(began: list[Any]) -> None:
    """A branch that lost while it waited for its limit closes its timer, and the next one is not behind it."""

    @workflow("limits.race")
    def flow(ctx: Context) -> Any:
        ctx.step("first", lambda: None, limit="slow")
        return ctx.race(
            limited=lambda below: below.step("call", lambda: began.append(1), limit="slow"),
            quick=lambda below: below.sleep("nap", 1),
        )

    run_id = flow.start()
    run_until_idle()
    advance(2)
    assert flow.result(run_id) == ("quick", None)
    assert not Timer.objects.exists()
    advance(120)
    assert began == []


def test_a_cancelled_run_waits_no_more(began: list[Any]) -> None:
    """A run that is cancelled while it waits ends at once, and calls nothing."""

    @workflow("limits.cancelled")
    def flow(ctx: Context) -> None:
        ctx.step("call", lambda: began.append(1), limit="slow")

    _first, second = flow.start_many([()] * 2)
    run_until_idle()
    assert flow.cancel(second)
    assert flow.status(second).state == "cancelled"
    advance(120)
    assert began == [1]


def test_a_step_without_a_limit_asks_nothing() -> None:
    """What limits are declared costs other steps no statement."""

    @workflow("limits.none")
    def flow(ctx: Context) -> None:
        ctx.step("call", lambda: None)
        ctx.map("all", str, [1, 2, 3])

    run_id = flow.start()
    with CaptureQueriesContext(connection) as asked:
        run_until_idle()
    assert flow.status(run_id).state == "completed"
    assert asked.captured_queries
    assert not [each["sql"] for each in asked.captured_queries if "canx_flow_limit" in each["sql"]]


# -- places ----------------------------------------------------------------------------------------


def _holder(name: str = "places", *, epoch: int = 1, owned: bool = True) -> WorkflowRun:
    """Have a run of another worker hold a place."""
    owner = Worker.objects.create(host="elsewhere", pid=1)
    run = WorkflowRun.objects.create(
        id=uuid4(), workflow="elsewhere", state="running", ready=False, arguments="[]",
        owner_id=owner.id if owned else None, epoch=epoch,
    )  # fmt: skip
    LimitHolder.objects.create(name=name, run=run, step="call", epoch=1, since=clock.now())
    return run


def test_a_full_limit_lets_nobody_begin_until_there_is_a_place(began: list[Any]) -> None:
    """With all places held by other workers a run waits; it goes on once one of them is given back."""

    @workflow("limits.full")
    def flow(ctx: Context) -> str:
        return ctx.step("call", lambda: began.append(1) or "done", limit="places")

    _holder()
    held = _holder()
    run_id = flow.start()
    run_until_idle()
    assert (flow.status(run_id).state, began) == ("waiting", [])
    LimitHolder.objects.filter(run=held).delete()
    assert limits.wake("default", ("places", ""), 5) == 1
    run_until_idle()
    assert flow.result(run_id) == "done"
    assert LimitHolder.objects.count() == 1


@pytest.mark.parametrize("gone", ["released", "fenced", "deleted"])
def test_a_place_counts_as_long_as_its_worker_has_the_run(began: list[Any], gone: str) -> None:
    """What takes a run from its worker frees its place: a recovery, a hand-back, a later claim, pruning."""

    @workflow("limits.gone")
    def flow(ctx: Context) -> None:
        ctx.step("call", lambda: began.append(1), limit="both")

    run = _holder("both", epoch=2 if gone == "fenced" else 1, owned=gone != "released")
    if gone == "deleted":
        WorkflowRun.objects.filter(id=run.id)._raw_delete("default")  # type: ignore[attr-defined]
    flow.start()
    run_until_idle()
    assert began == [1]
    assert not LimitHolder.objects.exists()


def test_whoever_waits_for_a_place_goes_before_those_that_come(began: list[Any]) -> None:
    """A place that is free is left to the run that has waited for it."""

    @workflow("limits.fifo")
    def flow(ctx: Context, number: int) -> None:
        ctx.step("call", lambda: began.append(number), limit="places")

    held = [_holder(), _holder()]
    flow.start(1)
    run_until_idle()
    LimitHolder.objects.filter(run__in=held).delete()
    flow.start(2)
    run_until_idle()
    assert began == []
    assert limits.wake("default", ("places", ""), 1) == 1
    run_until_idle()
    assert limits.wake("default", ("places", ""), 1) == 1
    run_until_idle()
    assert began == [1, 2]


@pytest.mark.parametrize("paused", ["queue", "workflow"])
def test_no_place_is_kept_for_runs_that_are_not_claimed(began: list[Any], paused: str) -> None:
    """Those of a paused queue, or workflow, let others go before them, and have their turn once that is resumed."""

    @workflow("limits.held-up")
    def flow(ctx: Context, number: int) -> None:
        ctx.step("call", lambda: began.append(number), limit="both")

    @workflow("limits.not-paused")
    def other(ctx: Context, number: int) -> None:
        ctx.step("call", lambda: began.append(number), limit="both")

    held = _holder("both")
    flow.using(queue="mail").start(1)
    run_until_idle()
    other.start(2)
    run_until_idle()
    if paused == "queue":
        queues.pause("mail")
    else:
        queues.pause_workflow("limits.held-up")
    LimitHolder.objects.filter(run=held).delete()
    assert limits.wake("default", ("both", ""), 1) == 1
    advance(60)
    assert began == [2]
    other.start(3)
    advance(60)
    assert began == [2, 3]
    assert limits.wake("default", ("both", ""), 1) == 0
    if paused == "queue":
        queues.resume("mail")
    else:
        queues.resume_workflow("limits.held-up")
    assert limits.wake("default", ("both", ""), 1) == 1
    run_until_idle()
    assert began == [2, 3, 1]


def test_nobody_waits_for_ever_for_a_place_of_which_nobody_tells(began: list[Any]) -> None:
    """After five minutes a run asks for itself."""

    @workflow("limits.untold")
    def flow(ctx: Context) -> None:
        ctx.step("call", lambda: began.append(1), limit="both")

    _holder("both")
    flow.start()
    run_until_idle()
    LimitHolder.objects.all().delete()
    advance(timedelta(minutes=5))
    assert began == [1]


def test_a_run_that_waits_long_for_a_place_asks_for_itself_more_and_more_seldom() -> None:
    """Else all of thousands that wait for hours would be called every five minutes, and lose their turns by that."""

    @workflow("limits.seldom")
    def flow(ctx: Context) -> None:
        ctx.step("call", str, limit="both")

    _holder("both")
    flow.start()
    run_until_idle()
    minutes = []
    for _ in range(6):
        [due_at] = Timer.objects.values_list("due_at", flat=True)
        assert due_at is not None
        left = due_at - clock.now()
        minutes.append(round(left.total_seconds() / 60))
        advance(left)
    assert minutes == [5, 10, 20, 40, 80, 80]


def test_what_is_of_no_use_any_more_is_forgotten() -> None:
    """Buckets that are full again and places of runs that are gone are deleted; the others stay."""
    LimitBucket.objects.create(name="old", tat=5)
    LimitBucket.objects.create(name="new", tat=limits.now_of(clock.now()))
    kept, _gone, deleted = _holder(), _holder(owned=False), _holder()
    WorkflowRun.objects.filter(id=deleted.id)._raw_delete("default")  # type: ignore[attr-defined]
    assert limits.forget("default") == 3
    assert [row.name for row in LimitBucket.objects.all()] == ["new"]
    assert [row.run_id for row in LimitHolder.objects.all()] == [kept.id]


def test_runs_that_a_crash_has_cut_off_keep_their_turn(began: list[Any]) -> None:
    """Of several that waited for a place when their worker died, each takes the one that it is woken for."""

    @workflow("limits.cut-off")
    def flow(ctx: Context, number: int) -> None:
        ctx.step("call", lambda: began.append(number), limit="both")

    held = _holder("both")
    flow.start_many([(number,) for number in range(3)])
    run_until_idle()
    WorkflowRun.objects.filter(workflow="limits.cut-off").update(recoveries=1)
    LimitHolder.objects.filter(run=held).delete()
    for number in range(3):
        assert limits.wake("default", ("both", ""), 1) == 1
        advance(60)
        assert began == list(range(number + 1))


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"limit": "stripe"}, ValueError, "limit 'stripe' is not declared"),
        ({"limit": ("stripe", 1)}, ValueError, "limit 'stripe' is not declared"),
        ({"limit": 5}, TypeError, "limit must be a name or a"),
        ({"limit": ("slow", 1, 2)}, TypeError, "limit must be a name or a"),
        ({"limit": ("slow", None)}, TypeError, "the key of a limit must be"),
        ({"limit": ("slow", True)}, TypeError, "the key of a limit must be"),
        ({"limit": ("slow", "")}, ValueError, "the key of a limit must not be empty"),
        ({"limit": ("slow", "x" * 256)}, ValueError, "the key of a limit has 256"),
        ({"limit": "slow", "cost": 0}, ValueError, "cost must be at least 1"),
        ({"limit": "slow", "cost": -3}, ValueError, "cost must be at least 1"),
        ({"limit": "slow", "cost": 1.0}, TypeError, "cost must be an int"),
        ({"limit": "slow", "cost": True}, TypeError, "cost must be an int"),
        ({"limit": "burst", "cost": 4}, ValueError, "more than the burst"),
        ({"limit": "places", "cost": 2}, ValueError, "needs a rate"),
        ({"cost": 2}, ValueError, "needs limit="),
    ],
)
@pytest.mark.parametrize("call", ["step", "map"])
def test_bad_options_are_refused_at_the_call(
    call: str, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    """An unknown limit, a key that is none, a cost that no call could have: refused, with nothing called."""
    called: list[Any] = []

    @workflow("limits.bad")
    def flow(ctx: Context) -> None:
        arguments = [called.append, [1]] if call == "map" else [called.append, 1]
        with pytest.raises(error, match=words):
            getattr(ctx, call)("call", *arguments, **options)

    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).state == "completed"
    assert called == []
