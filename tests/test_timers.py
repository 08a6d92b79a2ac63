"""Sleeping: timers act at their time, once, whatever happened to the worker meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.test.utils import CaptureQueriesContext
from freezegun import freeze_time

from canx_flow import AsyncContext, Context, InvalidState, WaitTimeout, workflow
from canx_flow.core import clock
from canx_flow.models import StepRecord, Timer, WorkflowRun
from canx_flow.testing import advance, run_until_idle

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


@pytest.fixture
def calls() -> list[str]:
    """What the steps of a test did."""
    return []


# -- sleeping --------------------------------------------------------------------------------------


def test_c038_a_restart_does_not_lengthen_a_sleep() -> None:
    """An hour that began before a worker's restart ends an hour after it began, not after the restart."""

    @workflow("timers.c038")
    def sleeper(ctx: Context) -> None:
        ctx.sleep("nap", HOUR)

    with freeze_time(START) as frozen:
        run_id = sleeper.start()
        run_until_idle()
        assert sleeper.status(run_id).resume_at == START + HOUR
        frozen.tick(30 * MINUTE)
        run_until_idle()  # Another worker, half an hour later.
        assert sleeper.status(run_id).resume_at == START + HOUR
        advance(29 * MINUTE)
        assert sleeper.status(run_id).state == "sleeping"
        advance(MINUTE)
        status = sleeper.status(run_id)
        assert (status.state, status.finished_at) == ("completed", START + HOUR)


def test_c039_a_sleep_that_ended_while_no_worker_ran_ends_at_once() -> None:
    """A run whose time came while every worker was down goes on with the first worker's first turn."""

    @workflow("timers.c039")
    def sleeper(ctx: Context) -> str:
        ctx.sleep("nap", HOUR)
        return "awake"

    with freeze_time(START) as frozen:
        run_id = sleeper.start()
        run_until_idle()
        frozen.tick(timedelta(days=3))
        assert sleeper.status(run_id).state == "sleeping"
        assert run_until_idle() == 1
        status = sleeper.status(run_id)
        assert (status.result, status.finished_at) == ("awake", START + timedelta(days=3))


def test_c040_sleeping_runs_cost_a_turn_nothing(django_assert_num_queries: Callable[..., Any]) -> None:
    """However many runs sleep, none is owned or ready, and an idle turn asks the database the same few questions."""
    from django.db import connection

    @workflow("timers.c040")
    def sleeper(ctx: Context) -> None:
        ctx.sleep("nap", HOUR)

    with CaptureQueriesContext(connection) as alone:
        assert run_until_idle() == 0
    sleeper.start_many([()] * 150)
    assert run_until_idle() == 150
    assert sleeper.runs.states("sleeping").filter(owner=None, ready=False).count() == 150
    with django_assert_num_queries(len(alone)):
        assert run_until_idle() == 0


def test_c041_each_of_two_sleeps_has_its_own_time(calls: list[str]) -> None:
    """The second sleep begins where the first ended, and no replay sleeps again."""

    @workflow("timers.c041")
    def sleeper(ctx: Context) -> None:
        ctx.sleep("one", HOUR)
        ctx.step("between", calls.append, "between")
        ctx.sleep("two", 2 * HOUR)
        ctx.step("after", calls.append, "after")

    with freeze_time(START):
        run_id = sleeper.start()
        run_until_idle()
        assert (sleeper.status(run_id).step, sleeper.status(run_id).resume_at) == ("one", START + HOUR)
        advance(HOUR)
        assert (sleeper.status(run_id).step, sleeper.status(run_id).resume_at) == ("two", START + 3 * HOUR)
        advance(2 * HOUR - timedelta(seconds=1))
        assert (sleeper.status(run_id).state, calls) == ("sleeping", ["between"])
        advance(1)
        assert (sleeper.status(run_id).state, calls) == ("completed", ["between", "after"])
    slept = StepRecord.objects.filter(run_id=run_id, kind="sleep").order_by("seq")
    assert [(r.name, r.started_at, r.finished_at) for r in slept] == [
        ("one", START, START + HOUR),
        ("two", START + HOUR, START + 3 * HOUR),
    ]


@pytest.mark.parametrize("past", [timedelta(0), timedelta(microseconds=1), timedelta(days=4000)])
def test_c042_sleeping_until_a_past_moment_does_not_suspend(past: timedelta) -> None:
    """A moment that is not ahead is only recorded: one activation does it all."""

    @workflow("timers.c042")
    def sleeper(ctx: Context) -> None:
        ctx.sleep_until("then", clock.now() - past)
        ctx.sleep("no time", 0)

    with freeze_time(START):
        run_id = sleeper.start()
        assert run_until_idle() == 1
    assert sleeper.status(run_id).state == "completed"
    assert set(StepRecord.objects.filter(run_id=run_id).values_list("kind", "state")) == {("sleep", "completed")}


