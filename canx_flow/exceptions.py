"""Every error of canx_flow: what it means and what it carries. Raised from everywhere, caught by users.

All derive from `CanxFlowError`. Each keeps its constructor's arguments as `args`, so that it survives `copy`
and a process boundary; those without arguments of their own take one message.
"""

# ruff: noqa: N818 - the names are the contract; they say what happened, and `except StepFailed` reads well.

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, NotRequired, TypedDict

from .core.naming import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID


class Decided(TypedDict):
    """With which reason and error a run is to end that is parked for now."""

    reason: str
    error: StoredError | None


class StoredError(TypedDict):
    """What is stored of an exception: text, and the names of its classes. `step`, and `steps` if there were several:
    only of a run's error, the keys of those that ended it. `max_attempts`, `attempt`, `began`: only of an attempt, how
    many may be, which one it was since the step was first called or last retried, and when it was called.
    `decided`: only of a run that was parked while it was stopping."""

    type: str
    message: str
    traceback: str
    at: str
    mro: list[str]
    step: NotRequired[str]
    steps: NotRequired[list[str]]
    max_attempts: NotRequired[int | None]
    attempt: NotRequired[int]
    began: NotRequired[str]
    decided: NotRequired[Decided]


class CanxFlowError(Exception):
    """Base of all errors of this library."""


# Declaring and finding workflows


class DuplicateWorkflow(CanxFlowError):
    """Two different functions were registered under one name and version. Raised at import."""


class UnknownWorkflow(CanxFlowError):
    """No workflow of this name (and version) is known in this process; a run of one is parked."""


# Calls about a run, from outside


class ScheduleNotFound(CanxFlowError):
    """No schedule has this name."""


class RunNotFound(CanxFlowError):
    """No such run, or a run of another workflow, or text that is no UUID."""


class AlreadyStarted(CanxFlowError):
    """`using(key=…, on_conflict="reject")`: the key belongs to the run `run_id`, now in `state`.

    `singleton`: the name that this run holds, where it is that what it was met by; else `None`.
    """

    def __init__(self, run_id: UUID | str, state: str, singleton: str | None = None) -> None:
        super().__init__(run_id, state, singleton)
        self.run_id, self.state, self.singleton = run_id, state, singleton

    def __str__(self) -> str:
        if self.singleton is not None:
            return f"run {self.run_id} holds the singleton {self.singleton!r}; it is {self.state}"
        return f"run {self.run_id} was already started with this key; it is {self.state}"


class InvalidState(CanxFlowError):
    """The call makes no sense for the run as it stands now, or for the place that it was called from."""


class RunFailed(CanxFlowError):
    """The run whose result was asked for has failed. `error` is the stored failure, a dict, if there is one.

    `step`: of a child, the key under which its parent has called it; else `None`.
    """

    def __init__(self, run_id: UUID | str, error: StoredError | None = None, step: str | None = None) -> None:
        super().__init__(run_id, error, step)
        self.run_id, self.error, self.step = run_id, error, step

    def is_a(self, cls: type[BaseException]) -> bool:
        """Tell whether the run failed with `cls` or a subclass of it; on a replay too."""
        return self.error is not None and class_path(cls) in self.error.get("mro", ())

    def __str__(self) -> str:
        return f"run {self.run_id} failed" + (f": {summary(self.error)}" if self.error else "")


class RunCancelled(CanxFlowError):
    """The run whose result was asked for was cancelled, for `reason` if one was given. `step`: as in `RunFailed`."""

    def __init__(self, run_id: UUID | str, reason: str = "", step: str | None = None) -> None:
        super().__init__(run_id, reason, step)
        self.run_id, self.reason, self.step = run_id, reason, step

    def __str__(self) -> str:
        return f"run {self.run_id} was cancelled" + (f": {self.reason}" if self.reason else "")


# Inside a run


class WaitTimeout(CanxFlowError, TimeoutError):
    """`ctx.wait_for` waited for its whole timeout and was given no `default`."""


class StepFailed(CanxFlowError):
    """A step has failed for good: `step` is its whole key, `attempts` the number of calls.

    `errors` holds one dict per failed attempt, the oldest first: `type`, `message`, `traceback`, `at`, `mro`.
    """

    def __init__(self, step: str, attempts: int, errors: Sequence[StoredError] = ()) -> None:
        super().__init__(step, attempts, errors)
        self.step, self.attempts, self.errors = step, attempts, list(errors)

    def is_a(self, cls: type[BaseException]) -> bool:
        """Tell whether the last attempt failed with `cls` or a subclass of it; on a replay too."""
        return bool(self.errors) and class_path(cls) in self.errors[-1].get("mro", ())

    def __str__(self) -> str:
        attempts = f"{self.attempts} attempt{'' if self.attempts == 1 else 's'}"
        return f"step {self.step!r} failed after {attempts}" + (f": {summary(self.errors[-1])}" if self.errors else "")


class StepInterrupted(StepFailed):
    """An `at_most_once` step was cut off by a crash: whether it had its effect is not known."""

    def __str__(self) -> str:
        return f"step {self.step!r} was interrupted in attempt {max(self.attempts, 1)}: its effect is not known"


