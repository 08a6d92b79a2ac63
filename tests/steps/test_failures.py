"""Steps that fail: attempts, policies, what is raised at last and on replay."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from freezegun import freeze_time

from canx_flow import AsyncContext, Context, GiveUp, Retry, RetryAfter, StepFailed, current_step, workflow
from canx_flow.models import StepRecord
from canx_flow.testing import advance, run_until_idle

from .shared import HOUR, ONCE, SOON, START, CardDeclined, TransientError

pytestmark = pytest.mark.django_db


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
    assert str(first) == "step 'charge' failed after 1 attempt: tests.steps.shared.CardDeclined: no funds"


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
    assert [item["type"] for item in error.errors] == ["tests.steps.shared.TransientError"] * 4
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
