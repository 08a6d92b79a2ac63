"""Plain workflows as a type checker sees them. A mark at the end of a line says what mypy must answer there: after `E`
the codes of its errors, after `R` the type that it reveals.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from canx_flow import AsyncContext, Context, Retry, current_step, in_step, workflow
from canx_flow.workflows import Workflow


def charge(user: str, cents: int) -> str:
    return f"{user} {cents}"


def refund(receipt: str) -> None: ...


@workflow("typing.subscription")
def subscription(ctx: Context, user: str, cents: int = 100) -> str:
    reveal_type(ctx.step("charge", charge, user, cents))  # R: str
    reveal_type(ctx.step("lambda", lambda: 7))  # R: int
    reveal_type(ctx.step("partial", partial(charge, user, cents=cents), retry=Retry(max_attempts=2)))  # R: str
    ctx.step("charge", charge, user)  # E: arg-type
    ctx.step("charge", charge, cents, user)  # E: arg-type
    ctx.step("charge", charge, user, cents, retries=3)  # E: call-overload
    ctx.step("charge", "charge")  # E: call-overload
    reveal_type(ctx.step("charge", charge, user, cents, compensate=refund))  # R: str
    ctx.step("count", len, user, compensate=refund)  # E: arg-type
    ctx.sleep("trial", timedelta(days=30))
    ctx.sleep("trial", 2.5)
    ctx.sleep("trial", "30 days")  # E: arg-type
    ctx.sleep_until("trial", timedelta(days=30))  # E: arg-type
    return ctx.step("renew", charge, user, cents)


reveal_type(subscription.start("alice"))  # R: uuid.UUID
subscription.start("alice", 300)
subscription.start("alice", cents=300)
subscription.start(1, 2, 3)  # E: call-arg
subscription.start()  # E: call-arg
subscription.start("alice", "300")  # E: arg-type
subscription.start("alice", euros=3)  # E: call-arg
reveal_type(subscription.using(key="k", delay=timedelta(hours=1)).start("alice"))  # R: uuid.UUID
subscription.using(key="k").start(1)  # E: arg-type
subscription.using(nonsense=1)  # E: call-arg
reveal_type(subscription.cancel("id", "no longer wanted"))  # R: bool
reveal_type(subscription.send("id", "approval", {"by": "bob"}, dedup_id="1"))  # R: bool
reveal_type(subscription.status("id").state)  # R: str
reveal_type(subscription.result("id"))  # R: str
error = subscription.status("id").error
if error is not None:
    reveal_type(error["message"])  # R: str
    reveal_type(error["mro"])  # R: list[str]
    reveal_type(error["nonsense"])  # E: typeddict-item
progress = subscription.status("id").progress
reveal_type(progress["total"] if progress else None)  # R: float | None
reveal_type(subscription.using(key="k"))  # R: canx_flow.workflows.Starter[[user: str, cents: int =], str]


reveal_type(subscription.fork("id", "renew", arguments=("alice",), version="2", queue="slow"))  # R: uuid.UUID
reveal_type(subscription.fork("id", "renew", "why", arguments=((), {"cents": 3}), by="bob"))  # R: uuid.UUID
subscription.fork("id", "renew", arguments=["alice"])  # E: arg-type


@workflow("typing.continues")
def continues(ctx: Context, number: int) -> int:
    if number > 3:
        return number
    ctx.continue_as_new(number + 1)


@workflow("typing.wrong")  # E: arg-type
def no_context() -> None: ...


@workflow("typing.wrong-context")  # E: arg-type
def never_awaited(ctx: AsyncContext, user: str) -> str:
    return user


@workflow("typing.nothing")
def nothing(ctx: Context) -> None: ...


reveal_type(nothing.result("id"))  # R: None


def pay(user: str) -> str:
    key = current_step().idempotency_key if in_step() else ""
    reveal_type(current_step())  # R: canx_flow.core.current.CurrentStep
    return charge(key, 100)


def any_of_them(which: bool) -> Workflow[..., object]:
    """A workflow that returns more exactly fits where less is asked."""
    return subscription if which else second_form


called = workflow("typing.called", lambda ctx: 3)
reveal_type(called.start())  # R: uuid.UUID
reveal_type(called.result("id"))  # R: int


def plain(ctx: Context, user: str) -> int:
    return len(user)


second_form = workflow("typing.second-form", plain, queue="slow", priority=5)
second_form.start("alice")
second_form.start(3)  # E: arg-type
reveal_type(second_form.result("id"))  # R: int


@workflow("typing.parent")
def parent(ctx: Context) -> str:
    reveal_type(ctx.call("child", subscription, "alice"))  # R: str
    reveal_type(ctx.call("child", subscription.using(priority=7), "alice", cents=300))  # R: str
    reveal_type(ctx.spawn("child", subscription, "alice").result())  # R: str
    ctx.call("child", subscription, 7)  # E: arg-type
    ctx.call("child", subscription)  # E: call-arg
    ctx.call("child", charge, "alice", 3)  # E: arg-type
    return str(ctx.spawn("child", subscription, "alice").run_id)
