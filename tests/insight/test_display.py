"""Stored values as people may see them: through REDACT, readable, shortened, and never an exception."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from canx_flow.admin import words
from canx_flow.core import codec
from canx_flow.core.failures import describe, failure_of
from canx_flow.exceptions import StepFailed
from canx_flow.insight import display
from canx_flow.insight.redaction import CONCEALED, UNKNOWN, Names
from canx_flow.insight.stored import Stored

pytestmark = pytest.mark.once

SECRET = "4242-4242"
CHARGE, ORDER = Names("result", "order", "charge"), Names("arguments", "order")
#: What `by_name` was called with: kind, workflow, step, event.
seen: list[tuple[str, str, str | None, str | None]] = []


def by_name(value: Any, *, workflow: str, step: str | None, event: str | None, kind: str) -> Any:
    """Hides what `charge` returns, and notes every call."""
    seen.append((kind, workflow, step, event))
    return "***" if step == "charge" else value


def by_shape(value: Any, **_names: Any) -> Any:
    """Hides card numbers, wherever they stand."""
    return json.loads(re.sub(r"\d{4}-\d{4}", "****", json.dumps(value)))


def only_messages(value: Any, **_names: Any) -> Any:
    """Knows of messages, not of tracebacks."""
    return {**value, "message": "***"} if "message" in value else value


def fails(value: Any, **_names: Any) -> Any:
    """Fails, and says why."""
    raise KeyError(value)


def goes_round(_value: Any, **_names: Any) -> Any:
    """Returns something that has no end."""
    endless: list[Any] = []
    endless.append(endless)
    return endless


class Odd:
    """What nobody can look at."""

    def __repr__(self) -> str:
        raise RuntimeError(SECRET)


def odd(_value: Any, **_names: Any) -> Any:
    """Returns something that cannot be written."""
    return Odd()


@pytest.fixture
def redact(settings: Any) -> Callable[[Callable[..., Any]], None]:
    """Set REDACT to a function of this module."""
    seen.clear()

    def choose(function: Callable[..., Any]) -> None:
        settings.CANX_FLOW = {"REDACT": f"{__name__}.{function.__name__}"}

    return choose


Choose = Callable[[Callable[..., Any]], None]


def _error(message: str = SECRET) -> dict[str, Any]:
    try:
        raise ValueError(message)
    except ValueError as exc:
        return describe(exc)


def _failure() -> str:
    """What is stored of a run whose step `charge` has failed."""
    failure = StepFailed("charge", 1, [_error()])
    return codec.dumps_plain(failure_of(failure))


def test_a_value_is_decoded() -> None:
    """Its types show."""
    text = codec.dumps({"card": (SECRET, None)}, "it")
    assert str(display.shown(text, CHARGE)) == '{"card": ("4242-4242", null)}'
    assert display.shown(None, "charge") is None
    assert str(display.arguments(codec.dumps([[7], {"now": True}], "it"), ORDER)) == "(7, now=true)"


def test_a_long_value_is_cut_and_says_so() -> None:
    """With how much was left out; no limit leaves nothing out."""
    text = codec.dumps("x" * 98, "it")
    shown = display.shown(text, limit=10)
    assert shown is not None
    assert (shown.text, shown.left_out) == ('"xxxxxxxxx', 90)
    assert str(shown) == '"xxxxxxxxx… (90 more characters)'
    whole = display.shown(text, limit=None)
    assert whole is not None
    assert whole.left_out == 0


@pytest.mark.parametrize("text", ['{"$dataclass":["gone:Class",{}]}', "{", "", '"a" b', '"\\ud800'])
def test_what_does_not_decode_is_shown_as_it_is_stored(text: str) -> None:
    """And a note says so."""
    shown = display.shown(text, CHARGE)
    assert shown is not None
    assert shown.text == text
    assert shown.note.startswith("as stored; ")


def test_redact_is_called_with_the_name_and_the_value(redact: Choose) -> None:
    """A run's arguments as `[positional, keywords]`, a step's result: each under its names."""
    redact(by_name)
    assert str(display.shown(codec.dumps((1, 2), "it"), CHARGE)) == '"***"'
    assert str(display.arguments(codec.dumps([[1], {"a": 2}], "it"), ORDER)) == "(1, a=2)"
    assert seen == [("result", "order", "charge", None), ("arguments", "order", None, None)]


def test_a_value_whose_names_are_lost_is_hidden(redact: Choose) -> None:
    """The broadcast that a wait has read is kept for a while only; without `REDACT` its payload is shown still."""
    assert str(display.shown('"yes"', UNKNOWN)) == '"yes"'
    redact(by_name)
    shown = display.shown('"yes"', UNKNOWN)
    assert shown is not None
    assert (shown.text, seen) == (display.HIDDEN, [])
    assert "no longer kept" in shown.note


def test_what_is_concealed_is_shown_to_nobody() -> None:
    """Neither a value, be it long or damaged, nor what an error says; its type is."""
    for text in (codec.dumps(SECRET, "it"), "{damaged"):
        shown = display.shown(text, CONCEALED)
        assert shown is not None
        assert (shown.text, shown.note) == (display.HIDDEN, "")
    long = Stored(SECRET[:4], len(SECRET), lambda: SECRET)
    assert str(display.excerpt(long, CONCEALED)) == display.HIDDEN
    (error,) = display.step_errors(codec.dumps_plain([_error()]), "order", "charge", concealed=True)
    assert (error.type, error.message, error.traceback) == ("builtins.ValueError", display.HIDDEN, "")
    for concealed in (
        display.run_error(_failure(), "order", concealed=True),
        display.last_error(codec.dumps_plain([_error()]), "order", "charge", concealed=True),
        display.step_errors(SECRET, "order", "charge", concealed=True),
        display.progress({"done": 1, "total": 2, "message": SECRET}, CONCEALED),
    ):
        assert SECRET not in repr(concealed)


@pytest.mark.parametrize("function", [fails, goes_round, odd])
def test_a_function_that_fails_hides_the_value(redact: Choose, function: Callable[..., Any]) -> None:
    """Whatever is wrong with REDACT, the value in clear is never shown, neither in a note."""
    redact(function)
    text = codec.dumps([[SECRET], {}], "it")
    for shown in (display.shown(text, CHARGE), display.arguments(text, ORDER)):
        assert shown is not None
        assert shown.text == display.HIDDEN
        assert shown.note
        assert SECRET not in str(shown)
    stored = codec.dumps_plain([_error()])
    (error,) = display.step_errors(stored, "order", "charge")
    assert SECRET not in repr(error)
    assert error.type == "builtins.ValueError"


def test_a_redact_that_is_no_function_hides_everything(settings: Any) -> None:
    """A typing error in the settings must not show what it was to hide."""
    settings.CANX_FLOW = {"REDACT": "no.such.function"}
    shown = display.shown(codec.dumps(SECRET, "it"), CHARGE)
    assert shown is not None
    assert shown.text == display.HIDDEN
    assert SECRET not in repr(display.run_error(_failure(), "order"))


def test_what_redact_cannot_look_at_is_hidden(redact: Choose) -> None:
    """What no longer decodes, it cannot judge: without it, it would be shown as stored."""
    redact(by_shape)
    shown = display.shown(f'{{"$gone": "{SECRET}"}}', CHARGE)
    assert shown is not None
    assert shown.text == display.HIDDEN
    assert SECRET not in str(shown)


def test_errors_are_plain_structures() -> None:
    """Type, message, traceback and an aware moment; of a run, the step that ended it."""
    (error,) = display.step_errors(codec.dumps_plain([_error("a\nb")]), "order", "charge")
    assert (error.type, error.message, error.step) == ("builtins.ValueError", "a\nb", None)
    assert error.summary == "ValueError: a b"
    assert error.traceback.startswith("Traceback (most recent call last):")
    assert error.at is not None
    assert error.at.tzinfo is not None
    ended = display.run_error(_failure(), "order")
    assert ended is not None
    assert ended.step == "charge"
    assert ended.summary.startswith("StepFailed: step 'charge' failed after 1 attempt")
    assert display.run_error(None, "order") is None
    assert display.step_errors(None, "order", "charge") == []


def test_damaged_errors_are_shown_all_the_same(redact: Choose) -> None:
    """As far as they can be read, and hidden where REDACT cannot look at them."""
    assert [error.message for error in display.step_errors("{no json", "order", "charge")] == ["{no json"]
    assert [error.message for error in display.step_errors("[7, {}]", "order", "charge")] == ["", ""]
    redact(by_shape)
    assert SECRET not in repr(display.step_errors(SECRET + "{", "order", "charge"))
    assert SECRET not in repr(display.run_error(SECRET + "{", "charge"))


def test_errors_go_through_redact(redact: Choose) -> None:
    """Message and traceback may hold what it is to hide; the type and the time are shown."""
    redact(by_shape)
    (error,) = display.step_errors(codec.dumps_plain([_error(f"card {SECRET} declined")]), "order", "charge")
    assert error.message == "card **** declined"
    assert "ValueError: card **** declined" in error.traceback
    assert SECRET not in repr(error)


def test_the_failure_of_a_step_is_hidden_in_its_run_too(redact: Choose) -> None:
    """A run's error repeats its step's: REDACT is asked with the same names."""
    redact(by_name)
    error = display.run_error(_failure(), "order")
    assert error is not None
    assert error.message == '"***"'
    assert error.traceback == ""
    assert seen == [("error", "order", "charge", None)]


def test_a_hidden_message_hides_the_traceback(redact: Choose) -> None:
    """It repeats the message, and those of its causes, which a function may not think of."""
    redact(only_messages)
    (error,) = display.step_errors(codec.dumps_plain([_error()]), "order", "charge")
    assert error.message == "***"
    assert error.traceback == display.HIDDEN


def _of_two_steps() -> str:
    """A group that the failures of two steps have led to."""
    failures = [StepFailed(step, 1, [_error(f"card {SECRET} declined")]) for step in ("charge", "ship")]
    return codec.dumps_plain(failure_of(ExceptionGroup("could not order", failures)))


def test_redact_is_asked_with_every_step_that_led_to_an_error(redact: Choose) -> None:
    """What a step's failure says stands in the traceback of what it has led to."""
    redact(by_name)
    error = display.run_error(_of_two_steps(), "order")
    assert error is not None
    assert seen == [("error", "order", "charge", None), ("error", "order", "ship", None)]
    assert SECRET not in repr(error)


def test_an_error_that_steps_have_led_to_names_them_all() -> None:
    """In a line of a list: the steps, then what it is itself."""
    error = display.run_error(_of_two_steps(), "order")
    assert error is not None
    assert (error.step, error.steps, error.is_step_s) == ("charge", ("charge", "ship"), False)
    assert error.brief == "charge, ship: ExceptionGroup: could not order (2 sub-exceptions)"
    assert words.failure(error, 200) == error.brief
