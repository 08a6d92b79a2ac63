"""The errors: what they derive from, carry and say."""

from __future__ import annotations

import copy
import inspect
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from canx_flow import exceptions
from canx_flow.core.failures import describe
from canx_flow.exceptions import (
    AlreadyStarted,
    CanxFlowError,
    NotSerializable,
    PayloadTooLarge,
    RetryAfter,
    RunCancelled,
    RunFailed,
    RunTimedOut,
    StepFailed,
    StepInterrupted,
    StepTimeout,
    WaitTimeout,
)

pytestmark = pytest.mark.once

RUN = UUID("01900000-0000-7000-8000-000000000001")
AT = datetime(2026, 11, 23, tzinfo=UTC)


class CardDeclinedError(Exception):
    """An error of a project."""


class CardExpiredError(CardDeclinedError):
    """A more special one."""


def failed(*errors: Exception) -> StepFailed:
    """The failure of a step whose attempts failed so."""
    return StepFailed("charge", len(errors), [describe(error, AT) for error in errors])


EXAMPLES = [
    AlreadyStarted(RUN, "sleeping"),
    AlreadyStarted(RUN, "sleeping", "sync:7"),
    RunFailed(RUN, {"type": "builtins.ValueError", "message": "no"}),
    RunCancelled(RUN, "by hand"),
    WaitTimeout("nothing came"),
    failed(CardExpiredError("2020")),
    StepInterrupted("charge", 1),
    StepTimeout("too slow"),
    RetryAfter(timedelta(minutes=1), "busy"),
    RunTimedOut("too late"),
    NotSerializable("the result", "[0]", "a file"),
    PayloadTooLarge("the result", 20, 10),
]


def every_error() -> list[type[BaseException]]:
    """The classes defined in `exceptions`."""
    classes = [cls for _, cls in inspect.getmembers(exceptions, inspect.isclass) if issubclass(cls, BaseException)]
    return [cls for cls in classes if cls.__module__ == exceptions.__name__]


@pytest.mark.parametrize("cls", every_error())
def test_all_derive_from_one(cls: type[BaseException]) -> None:
    """Whoever catches CanxFlowError has caught every error of this library, and Exception catches them too."""
    assert issubclass(cls, CanxFlowError)
    assert issubclass(cls, Exception)


@pytest.mark.parametrize("cls", [WaitTimeout, StepTimeout, RunTimedOut])
def test_timeouts_are_timeout_errors(cls: type[CanxFlowError]) -> None:
    """Each timeout is also Python's own TimeoutError, and says just its message."""
    error = cls("the message")
    assert isinstance(error, TimeoutError)
    assert str(error) == "the message"


def test_a_wait_for_a_result_times_out_unlike_the_rest() -> None:
    """TimeoutError itself, which `result(timeout=…)` raises, is none of the library's own."""
    assert not issubclass(TimeoutError, CanxFlowError)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_errors_survive_being_copied(error: CanxFlowError, clone: Any) -> None:
    """A copy, also one in another process, has the same attributes and says the same."""
    twin = clone(error)
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert vars(twin) == vars(error)


def test_a_failed_step_names_step_attempts_and_last_error() -> None:
    """str() of a StepFailed is enough to know what went wrong where."""
    text = str(failed(ValueError("first"), CardExpiredError("2020")))
    assert text.startswith("step 'charge' failed after 2 attempts: ")
    assert text.endswith("CardExpiredError: 2020")


def test_builtin_errors_are_named_plainly() -> None:
    """Nobody has to read `builtins.` in a message."""
    assert str(failed(ValueError("no"))) == "step 'charge' failed after 1 attempt: ValueError: no"
    assert str(failed(ValueError())) == "step 'charge' failed after 1 attempt: ValueError"
    assert str(StepFailed("charge", 3)) == "step 'charge' failed after 3 attempts"


def test_is_a_looks_at_the_last_error_and_its_bases() -> None:
    """`is_a` is true of the last error's class and its bases, not of its subclasses, and not of earlier errors."""
    error = failed(ValueError(), CardDeclinedError())
    assert error.is_a(CardDeclinedError)
    assert error.is_a(Exception)
    assert not error.is_a(CardExpiredError)
    assert not error.is_a(ValueError)
    assert not StepFailed("charge", 1).is_a(Exception)


def test_is_a_knows_builtin_bases() -> None:
    """A ConnectionResetError is an OSError after a replay too, and a StepTimeout a TimeoutError."""
    assert failed(ConnectionResetError()).is_a(OSError)
    assert failed(StepTimeout("slow")).is_a(TimeoutError)


def test_an_interrupted_step_is_a_failed_step() -> None:
    """`except StepFailed` catches an interruption, which says that nobody knows what happened."""
    error = StepInterrupted("charge", 0)
    assert isinstance(error, StepFailed)
    assert str(error) == "step 'charge' was interrupted in attempt 1: its effect is not known"


def test_the_callers_list_of_errors_is_not_shared() -> None:
    """Whoever changes the list that a StepFailed was made from does not change the StepFailed."""
    errors = [describe(ValueError(), AT)]
    error = StepFailed("charge", 1, errors)
    errors.clear()
    assert len(error.errors) == 1


def test_messages_about_runs_name_the_run() -> None:
    """Errors about a run say which, and why."""
    held = f"run {RUN} holds the singleton 'sync:7'; it is running"
    assert str(AlreadyStarted(RUN, "running", "sync:7")) == held
    assert str(AlreadyStarted(RUN, "failed")) == f"run {RUN} was already started with this key; it is failed"
    assert str(RunFailed(RUN)) == f"run {RUN} failed"
    assert str(RunFailed(RUN, {"type": "shop.Broken", "message": "x"})) == f"run {RUN} failed: shop.Broken: x"
    assert str(RunCancelled(RUN)) == f"run {RUN} was cancelled"
    assert str(RunCancelled(RUN, "by hand")) == f"run {RUN} was cancelled: by hand"


def test_a_payload_too_large_tells_both_sizes() -> None:
    """The size, the limit and the setting are in the message."""
    text = str(PayloadTooLarge("the result of step 'charge'", 1_000_001, 1_000_000))
    assert text == "the result of step 'charge' takes 1000001 bytes, and the limit is 1000000 (MAX_PAYLOAD_BYTES)"


def test_not_serializable_leaves_out_what_it_does_not_know() -> None:
    """Path and reason appear when there are any."""
    assert str(NotSerializable("it", "[0]", "a file")) == "it cannot be stored: at [0]: a file"
    assert str(NotSerializable("it")) == "it cannot be stored"


def test_retry_after_takes_seconds_or_a_timedelta() -> None:
    """Either way `.seconds` is a float."""
    assert RetryAfter(30).seconds == 30.0
    assert RetryAfter(timedelta(minutes=1)).seconds == 60.0
    assert str(RetryAfter(0.5)) == "try again after 0.5 s"
    assert str(RetryAfter(1, "busy")) == "busy"


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 10**400, timedelta(seconds=-1)])
def test_retry_after_refuses_what_is_no_duration(seconds: Any) -> None:
    """A negative or endless wait is a ValueError that names the argument."""
    with pytest.raises(ValueError, match="seconds"):
        RetryAfter(seconds)


@pytest.mark.parametrize("seconds", ["30", None, True])
def test_retry_after_refuses_what_is_no_number(seconds: Any) -> None:
    """A header's text must be converted first: a TypeError that names the argument."""
    with pytest.raises(TypeError, match="seconds"):
        RetryAfter(seconds)