def test_sleeping_until_a_moment_ends_then() -> None:
    """`sleep_until` takes a moment in any zone, and ends at it."""

    @workflow("timers.until")
    def sleeper(ctx: Context) -> None:
        ctx.sleep_until("morning", datetime.fromisoformat("2026-03-02T08:00:00+09:00"))

    with freeze_time(START):
        run_id = sleeper.start()
        advance(11 * HOUR - timedelta(seconds=1))
        assert sleeper.status(run_id).resume_at == datetime(2026, 3, 1, 23, tzinfo=UTC)
        advance(1)
        assert sleeper.status(run_id).finished_at == datetime(2026, 3, 1, 23, tzinfo=UTC)


def test_c044_each_wake_in_a_loop_claims_once_and_not_early() -> None:
    """Three naps of one name are three timers; each is one activation more, at its time and no sooner."""
    woke: list[datetime] = []

    @workflow("timers.c044")
    def sleeper(ctx: Context) -> None:
        for _ in range(3):
            ctx.sleep("nap", HOUR)
            ctx.step("wake", lambda: woke.append(clock.now()))

    with freeze_time(START):
        run_id = sleeper.start()
        assert run_until_idle() == 1
        for number in range(1, 4):
            assert advance(HOUR - timedelta(microseconds=1)) == 0
            assert advance(timedelta(microseconds=1)) == 1
            assert woke == [START + hours * HOUR for hours in range(1, number + 1)]
    names = StepRecord.objects.filter(run_id=run_id).order_by("seq").values_list("name", flat=True)
    assert list(names) == ["nap", "wake", "nap#2", "wake#2", "nap#3", "wake#3"]


TOO_LONG: dict[str, Callable[[Context], object]] = {
    "sleep of a timedelta": lambda ctx: ctx.sleep("x", timedelta.max),
    "sleep of seconds": lambda ctx: ctx.sleep("x", 1e300),
    "sleep beyond the year 9998": lambda ctx: ctx.sleep("x", timedelta(days=365 * 7990)),
    "sleep until the end of time": lambda ctx: ctx.sleep_until("x", datetime.max.replace(tzinfo=UTC)),
    "sleep until the Roman empire": lambda ctx: ctx.sleep_until("x", datetime(14, 8, 19, tzinfo=UTC)),
    "wait": lambda ctx: ctx.wait_for("x", "event", timeout=1e13),
}


@pytest.mark.once
@pytest.mark.parametrize("call", TOO_LONG.values(), ids=TOO_LONG)
def test_c045_a_time_beyond_the_databases_range_is_refused_at_the_call(call: Callable[[Context], object]) -> None:
    """The call raises ValueError in the body; a run beside it is untouched."""

    @workflow("timers.c045")
    def beyond(ctx: Context) -> None:
        call(ctx)

    @workflow("timers.c045-beside")
    def beside(ctx: Context) -> None:
        ctx.sleep("nap", HOUR)

    run_id, other = beyond.start(), beside.start()
    run_until_idle()
    status = beyond.status(run_id)
    assert status.error is not None
    assert (status.state, status.error["type"]) == ("failed", "builtins.ValueError")
    assert "range" in status.error["message"] or "year 9998" in status.error["message"]
    assert not Timer.objects.filter(run_id=run_id).exists()
    advance(HOUR)
    assert beside.status(other).state == "completed"


@pytest.mark.once
@pytest.mark.parametrize(
    "options",
    [{"delay": 1e12}, {"delay": timedelta.max}, {"run_at": datetime.max.replace(tzinfo=UTC)}, {"timeout": 1e12}],
    ids=str,
)
def test_c045_a_start_beyond_the_databases_range_is_refused_at_the_call(options: dict[str, Any]) -> None:
    """The start raises ValueError in the caller, and leaves no row."""

    @workflow("timers.c045-start")
    def beyond(ctx: Context) -> None: ...

    with pytest.raises(ValueError, match=r"range|year 9998"):
        beyond.using(**options).start()
    assert not beyond.runs.exists()


