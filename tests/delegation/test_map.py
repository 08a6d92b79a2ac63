"""`ctx.map` with an executor: each item is called elsewhere, so many of them at a time; in branches, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from canx_flow import MapFailed, Retry, StepFailed
from canx_flow.models import Delegation, StepRecord
from canx_flow.testing import run_until_idle

from ..kinds import each_kind
from .mailbox import Mailbox

pytestmark = [pytest.mark.django_db, each_kind]

Kinds = Callable[..., Any]
ONCE = Retry(max_attempts=1)


def far_square(number: int) -> int:
    """Return a square; fail of numbers below zero."""
    if number < 0:
        raise ValueError(number)
    return number * number


def _deliver_all(mailbox: Mailbox) -> int:
    number = 0
    while mailbox.messages:
        mailbox.messages.pop().deliver()
        number += 1
    run_until_idle()
    return number


def test_each_item_is_called_elsewhere_so_many_at_a_time(kind: Kinds, mailbox: Mailbox, declare: Any) -> None:
    """In whatever order they end; the results are in the order of the items."""

    async def body(ctx: Any) -> list[int]:
        squares: list[int] = await ctx.map("square", far_square, range(7), executor="mailbox", concurrency=3)
        return squares

    flow = declare(kind(body))
    run_id = flow.start()
    run_until_idle()
    assert [message.args for message in mailbox.messages] == [(0,), (1,), (2,)]
    mailbox.messages.pop(1).deliver()
    run_until_idle()
    assert [message.args for message in mailbox.messages] == [(0,), (2,), (3,)]
    assert [_deliver_all(mailbox), _deliver_all(mailbox), _deliver_all(mailbox)] == [3, 3, 0]
    assert flow.result(run_id, 0) == [0, 1, 4, 9, 16, 25, 36]
    assert StepRecord.objects.filter(kind="delegate", state="completed").count() == 7


def test_all_are_out_at_once_without_a_concurrency(kind: Kinds, mailbox: Mailbox, declare: Any) -> None:
    """And what is tried again is out again."""

    async def body(ctx: Any) -> Any:
        policy = Retry(max_attempts=2, initial=0, retry_on=(ValueError,))
        results = await ctx.map("square", far_square, [1, -2, 3], executor="mailbox", tolerate=1, retry=policy)
        return [str(each) if isinstance(each, StepFailed) else each for each in results]

    flow = declare(kind(body))
    run_id = flow.start()
    run_until_idle()
    assert [_deliver_all(mailbox), _deliver_all(mailbox)] == [3, 1]
    assert flow.result(run_id, 0) == [1, "step 'square[1]' failed after 2 attempts: ValueError: -2", 9]


def test_more_failures_than_are_tolerated_call_the_rest_off(kind: Kinds, mailbox: Mailbox, declare: Any) -> None:
    """Nothing of it is called any more."""

    async def body(ctx: Any) -> Any:
        try:
            await ctx.map("square", far_square, [-1, 2, 3], executor="mailbox", retry=ONCE, concurrency=2)
        except MapFailed as error:
            return len(error.failures)
        raise AssertionError

    flow = declare(kind(body))
    run_id = flow.start()
    run_until_idle()
    first, second = mailbox.messages
    first.deliver()
    run_until_idle()
    assert flow.result(run_id, 0) == 1
    assert second.begin() is None
    assert len(mailbox.messages) == 2
    assert Delegation.objects.get(token=second.token).state == "given_up"


def test_dispatches_that_fail_leave_no_item_out(kind: Kinds, mailbox: Mailbox, declare: Any) -> None:
    """Though none of those before it waits for anything."""
    mailbox.error = TypeError("no")

    async def body(ctx: Any) -> Any:
        results = await ctx.map(
            "square", far_square, range(5), executor="mailbox", retry=ONCE, concurrency=2, tolerate=5
        )
        return [type(each).__name__ for each in results]

    flow = declare(kind(body))
    run_id = flow.start()
    run_until_idle()
    assert flow.result(run_id, 0) == ["StepFailed"] * 5


def test_beside_other_branches(kind: Kinds, mailbox: Mailbox, declare: Any) -> None:
    """Each of the branches goes on as its own comes."""

    async def body(ctx: Any) -> Any:
        async def left(branch: Any) -> Any:
            return await branch.map("square", far_square, [1, 2], executor="mailbox")

        async def right(branch: Any) -> Any:
            return await branch.delegate("one", far_square, 3)

        return await ctx.gather(left=left, right=right)

    flow = declare(kind(body))
    run_id = flow.start()
    run_until_idle()
    assert _deliver_all(mailbox) == 3
    assert flow.result(run_id, 0) == {"left": [1, 4], "right": 9}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"executor": "gone"}, "no executor is registered as 'gone'"), ({"executor": 3}, "executor must be a str"),
        ({"executor": "mailbox", "atomic": True}, "atomic is no option"),
        ({"executor": "mailbox", "compensate": print}, "compensate is no option"),
        ({"executor": "mailbox", "limit": "stripe"}, "limit is no option"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(
    kind: Kinds, mailbox: Mailbox, declare: Any, options: dict[str, Any], said: str
) -> None:
    """At the call; nothing is dispatched."""

    async def body(ctx: Any) -> str:
        try:
            await ctx.map("square", far_square, [1], **options)
        except (TypeError, ValueError) as error:
            return str(error)
        raise AssertionError

    flow = declare(kind(body))
    run_id = flow.start()
    run_until_idle()
    assert said in flow.result(run_id, 0)
    assert not mailbox.messages


def test_a_task_that_the_executor_does_not_accept_is_refused(kind: Kinds, mailbox: Mailbox, declare: Any) -> None:
    """With its name."""

    async def body(ctx: Any) -> None:
        await ctx.map("abs", abs, [1], executor="mailbox")

    flow = declare(kind(body))
    run_id = flow.start()
    run_until_idle()
    assert "executor 'mailbox' does not accept <built-in function abs>" in str(flow.status(run_id).error)
    assert not mailbox.messages
