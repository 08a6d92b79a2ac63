"""A step that another executor calls: dispatched after its commit, told once, tried again, given up, refused late."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from freezegun import freeze_time

from canx_flow import Retry, StepFailed, StepInterrupted
from canx_flow.models import Delegation, Event, StepRecord, Timer, WorkflowRun
from canx_flow.testing import advance, run_until_idle

from ..kinds import each_kind
from ..waiting import wait_until
from .mailbox import Mailbox

pytestmark = [pytest.mark.django_db, each_kind]

Kinds = Callable[..., Any]
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def far_double(number: int, *, plus: int = 0) -> int:
    """Return twice a number."""
    return 2 * number + plus


def far_fail(text: str) -> None:
    """Fail of a connection."""
    raise ConnectionError(text)


def far_unstorable() -> object:
    """Return what cannot be stored."""
    return object()


async def double(ctx: Any) -> int:
    """Delegate one step."""
    result: int = await ctx.delegate("double", far_double, 4, kwargs={"plus": 1})
    return result


def _row() -> Delegation:
    return Delegation.objects.get()


def test_a_delegated_step_returns_what_its_task_returns(kind: Kinds, mailbox: Mailbox, declare: Any) -> None:
    """The run waits as a row meanwhile; the executor is given arguments and options; one record is left."""
    flow = declare(kind(double))
    run_id = flow.start()
    run_until_idle()
    status = flow.status(run_id)
    assert (status.state, status.step) == ("waiting", "double")
    [message] = mailbox.messages
    assert (message.args, message.kwargs, message.options.start_timeout) == ((4,), {"plus": 1}, 300)
    assert (_row().state, _row().task, _row().executor, _row().attempt) == ("out", "tests.far_double", "mailbox", 1)
    assert message.deliver() == 9
    run_until_idle()
    assert flow.result(run_id, 0) == 9
    assert (_row().state, _row().worker) == ("ended", "away")
    record = StepRecord.objects.get()
    assert (record.kind, record.state, record.attempts, record.result) == ("delegate", "completed", 1, "9")
    assert not Timer.objects.exists()


def test_a_task_that_fails_is_tried_again_with_another_token(kind: Kinds, mailbox: Mailbox, declare: Any) -> None:
    """By the policy, which may name its error; StepFailed tells of each attempt what the task has raised."""

    async def body(ctx: Any) -> str:
        policy = Retry(max_attempts=2, initial=60, jitter=0, retry_on=(ConnectionError,))
        try:
            await ctx.delegate("far", far_fail, "no route", retry=policy)
        except StepFailed as error:
            return f"{error.is_a(ConnectionError)} {error}"
        raise AssertionError

    flow = declare(kind(body))
    with freeze_time(START):
        run_id = flow.start()
        run_until_idle()
        first = mailbox.messages[0].token
        mailbox.deliver()
        run_until_idle()
        status = flow.status(run_id)
        assert (status.state, status.attempt, status.resume_at) == ("retrying", 2, START + MINUTE)
        advance(MINUTE)
        assert mailbox.messages[0].token != first
        mailbox.deliver()
        run_until_idle()
    assert flow.result(run_id, 0) == "True step 'far' failed after 2 attempts: ConnectionError: no route"
    errors = StepRecord.objects.get().errors
    assert errors.count("in far_fail") == 2


def test_what_a_policy_does_not_name_is_not_tried_again(kind: Kinds, mailbox: Mailbox, declare: Any) -> None:
    """Nor what cannot be stored, whatever the policy says."""

    async def body(ctx: Any, task: str) -> str:
        try:
            if task == "fail":
                await ctx.delegate("far", far_fail, "x", retry=Retry(retry_on=(ValueError,)))
            await ctx.delegate("far", far_unstorable)
        except StepFailed as error:
            return error.errors[0]["type"]
        raise AssertionError

    flow = declare(kind(body))
    runs = [flow.start("fail"), flow.start("store")]
    run_until_idle()
    while mailbox.messages:
        mailbox.deliver()
    run_until_idle()
    assert {flow.result(run_id, 0) for run_id in runs} == {
        "builtins.ConnectionError", "canx_flow.exceptions.NotSerializable"
    }  # fmt: skip


def test_c143_a_message_that_was_lost_is_sent_again(kind: Kinds, mailbox: Mailbox, declare: Any) -> None:
    """With the same token, half of `start_timeout` later, once; what either delivery brings counts once."""
    flow = declare(kind(double))
    with freeze_time(START):
        run_id = flow.start()
        run_until_idle()
        lost = mailbox.messages.pop()
        advance(2 * MINUTE)
        assert not mailbox.messages
        advance(MINUTE)
        assert [message.token for message in mailbox.messages] == [lost.token]
        assert (_row().again, _row().state) == (1, "out")
        advance(MINUTE)
        assert len(mailbox.messages) == 1
        mailbox.deliver()
        run_until_idle()
        assert flow.result(run_id, 0) == 9
        assert lost.deliver() is None
        run_until_idle()
    assert Event.objects.count() == 1


def test_c144_a_message_that_is_delivered_twice_calls_the_task_once(
    kind: Kinds, mailbox: Mailbox, declare: Any
) -> None:
    """The second delivery finds the token won, while the task runs and when it is over."""
    flow = declare(kind(double))
    run_id = flow.start()
    run_until_idle()
    [message] = mailbox.messages
    won = message.begin()
    assert message.begin() is None
    assert won.succeed(5)
    assert message.begin() is None
    assert not won.succeed(6)
    run_until_idle()
    assert flow.result(run_id, 0) == 5
    assert _row().late is None


def test_c145_a_result_that_comes_too_late_is_refused_and_kept(kind: Kinds, mailbox: Mailbox, declare: Any) -> None:
    """The attempt was given up; its row says why, and holds what came; the run goes on with the next one."""
    flow = declare(kind(double))
    with freeze_time(START):
        run_id = flow.start()
        run_until_idle()
        [message] = mailbox.messages
        won = message.begin("host-7")
        advance(timedelta(seconds=61))
        assert not won.beat()
        assert not won.succeed(77)
        row = Delegation.objects.get(token=message.token)
        assert (row.state, row.late) == ("given_up", '["completed",77]')
        assert row.reason == "host-7 has not been heard of for 60 s"
        wait_until(lambda: mailbox.called_off == [(message.token, "tests.far_double")])
        advance(MINUTE)
        mailbox.messages[-1].deliver()
        run_until_idle()
    assert flow.result(run_id, 0) == 9


@pytest.mark.parametrize("option", ["heartbeat", "timeout", "start_timeout"])
def test_c146_what_is_silent_or_takes_too_long_is_a_failed_attempt(
    kind: Kinds, mailbox: Mailbox, declare: Any, option: str
) -> None:
    """However often it has beaten before that; the policy decides."""

    async def body(ctx: Any) -> str:
        try:
            await ctx.delegate("far", far_double, 1, retry=Retry(max_attempts=1), **{option: 5 * MINUTE})
        except StepFailed as error:
            return str(error)
        raise AssertionError

    flow = declare(kind(body))
    with freeze_time(START) as clock:
        run_id = flow.start()
        run_until_idle()
        if option == "start_timeout":
            advance(4.9 * MINUTE)
        else:
            won = mailbox.messages[0].begin("host-7")
            for _ in range(10):
                assert won.beat()
                clock.tick(29)
                advance(timedelta(0))
            if option == "heartbeat":
                advance(4 * MINUTE)
        assert flow.status(run_id).state == "waiting"
        advance(MINUTE)
    said = {
        "heartbeat": "host-7 has not been heard of for 300 s", "timeout": "not done within 300 s on host-7",
        "start_timeout": "not started within 300 s",
    }[option]  # fmt: skip
    assert flow.result(run_id, 0) == f"step 'far' failed after 1 attempt: canx_flow.exceptions.TaskLost: {said}"


def test_what_nobody_has_looked_at_in_time_is_spared_once(kind: Kinds, mailbox: Mailbox, declare: Any) -> None:
    """The database was away, or every worker: beats were lost, too. Another heartbeat of silence is one."""
    flow = declare(kind(double))
    with freeze_time(START) as clock:
        run_id = flow.start()
        run_until_idle()
        won = mailbox.messages[0].begin()
        clock.tick(3600)
        run_until_idle()
        assert (_row().state, flow.status(run_id).state) == ("started", "waiting")
        assert won.beat()
        advance(59)
        assert _row().state == "started"
        advance(2)
        assert Delegation.objects.get(token=won.token).state == "given_up"


def test_c147_a_cancel_tells_the_executor_and_refuses_what_comes(kind: Kinds, mailbox: Mailbox, declare: Any) -> None:
    """What has not begun does not begin; what runs is told at its next beat, and its result is kept."""
    flow = declare(kind(double))
    runs = [flow.start(), flow.start()]
    run_until_idle()
    first, second = mailbox.messages
    won = first.begin()
    for run_id in runs:
        flow.cancel(run_id, "enough")
    run_until_idle()
    tokens = {first.token, second.token}
    wait_until(lambda: {token for token, _task in mailbox.called_off} == tokens)
    assert second.begin() is None
    assert not won.beat()
    assert not won.succeed(9)
    assert {row.state for row in Delegation.objects.all()} == {"given_up"}
    assert Delegation.objects.get(token=first.token).late == '["completed",9]'
    assert not Event.objects.exists()


def test_while_what_the_executor_speaks_to_is_away_it_is_dispatched_again(
    kind: Kinds, mailbox: Mailbox, declare: Any
) -> None:
    """No attempt is spent on that, until `start_timeout` is over; then its error says what the dispatch met."""
    mailbox.error = ConnectionRefusedError("no broker")
    flow = declare(kind(double))
    with freeze_time(START):
        run_id = flow.start()
        run_until_idle()
        advance(MINUTE)
        assert (flow.status(run_id).state, _row().reason) == ("waiting", "ConnectionRefusedError: no broker")
        mailbox.error = None
        advance(MINUTE)
        assert len(mailbox.messages) == 1
        mailbox.deliver()
        run_until_idle()
    assert flow.result(run_id, 0) == 9


def test_what_cannot_be_dispatched_at_all_is_a_failed_attempt(kind: Kinds, mailbox: Mailbox, declare: Any) -> None:
    """Here of the last one."""
    mailbox.error = TypeError("these arguments are no JSON")

    async def body(ctx: Any) -> str:
        try:
            await ctx.delegate("far", far_double, 1, retry=Retry(max_attempts=1))
        except StepFailed as error:
            return str(error)
        raise AssertionError

    flow = declare(kind(body))
    run_id = flow.start()
    run_until_idle()
    assert flow.result(run_id, 0) == "step 'far' failed after 1 attempt: TypeError: these arguments are no JSON"
    assert _row().state == "given_up"


def test_at_most_once_what_has_begun_is_not_called_again(kind: Kinds, mailbox: Mailbox, declare: Any) -> None:
    """Lost, it is interrupted: whether it had its effect is not known. Not begun, it has not been called."""

    async def body(ctx: Any) -> str:
        try:
            await ctx.delegate("far", far_double, 1, at_most_once=True)
        except StepFailed as error:
            return type(error).__name__
        raise AssertionError

    flow = declare(kind(body))
    with freeze_time(START):
        runs = [flow.start(), flow.start()]
        run_until_idle()
        mailbox.messages[0].begin()
        advance(6 * MINUTE)
        mailbox.messages.clear()
        advance(6 * MINUTE)
    assert sorted(flow.result(run_id, 0) for run_id in runs) == ["StepFailed", StepInterrupted.__name__]
    assert not mailbox.messages


def test_in_a_race_what_has_lost_is_called_off(kind: Kinds, mailbox: Mailbox, declare: Any) -> None:
    """And its late result refused; side by side each waits for its own."""

    async def body(ctx: Any) -> Any:
        async def one(branch: Any) -> Any:
            return await branch.delegate("far", far_double, 1)

        async def two(branch: Any) -> Any:
            return await branch.delegate("far", far_double, 2)

        both = await ctx.gather(one=one, two=two)
        return both, await ctx.race(one=one, two=two)

    flow = declare(kind(body))
    run_id = flow.start()
    run_until_idle()
    for message in reversed(mailbox.messages[:2]):
        message.deliver()
        run_until_idle()
    late, first = mailbox.messages[2:]
    first.deliver()
    run_until_idle()
    assert flow.result(run_id, 0) == ({"one": 2, "two": 4}, ("two", 4))
    wait_until(lambda: [token for token, _task in mailbox.called_off] == [late.token])
    assert late.deliver() is None
    assert Delegation.objects.get(token=late.token).reason == "its run has gone on without it"


def test_a_paused_run_keeps_what_comes_until_it_goes_on(kind: Kinds, mailbox: Mailbox, declare: Any) -> None:
    """The task goes on, and nothing of it is lost."""
    flow = declare(kind(double))
    run_id = flow.start()
    run_until_idle()
    flow.pause(run_id)
    mailbox.deliver()
    run_until_idle()
    assert flow.status(run_id).state == "paused"
    flow.resume(run_id)
    run_until_idle()
    assert flow.result(run_id, 0) == 9


def test_a_failed_run_that_is_retried_delegates_anew(kind: Kinds, mailbox: Mailbox, declare: Any) -> None:
    """With tokens that no attempt before had."""
    attempts = Retry(max_attempts=1)

    async def body(ctx: Any) -> Any:
        return await ctx.delegate("far", far_fail, "x", retry=attempts)

    flow = declare(kind(body))
    run_id = flow.start()
    run_until_idle()
    first = mailbox.messages[0].token
    mailbox.deliver()
    run_until_idle()
    assert flow.status(run_id).state == "failed"
    flow.retry(run_id)
    run_until_idle()
    [message] = mailbox.messages
    assert message.token != first
    won = message.begin()
    assert won.succeed("done")
    run_until_idle()
    assert flow.result(run_id, 0) == "done"


def test_with_a_run_all_its_delegations_are_pruned(kind: Kinds, mailbox: Mailbox, declare: Any) -> None:
    """As all that is the run's; the events of failed attempts, too, which no record names."""

    async def body(ctx: Any) -> Any:
        await ctx.delegate("one", far_double, 1)
        return await ctx.delegate("two", far_fail, "x", retry=Retry(max_attempts=2, initial=0))

    flow = declare(kind(body))
    with freeze_time(START) as clock:
        run_id = flow.start()
        for _ in range(3):
            run_until_idle()
            mailbox.deliver()
        run_until_idle()
        assert (flow.status(run_id).state, Event.objects.count()) == ("failed", 3)
        clock.tick(timedelta(days=3))
        call_command("pruneflows", older_than=1, verbosity=0)
    assert not WorkflowRun.objects.exists()
    assert not Delegation.objects.exists()
    assert not Event.objects.exists()


