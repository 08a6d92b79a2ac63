"""Exceptions as data: everything that people need later, whatever the exception does."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import NoReturn

import pytest
from freezegun import freeze_time

from canx_flow.core import codec
from canx_flow.core.failures import (
    MESSAGE_LIMIT,
    TRACEBACK_LIMIT,
    cause_of,
    describe,
    failure_of,
    kind_of,
    pattern_of,
    steps_of,
)  # fmt: skip
from canx_flow.exceptions import StepFailed

pytestmark = pytest.mark.once

AT = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)


class HostileError(Exception):
    """Its text raises whatever it was made with."""

    def __str__(self) -> str:
        raise self.args[0]


class LockedError(Exception):
    """It can neither be pickled nor copied."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("no")


class LoudText(str):
    """A str with ideas of its own."""

    __slots__ = ()

    def __str__(self) -> str:
        return LoudText("loud")

    def replace(self, *args: object) -> NoReturn:
        raise RuntimeError("no")


def raised(error: BaseException) -> BaseException:
    """The same exception, with a traceback."""
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - it is what was asked for
        return caught


def endless(depth: int) -> None:
    """Never returns."""
    endless(depth + 1)


def test_a_failure_has_type_message_traceback_time_and_bases() -> None:
    """What is stored of an exception names its classes by module and tells where it was raised."""
    failure = describe(raised(KeyError("x")), AT)
    assert failure["type"] == "builtins.KeyError"
    assert failure["message"] == "'x'"
    assert failure["at"] == "2026-11-23T12:30:00+00:00"
    assert failure["mro"] == [f"builtins.{name}" for name in ("KeyError", "LookupError", "Exception", "BaseException")]
    assert failure["traceback"].startswith("Traceback (most recent call last):\n")
    assert "in raised\n" in failure["traceback"]
    assert failure["traceback"].endswith("KeyError: 'x'\n")


def test_now_is_the_engines_clock() -> None:
    """Without a time given, a frozen clock is what counts."""
    with freeze_time(AT):
        assert describe(ValueError())["at"] == AT.isoformat()
        assert failure_of(ValueError())["at"] == AT.isoformat()


def test_a_cause_is_part_of_the_traceback() -> None:
    """The exception behind the exception is shown too."""
    error = ValueError("outer")
    error.__cause__ = raised(KeyError("inner"))
    assert "KeyError: 'inner'" in describe(raised(error), AT)["traceback"]


@pytest.mark.parametrize("inner", [ValueError("no"), RecursionError(), SystemExit(1), KeyboardInterrupt()])
def test_c028_an_exception_whose_text_raises_is_still_described(inner: BaseException) -> None:
    """Whatever str() raises, type and traceback are kept."""
    failure = describe(raised(HostileError(inner)), AT)
    assert failure["type"].endswith(".HostileError")
    assert failure["message"] == "<str() of the exception failed>"
    assert isinstance(failure["traceback"], str)


def test_c028_an_exception_that_cannot_be_pickled_is_described() -> None:
    """Nothing is pickled, so nothing has to be picklable."""
    assert describe(raised(LockedError("x", lambda: None)), AT)["type"].endswith(".LockedError")


def test_a_subclass_of_str_as_text_has_no_say() -> None:
    """A str subclass that overrides everything is read as the text that it is."""
    assert describe(raised(Exception(LoudText("x"))), AT)["message"] == "loud"


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b", "\udcff", "é\x00"])
def test_every_database_takes_the_text(text: str) -> None:
    """NUL and lone surrogates are written as escapes; the rest stays as it is."""
    for part in (
        describe(raised(ValueError(text)), AT)["message"],
        describe(raised(ValueError(text)), AT)["traceback"],
    ):
        assert "\x00" not in part
        part.encode("utf-8")
    assert describe(ValueError("a\x00é"), AT)["message"] == "a\\x00é"


def test_a_huge_message_is_cut_and_the_frames_stay() -> None:
    """Of a message of a million characters the first ten thousand are kept, and it pushes out no frame."""
    failure = describe(raised(ValueError("x" * 1_000_000)), AT)
    assert len(failure["message"]) <= MESSAGE_LIMIT
    assert failure["message"].startswith("xxx")
    assert len(failure["traceback"]) <= TRACEBACK_LIMIT
    assert "in raised\n" in failure["traceback"]


def test_a_huge_traceback_keeps_its_end() -> None:
    """The end of a long chain of exceptions is what was raised last, so the beginning is cut."""
    error: BaseException = ValueError("first")
    for number in range(300):
        later = ValueError(f"{number} {'x' * 500}")
        later.__cause__ = error
        error = raised(later)
    text = describe(error, AT)["traceback"]
    assert len(text) <= TRACEBACK_LIMIT
    assert text.startswith("… [cut] …\n")
    assert "ValueError: 299" in text
    assert "first" not in text


def test_endless_recursion_is_described() -> None:
    """A RecursionError with its thousand frames is a failure like others."""
    with pytest.raises(RecursionError) as caught:
        endless(0)
    assert describe(caught.value, AT)["type"] == "builtins.RecursionError"


def test_a_group_is_described_with_its_members() -> None:
    """What a TaskGroup raises shows every exception in it."""
    failure = describe(raised(ExceptionGroup("two", [ValueError("a"), KeyError("b")])), AT)
    assert "ValueError: a" in failure["traceback"]
    assert "KeyError: 'b'" in failure["traceback"]


def test_a_class_with_an_unusable_name_is_described() -> None:
    """A class that names itself strangely is stored under a name that can be stored."""
    strange = type("Strange", (Exception,), {"__module__": "shop"})
    strange.__qualname__ = "Str\x00nge"
    assert describe(strange("x"), AT)["type"] == "shop.Str\\x00nge"
    strange.__module__ = None  # type: ignore[assignment]
    assert describe(strange("x"), AT)["type"] == "None.Str\\x00nge"