BAD_TIMES: dict[str, tuple[Callable[[Context], object], type[Exception], str]] = {
    "negative": (lambda ctx: ctx.sleep("x", -1), ValueError, "duration"),
    "negative timedelta": (lambda ctx: ctx.sleep("x", -HOUR), ValueError, "duration"),
    "nan": (lambda ctx: ctx.sleep("x", float("nan")), ValueError, "duration"),
    "infinite": (lambda ctx: ctx.sleep("x", float("inf")), ValueError, "duration"),
    "larger than any float": (lambda ctx: ctx.sleep("x", 10**400), ValueError, "duration"),
    "text": (lambda ctx: ctx.sleep("x", "1h"), TypeError, "duration"),  # type: ignore[arg-type]
    "bool": (lambda ctx: ctx.sleep("x", True), TypeError, "duration"),
    "naive": (lambda ctx: ctx.sleep_until("x", datetime(2026, 1, 1)), ValueError, "moment"),
    "no datetime": (lambda ctx: ctx.sleep_until("x", 1.0), TypeError, "moment"),  # type: ignore[arg-type]
    "timeout": (lambda ctx: ctx.wait_for("x", "event", timeout=-1), ValueError, "timeout"),
}


@pytest.mark.once
@pytest.mark.parametrize(("call", "error", "argument"), BAD_TIMES.values(), ids=BAD_TIMES)
def test_a_bad_time_is_refused_at_the_call_naming_the_argument(
    call: Callable[[Context], object], error: type[Exception], argument: str
) -> None:
    """A negative or endless duration, a naive moment: the body meets the error, and nothing is recorded."""
    met: list[Exception] = []

    @workflow("timers.bad")
    def bad(ctx: Context) -> None:
        try:
            call(ctx)
        except Exception as caught:  # noqa: BLE001 - whatever it is, it is looked at below
            met.append(caught)

    run_id = bad.start()
    run_until_idle()
    assert bad.status(run_id).state == "completed"
    assert [type(caught) for caught in met] == [error]
    assert argument in str(met[0])
    assert not StepRecord.objects.filter(run_id=run_id).exists()


def test_an_async_workflow_sleeps_as_a_plain_one() -> None:
    """`await ctx.sleep` suspends an `async def` workflow in the same way."""

    @workflow("timers.async")
    async def sleeper(ctx: AsyncContext) -> str:
        await ctx.sleep("nap", HOUR)
        await ctx.sleep_until("past", START)
        return "awake"

    with freeze_time(START):
        run_id = sleeper.start()
        run_until_idle()
        assert (sleeper.status(run_id).state, sleeper.status(run_id).resume_at) == ("sleeping", START + HOUR)
        assert advance(HOUR) == 1
        assert sleeper.status(run_id).result == "awake"


@pytest.mark.once
def test_p2_except_exception_does_not_catch_a_sleep(calls: list[str]) -> None:
    """`except Exception` around a sleep does not keep the run awake."""

    @workflow("timers.p2-exception")
    def sleeper(ctx: Context) -> str:
        try:
            ctx.sleep("nap", HOUR)
        except Exception:  # noqa: BLE001 - that this does not catch it is what is tested
            calls.append("caught")
        return "the end"

    run_id = sleeper.start()
    run_until_idle()
    assert sleeper.status(run_id).state == "sleeping"
    advance(HOUR)
    assert (sleeper.status(run_id).result, calls) == ("the end", [])


@pytest.mark.once
@pytest.mark.parametrize("returns", [True, False])
def test_p2_a_swallowed_sleep_suspends_all_the_same(returns: bool, calls: list[str]) -> None:
    """After a bare `except:` around a sleep a return counts for nothing, and the next context call suspends again."""

    @workflow("timers.p2-bare")
    def sleeper(ctx: Context) -> str:
        try:
            ctx.sleep("nap", HOUR)
        except:  # noqa: E722 - the worst that users do
            if returns:
                return "the wrong end"
        ctx.step("after", calls.append, "after")
        return "the end"

    run_id = sleeper.start()
    run_until_idle()
    assert (sleeper.status(run_id).state, calls) == ("sleeping", [])
    advance(HOUR)
    assert (sleeper.status(run_id).result, calls) == ("the end", ["after"])


# -- without freezegun -------------------------------------------------------------------------------


@pytest.mark.once
def test_time_is_advanced_without_freezegun(calls: list[str]) -> None:
    """Where nothing is frozen, `advance` moves the engine's own clock: a run wakes at its time."""

    @workflow("timers.unfrozen")
    def sleeper(ctx: Context) -> datetime:
        ctx.sleep("nap", timedelta(days=30))
        ctx.step("wake", calls.append, "wake")
        return ctx.now()

    began = clock.now()
    run_id = sleeper.start()
    advance(timedelta(days=29))
    assert (sleeper.status(run_id).state, calls) == ("sleeping", [])
    advance(timedelta(days=1, minutes=1))
    status = sleeper.status(run_id)
    assert (status.state, calls) == ("completed", ["wake"])
    assert began + timedelta(days=30) <= status.result < began + timedelta(days=30, minutes=1)


