"""Plain workflows as a type checker sees them. A mark at the end of a line says what mypy must answer there: after `E`
the codes of its errors, after `R` the type that it reveals.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from canx_flow import Context, Retry, workflow


def charge(user: str, cents: int) -> str:
    return f"{user} {cents}"


@workflow("typing.subscription")
def subscription(ctx: Context, user: str, cents: int = 100) -> str:
    reveal_type(ctx.step("charge", charge, user, cents))  # R: str
    reveal_type(ctx.step("lambda", lambda: 7))  # R: int
    reveal_type(ctx.step("partial", partial(charge, user, cents=cents), retry=Retry(max_attempts=2)))  # R: str
    ctx.step("charge", charge, user)  # E: arg-type
    ctx.step("charge", charge, cents, user)  # E: arg-type
    ctx.step("charge", charge, user, cents, retries=3)  # E: call-overload
    ctx.step("charge", "charge")  # E: call-overload
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


@workflow("typing.wrong")  # E: arg-type
def no_context() -> None: ...


called = workflow("typing.called", lambda ctx: 3)
reveal_type(called.start())  # R: uuid.UUID


def plain(ctx: Context, user: str) -> int:
    return len(user)


second_form = workflow("typing.second-form", plain, queue="slow", priority=5)
second_form.start("alice")
second_form.start(3)  # E: arg-type
