"""How a step is to be called: the options of `ctx.step`, checked. Made by the contexts, read by the operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..conf import get as settings
from ..core.callables import is_async, is_generator
from ..core.durations import seconds
from ..core.limits import LimitUse, use_of
from ..core.options import checked_flag
from ..retry import Retry
from ..states import Kind

_ONCE = Retry(max_attempts=1)


@dataclass(slots=True)
class StepOptions:
    """How a step is to be called: its own options, checked."""

    retry: Retry
    timeout: float | None = None
    atomic: bool = False
    at_most_once: bool = False
    kind: str = Kind.STEP
    #: What it is called under, if anything limits it.
    limit: LimitUse | None = None

    @classmethod
    def of(
        cls,
        policy: Retry,
        function: Callable[..., Any],
        retry: Retry | None,
        timeout: float | timedelta | None,
        atomic: bool,
        at_most_once: bool,
        compensate: Callable[..., Any] | None = None,
        limit: str | tuple[str, object] | None = None,
        cost: int = 1,
    ) -> StepOptions:
        if not callable(function):
            raise TypeError(
                f"the step function must be callable, not {type(function).__name__}: pass it, do not call it"
            )
        _check_undo(compensate)
        if retry is not None and not isinstance(retry, Retry):
            raise TypeError(f"retry must be a Retry, not {type(retry).__name__}")
        checked_flag(atomic, "atomic")
        checked_flag(at_most_once, "at_most_once")
        if atomic and at_most_once:
            raise ValueError("at_most_once and atomic exclude each other: an atomic step is exactly-once already")
        if is_generator(function):
            raise TypeError(f"the step function {function!r} is a generator, and would not run: return a list instead")
        if atomic and is_async(function):
            raise TypeError("atomic=True needs a plain function: Django's transactions are synchronous")
        policy = retry or (_ONCE if at_most_once else policy)
        allowed = None if timeout is None else seconds(timeout, "timeout", positive=True)
        use = use_of(settings().limits, limit, cost)
        return cls(policy, allowed, atomic, at_most_once, limit=use)


def _check_undo(compensate: Callable[..., Any] | None) -> None:
    if compensate is None:
        return
    if not callable(compensate):
        raise TypeError(
            f"compensate must be a function of the step's result, not {type(compensate).__name__}: pass it, do not "
            f"call it"
        )
    if is_generator(compensate):
        raise TypeError(f"compensate={compensate!r} is a generator, and would not run")