# -- timeouts of waits -----------------------------------------------------------------------------


def test_a_wait_with_a_timeout_is_due_at_it() -> None:
    """A wait shows its event and when it gives up; one without a timeout has no time at all."""

    @workflow("timers.wait")
    def waiter(ctx: Context, timeout: float | None) -> Any:
        return ctx.wait_for("answer", "answered", timeout=timeout, default="nobody")

    with freeze_time(START):
        patient, hasty = waiter.start(None), waiter.start(3600)
        advance(HOUR - timedelta(seconds=1))
        assert [waiter.status(run_id).resume_at for run_id in (patient, hasty)] == [None, START + HOUR]
        advance(1)
        assert [waiter.status(run_id).state for run_id in (patient, hasty)] == ["waiting", "completed"]
        assert waiter.status(hasty).result == "nobody"
        advance(timedelta(days=3650))
        assert waiter.status(patient).state == "waiting"


def test_a_wait_of_no_time_only_looks() -> None:
    """A timeout of zero reads what is there already, and does not suspend."""

    @workflow("timers.look")
    def looker(ctx: Context) -> Any:
        try:
            return ctx.wait_for("answer", "answered", timeout=0)
        except WaitTimeout:
            return "nothing"

    before, without = looker.start(), looker.start()
    looker.send(before, "answered", "there")
    assert run_until_idle() == 2
    assert [looker.status(run_id).result for run_id in (before, without)] == ["there", "nothing"]


# -- delayed starts --------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"delay": 3600}, {"delay": HOUR}, {"run_at": START + HOUR}], ids=str)
def test_c007_a_delayed_start_is_not_claimed_before_its_time(options: dict[str, Any]) -> None:
    """It sleeps with no step, and runs at its time; its first activation is its start."""

    @workflow("timers.delayed")
    def delayed(ctx: Context) -> None: ...

    with freeze_time(START):
        run_id = delayed.using(**options).start()
        assert run_until_idle() == 0
        status = delayed.status(run_id)
        assert (status.state, status.step, status.resume_at) == ("sleeping", None, START + HOUR)
        assert status.started_at is None
        assert advance(HOUR - timedelta(seconds=1)) == 0
        assert advance(1) == 1
        assert delayed.status(run_id).started_at == START + HOUR


@pytest.mark.parametrize("options", [{"delay": 0}, {"run_at": START}, {"run_at": START - HOUR}], ids=str)
def test_a_start_that_is_not_ahead_is_not_delayed(options: dict[str, Any]) -> None:
    """No delay, or a moment that has passed, is a plain start."""

    @workflow("timers.undelayed")
    def undelayed(ctx: Context) -> None: ...

    with freeze_time(START):
        run_id = undelayed.using(**options).start()
        assert undelayed.status(run_id).state == "pending"
        assert not Timer.objects.filter(run_id=run_id).exists()


@pytest.mark.once
def test_a_start_has_one_time_only() -> None:
    """`delay` and `run_at` together say two things: refused."""

    @workflow("timers.both")
    def both(ctx: Context) -> None: ...

    with pytest.raises(ValueError, match="delay and run_at"):
        both.using(delay=1, run_at=START).start()
    with pytest.raises(ValueError, match="run_at"):
        both.using(run_at=datetime(2026, 1, 1)).start()
    assert not both.runs.exists()


def test_c007_a_delayed_start_can_be_cancelled() -> None:
    """Cancelled while it waits, it never runs, and its timer is gone."""

    @workflow("timers.cancelled")
    def delayed(ctx: Context) -> None: ...

    run_id = delayed.using(delay=HOUR).start()
    assert delayed.cancel(run_id)
    assert advance(2 * HOUR) == 0
    assert delayed.status(run_id).state == "cancelled"
    assert not Timer.objects.filter(run_id=run_id).exists()


# -- wake ------------------------------------------------------------------------------------------


def test_c007_wake_shortens_a_delayed_start() -> None:
    """A delayed start that is woken begins now, once."""

    @workflow("timers.wake-start")
    def delayed(ctx: Context) -> None: ...

    run_id = delayed.using(delay=timedelta(days=30)).start()
    assert delayed.wake(run_id)
    assert run_until_idle() == 1
    assert delayed.status(run_id).state == "completed"
    assert advance(timedelta(days=31)) == 0