def test_a_failure_is_plain_json() -> None:
    """What is described needs no codec to be read."""
    failure = failure_of(raised(StepFailed("charge", 1, [describe(ValueError(), AT)])), AT)
    assert json.loads(codec.dumps_plain(failure)) == failure


def test_the_failure_of_a_run_names_the_step_that_ended_it() -> None:
    """A StepFailed that leaves the workflow adds its step; any other exception adds nothing."""
    assert failure_of(StepFailed("charge", 1), AT)["step"] == "charge"
    assert "steps" not in failure_of(StepFailed("charge", 1), AT)
    assert "step" not in failure_of(ValueError(), AT)


def _raised_from(cause: BaseException | None, context: BaseException | None = None) -> BaseException:
    """A ValueError raised `from` this cause, while the other exception was handled."""
    try:
        if context is None:
            raise ValueError("no") from cause
        try:
            raise context
        except BaseException:  # noqa: BLE001 - whatever it is
            raise ValueError("no") from cause
    except ValueError as error:
        return error


def _implied(context: BaseException) -> BaseException:
    """A ValueError that left the `except` clause of another exception."""
    try:
        try:
            raise context
        except BaseException:  # noqa: BLE001 - whatever it is
            raise ValueError("no")  # noqa: B904 - this is what is tried
    except ValueError as error:
        return error


CHARGE, SHIP = StepFailed("charge", 1), StepFailed("ship", 1)
OTHER = StepFailed("other", 1)
OTHER.__context__ = CHARGE


@pytest.mark.parametrize(
    ("error", "steps"),
    [
        (_raised_from(CHARGE), ["charge"]),
        (_raised_from(_raised_from(CHARGE)), ["charge"]),
        (_implied(SHIP), ["ship"]),
        (_raised_from(None, SHIP), []),
        (_raised_from(CHARGE, SHIP), ["charge"]),
        (OTHER, ["other"]),
        (_raised_from(OTHER), ["other"]),
        (
            ExceptionGroup("two", [CHARGE, ValueError(), ExceptionGroup("one", [_raised_from(SHIP)])]),
            ["charge", "ship"],
        ),
        (ExceptionGroup("twice", [CHARGE, CHARGE]), ["charge"]),
        (BaseExceptionGroup("none", [KeyboardInterrupt()]), []),
        (_raised_from(ExceptionGroup("one", [SHIP])), ["ship"]),
    ],
)
def test_steps_that_led_to_another_exception_are_named(error: BaseException, steps: list[str]) -> None:
    """Whatever it is wrapped in: raised `from` it, in its `except` clause, or in a group; not behind `from None`."""
    failure = failure_of(error, AT)
    assert steps_of(failure) == steps
    assert failure.get("step") == (steps[0] if steps else None)
    assert json.loads(codec.dumps_plain(failure)) == failure


def test_a_failure_that_was_caught_led_only_to_what_is_raised_from_it() -> None:
    """A workflow that has gone on after it says with `from` that it is the reason all the same."""

    def caught(step: str) -> bool:
        return step == "ship"

    assert steps_of(failure_of(_implied(SHIP), was_caught=caught)) == []
    assert steps_of(failure_of(_raised_from(SHIP), was_caught=caught)) == ["ship"]
    assert steps_of(failure_of(SHIP, was_caught=caught)) == ["ship"]
    assert steps_of(failure_of(ExceptionGroup("one", [_implied(SHIP), CHARGE]), was_caught=caught)) == ["charge"]


def test_exceptions_that_lead_to_each_other_are_looked_at_once() -> None:
    """A chain that comes back to where it began ends there."""
    one, other = ValueError(), KeyError()
    one.__context__, other.__context__ = other, one
    assert "step" not in failure_of(one, AT)


# -- kinds of failures -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("order 17 is gone", "order 4,218 is gone"),
        ("no row 'a b' in \"x\"", "no row 'c' in \"y\""),
        ("run 01900000-0000-7000-8000-000000000000 lost", "run 01900000000070008000000000000001 lost"),
        ("took 1.5 s\nat 12:30:01", "took 20 s at 9:01:59"),
        ("commit deadbeef12", "commit 0abc1234ff99"),
    ],
)
def test_messages_of_one_kind_have_one_pattern(one: str, other: str) -> None:
    """Ids, numbers and quoted text make no difference; words do."""
    assert pattern_of(one) == pattern_of(other)
    assert pattern_of(one) != pattern_of(f"{other} again")


def test_a_pattern_is_short_and_found_quickly() -> None:
    """Whatever the message."""
    for text in ("x" * 100_000, "'" * 50_001, "a" * 99_999 + "1", "1" * 100_000):
        assert len(pattern_of(text)) <= 200


def test_a_step_s_failure_is_of_the_kind_of_its_last_attempt() -> None:
    """Not `StepFailed`; an interrupted one has none."""
    failed = failure_of(StepFailed("charge", 2, [describe(ValueError("card 17: declined"))]))
    assert cause_of(failed) == ("ValueError", "card 17: declined")
    assert kind_of(codec.dumps_plain(failed)) == kind_of(codec.dumps_plain(describe(ValueError("card 18: declined"))))
    assert cause_of(failure_of(StepFailed("charge", 2)))[0].endswith("StepFailed")


@pytest.mark.parametrize("damaged", [None, "", "{", "[1]", '"text"', "{}"])
def test_what_is_no_error_has_no_kind(damaged: str | None) -> None:
    """It keeps no run from anything."""
    assert kind_of(damaged) == (None, None)
