"""The workflows that the tests of start policies start, in the test's own process and in workers."""

from __future__ import annotations

from typing import Any

from canx_flow import Context, Retry, workflow

from .. import effects


class BrokenError(Exception):
    """What a step fails with for good."""


def _do(label: str) -> str:
    effects.append(f"did {label}")
    return label


def _break() -> None:
    raise BrokenError("for good")


@workflow("policies.work", retry=Retry(max_attempts=1))
def work(ctx: Context, what: Any = None) -> Any:
    """Gives back what it was started with; or waits, sleeps or fails, as that says."""
    if what == "wait":
        ctx.wait_for("answer", "answered")
    if what == "sleep":
        ctx.sleep("nap", 3600)
    if what == "fail":
        ctx.step("break", _break)
    return what


@workflow("policies.step")
def step(ctx: Context, label: str) -> str:
    """One step, which leaves a line."""
    return ctx.step("do", _do, label)


@workflow("policies.gated")
def gated(ctx: Context, label: str) -> str:
    """A step that is held until its test lets it go, and one after it."""
    ctx.step("held", effects.gate, label)
    return ctx.step("do", _do, label)


@workflow("policies.undone")
def undone(ctx: Context, label: str) -> None:
    """A step that is undone by one that is held, and a wait."""
    ctx.step("done", str, label, compensate=effects.gate)
    ctx.wait_for("answer", "answered")