class TaskLost(CanxFlowError):
    """An attempt of a delegated step was given up: not started in time, silent, or not done in time."""


class MapFailed(CanxFlowError):
    """More items of a `ctx.map` have failed than it tolerates. `step` is the map's key.

    `results` has an element for each item: what its step returned, the StepFailed of one that has failed, `None` for
    one that was not called any more.
    """

    def __init__(self, step: str, results: Sequence[object] = ()) -> None:
        super().__init__(step, results)
        self.step, self.results = step, list(results)

    @property
    def failures(self) -> list[StepFailed]:
        """Those of the items that have failed, in their order."""
        return [result for result in self.results if isinstance(result, StepFailed)]

    def __str__(self) -> str:
        failures = self.failures
        first = f": {failures[0]}" if failures else ""
        return f"{len(failures)} of the {len(self.results)} items of map {self.step!r} failed{first}"


class StepTimeout(CanxFlowError, TimeoutError):
    """One attempt of a step took longer than its `timeout`. Retried by the step's policy."""


class GiveUp(CanxFlowError):
    """Raise it in a step to fail the step at once, whatever its policy says."""


class RetryAfter(CanxFlowError):
    """Raise it in a step to be tried again after `seconds` (a number, or a timedelta), not after the policy's delay.

    `.seconds` is a float. TypeError or ValueError unless it is a finite duration of 0 or more.
    """

    def __init__(self, seconds: float | timedelta, message: str = "") -> None:
        super().__init__(seconds, message)
        self.seconds, self.message = _seconds(seconds), message

    def __str__(self) -> str:
        return self.message or f"try again after {self.seconds:g} s"


class WrongContext(CanxFlowError):
    """A context was used from another branch, thread or task, inside a step, or while its own gather runs."""


class OutsideStep(CanxFlowError):
    """A workflow's body called something that belongs into a step: it would run again on every replay."""


class NotAwaited(CanxFlowError):
    """An `async def` workflow returned, and a call of its context was never awaited, or not to its end."""


class NotInStep(CanxFlowError):
    """`current_step()` was called where no step is: in a body, in a view, in a thread without the step's context."""


class InsideTransaction(CanxFlowError):
    """A context call while the body itself holds an open transaction; a body or step that has left one open."""


# How a run ends or parks


class RunTimedOut(CanxFlowError, TimeoutError):
    """The run had not ended at its deadline."""


class HistoryMismatch(CanxFlowError):
    """The code uses a name as one kind, the history holds it as another: the run is parked."""


class ArgumentsMismatch(CanxFlowError):
    """The stored arguments of a run do not fit the function's signature, which has changed: the run is parked."""


class TooManyRecoveries(CanxFlowError):
    """The run's workers died again and again without a new record: parked until `retry`."""


# Values


class NotSerializable(CanxFlowError):
    """`what` holds, at `path`, something that cannot be stored, and `why`. `path` is empty for the value itself."""

    def __init__(self, what: str, path: str = "", why: str = "") -> None:
        super().__init__(what, path, why)
        self.what, self.path, self.why = what, path, why

    def __str__(self) -> str:
        return ": ".join(
            filter(None, (f"{self.what} cannot be stored", f"at {self.path}" if self.path else "", self.why))
        )


class NotDecodable(CanxFlowError):
    """A stored text does not make a value any more: an unknown tag, a class that is gone, or damage."""


class PayloadTooLarge(CanxFlowError):
    """`what` takes `size` bytes as stored text (or `more`); CANX_FLOW["MAX_PAYLOAD_BYTES"] allows `limit`."""

    def __init__(self, what: str, size: int, limit: int, more: bool = False) -> None:
        super().__init__(what, size, limit, more)
        self.what, self.size, self.limit, self.more = what, size, limit, more

    def __str__(self) -> str:
        size = f"{self.size} bytes or more" if self.more else f"{self.size} bytes"
        return f"{self.what} takes {size}, and the limit is {self.limit} (MAX_PAYLOAD_BYTES)"


def class_path(cls: type) -> str:
    """Return `module.QualName`, the form in which failures name classes."""
    return f"{cls.__module__}.{cls.__qualname__}"


def summary(error: Mapping[str, object]) -> str:
    """Return `Type: message` of a stored failure, for one line of text."""
    kind = str(error.get("type", "")).removeprefix("builtins.")
    message = error.get("message", "")
    return f"{kind}: {message}" if message else kind


def _seconds(duration: float | timedelta) -> float:
    if isinstance(duration, timedelta):
        duration = duration.total_seconds()
    if isinstance(duration, bool) or not isinstance(duration, (int, float)):
        raise TypeError(f"seconds must be a number or a timedelta, not {type(duration).__name__}")
    # Compared first: an int too large for a float cannot be converted.
    if not 0 <= duration < math.inf or duration > 1e300:
        raise ValueError(f"seconds must be finite and not negative, not {shown(duration)}")
    return float(duration)