def test_a_new_generation_keeps_nothing_of_the_tasks_before_it(kind: Kinds, mailbox: Mailbox, declare: Any) -> None:
    """What a long-lived run stores does not grow."""

    async def body(ctx: Any, number: int) -> int:
        await ctx.delegate("far", far_fail if number == 1 else far_double, number, retry=Retry(initial=0))
        return ctx.continue_as_new(number + 1) if number < 3 else number

    flow = declare(kind(body))
    run_id = flow.start(1)
    run_until_idle()
    mailbox.deliver()
    run_until_idle()
    mailbox.messages.pop().begin().succeed(1)
    run_until_idle()
    for _ in range(2):
        mailbox.deliver()
        run_until_idle()
    assert flow.result(run_id, 0) == 3
    assert Delegation.objects.count() == Event.objects.count() == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"start_timeout": 0}, "start_timeout"), ({"timeout": "x"}, "timeout"), ({"heartbeat": -1}, "heartbeat"),
        ({"retry": 3}, "retry"), ({"at_most_once": 1}, "at_most_once"), ({"kwargs": [1]}, "kwargs"),
    ],
)  # fmt: skip
def test_a_bad_option_is_refused_at_the_call(
    kind: Kinds, mailbox: Mailbox, declare: Any, options: dict[str, Any], said: str
) -> None:
    """And named; nothing is dispatched."""

    async def body(ctx: Any) -> str:
        try:
            await ctx.delegate("far", far_double, 1, **options)
        except (TypeError, ValueError) as error:
            return str(error)
        raise AssertionError

    flow = declare(kind(body))
    run_id = flow.start()
    run_until_idle()
    assert said in flow.result(run_id, 0)
    assert not mailbox.messages


def test_what_no_executor_accepts_is_refused(kind: Kinds, mailbox: Mailbox, declare: Any) -> None:
    """With the names of those that there are."""

    async def body(ctx: Any) -> None:
        await ctx.delegate("near", abs, 1)

    flow = declare(kind(body))
    run_id = flow.start()
    run_until_idle()
    said = str(flow.status(run_id).error)
    assert "no executor accepts <built-in function abs>; registered: " in said
    assert "mailbox" in said
    assert not mailbox.messages