def test_wake_ends_a_sleep_now() -> None:
    """The timer counts as due: the sleep is over, and replays so."""

    @workflow("timers.wake-sleep")
    def sleeper(ctx: Context) -> None:
        ctx.sleep("long", timedelta(days=30))
        ctx.sleep("short", HOUR)

    with freeze_time(START):
        run_id = sleeper.start()
        advance(HOUR)
        assert sleeper.wake(run_id)
        run_until_idle()
        assert (sleeper.status(run_id).step, sleeper.status(run_id).resume_at) == ("short", START + 2 * HOUR)
        advance(HOUR)
        assert sleeper.status(run_id).finished_at == START + 2 * HOUR


def test_wake_makes_a_retry_due() -> None:
    """A step that waits for its next attempt is tried now, and that attempt counts."""
    attempts: list[str] = []

    def flaky() -> str:
        attempts.append("call")
        if len(attempts) == 1:
            raise ConnectionError("no")
        return "yes"

    @workflow("timers.wake-retry")
    def retrying(ctx: Context) -> str:
        return ctx.step("flaky", flaky)

    run_id = retrying.start()
    run_until_idle()
    assert (retrying.status(run_id).state, retrying.status(run_id).attempt) == ("retrying", 2)
    assert retrying.wake(run_id)
    run_until_idle()
    assert (retrying.status(run_id).result, len(attempts)) == ("yes", 2)


def test_wake_of_a_wait_is_its_timeout() -> None:
    """A wait's only timer is its timeout: woken, it has timed out; without one there is nothing to wake."""

    @workflow("timers.wake-wait")
    def waiter(ctx: Context, timeout: float | None) -> Any:
        return ctx.wait_for("answer", "answered", timeout=timeout, default="nobody")

    hasty, patient = waiter.start(3600), waiter.start(None)
    run_until_idle()
    assert waiter.wake(hasty)
    assert not waiter.wake(patient)
    run_until_idle()
    assert waiter.status(hasty).result == "nobody"
    assert waiter.status(patient).state == "waiting"


def test_wake_never_touches_the_deadline() -> None:
    """With a deadline alone, wake does nothing; with a sleep beside it, it takes the sleep, though that is later."""

    @workflow("timers.wake-deadline", timeout=HOUR)
    def sleeper(ctx: Context, naps: bool) -> None:
        if naps:
            ctx.sleep("beyond the deadline", 2 * HOUR)
        ctx.wait_for("answer", "answered")

    with freeze_time(START):
        napping, waiting = sleeper.start(True), sleeper.start(False)
        run_until_idle()
        assert sleeper.wake(napping)
        assert not sleeper.wake(waiting)
        run_until_idle()
        assert [sleeper.status(run_id).state for run_id in (napping, waiting)] == ["waiting", "waiting"]
        deadlines = Timer.objects.filter(kind="deadline").values_list("due_at", flat=True)
        assert list(deadlines) == [START + HOUR] * 2


def test_wake_is_false_where_no_timer_is_open() -> None:
    """Pending, waiting and ended runs have nothing to wake; nothing changes."""

    @workflow("timers.wake-nothing")
    def waiter(ctx: Context) -> None:
        ctx.wait_for("answer", "answered")

    run_id = waiter.start()
    assert not waiter.wake(run_id)
    run_until_idle()
    assert not waiter.wake(run_id)
    assert run_until_idle() == 0
    waiter.send(run_id, "answered")
    run_until_idle()
    assert not waiter.wake(run_id)
    assert waiter.status(run_id).state == "completed"
    with pytest.raises(InvalidState):
        waiter.send(run_id, "answered")


@pytest.mark.once
def test_wake_stores_who_and_why() -> None:
    """The reason and the person are kept with the run."""

    @workflow("timers.wake-note")
    def sleeper(ctx: Context) -> None:
        ctx.sleep("nap", HOUR)

    run_id = sleeper.start()
    run_until_idle()
    sleeper.wake(run_id, "the customer called", by="ada")
    run = WorkflowRun.objects.get(id=run_id)
    assert (run.control, run.control_reason, run.control_by) == ("wake", "the customer called", "ada")


def test_the_nearest_timer_is_the_one_that_is_shown() -> None:
    """A deadline nearer than the sleep is no wait: step and time are those of the sleep."""

    @workflow("timers.shown", timeout=MINUTE)
    def sleeper(ctx: Context) -> None:
        ctx.sleep("nap", HOUR)

    with freeze_time(START):
        run_id: UUID = sleeper.start()
        run_until_idle()
        status = sleeper.status(run_id)
    assert (status.step, status.resume_at, len(status.waits)) == ("nap", START + HOUR, 1)
