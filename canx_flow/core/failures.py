"""Exceptions as data: what is stored of one, so that it can be shown months later.

Called where a step or a run fails. Never raises, whatever the methods of the exception do.
"""

from __future__ import annotations

import hashlib
import re
import traceback
from typing import TYPE_CHECKING

from ..exceptions import MapFailed, RunCancelled, RunFailed, StepFailed, StoredError, class_path
from . import clock, codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

MESSAGE_LIMIT = 10_000
TRACEBACK_LIMIT = 50_000
_CUT = "… [cut] …"
#: Characters of an error's type that are stored beside it, and of its message's pattern.
_TYPE, _PATTERN = 200, 200
#: How the message of a step's failure tells its last attempt's.
_OF_STEP = re.compile(r"step .*? failed after [\d,]+ attempts?: (.+)", re.DOTALL)
#: What differs between two failures of one kind: quoted text, ids, numbers.
_VARIES = re.compile(
    r"""'[^']*'|"[^"]*"|\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b|\b(?=\w*\d)[0-9a-f]{8,}\b|\d+(?:[.,:]\d+)*""",
    re.IGNORECASE,
)


def describe(exc: BaseException, at: datetime | None = None) -> StoredError:
    """Return the stored form of one failed attempt: `type`, `message`, `traceback`, `at` (ISO 8601), `mro`.

    Classes are `module.QualName`. Messages keep their first 10,000 characters, tracebacks their last 50,000.
    `at` is now unless given.
    """
    kind = type(exc)
    return {
        "type": _path(kind),
        "message": _message(exc),
        "traceback": _attempt(lambda: _traceback(exc), "<the traceback could not be rendered>"),
        "at": (at or clock.now()).isoformat(),
        "mro": [_path(cls) for cls in kind.__mro__ if cls is not object],
    }


def failure_of(
    exc: BaseException, at: datetime | None = None, *, was_caught: Callable[[str], bool] | None = None
) -> StoredError:
    """Return the stored form of what ended a run: as `describe`, with the `step` whose failure ended it, if one did.

    If several did, as in an ExceptionGroup, it is the first of them, and `steps` names them all. `was_caught` tells
    whether the workflow went on to something else after this step had failed.
    """
    failure = describe(exc, at)
    steps = list(dict.fromkeys(_led_to(exc, was_caught or (lambda _step: False))))
    if steps:
        failure["step"] = steps[0]
    if len(steps) > 1:
        failure["steps"] = steps
    return failure


def steps_of(failure: StoredError) -> list[str]:
    """Return the keys of the steps that ended a run, as `failure_of` has stored them."""
    several = failure.get("steps")
    return several if several is not None else [failure["step"]] if "step" in failure else []


# -- kinds of failures ---------------------------------------------------------------------------------


def cause_of(failure: StoredError) -> tuple[str, str]:
    """Return the type and the message of what ended a run: of a step's failure those of its last attempt."""
    kind, message = str(failure.get("type", "")).removeprefix("builtins."), str(failure.get("message", ""))
    found = _OF_STEP.fullmatch(message) if "step" in failure else None
    if found is None:
        return kind, message
    kind, _, message = found[1].partition(": ")
    return kind, message


def pattern_of(message: str) -> str:
    """Return what the messages of failures of one kind have in common: without ids, numbers and quoted text."""
    return " ".join(_VARIES.sub("…", message[: 2 * MESSAGE_LIMIT]).split())[:_PATTERN]


def kind_of(error: str | None) -> tuple[str | None, str | None]:
    """Return what is stored beside the error of a run: its type, and a hash of that and its message's pattern."""
    try:
        kind, message = cause_of(codec.loads_plain(error)) if error else ("", "")
    except Exception:  # noqa: BLE001 - damaged, in any way: it is only for finding runs
        kind = message = ""
    if not kind:
        return None, None
    digest = hashlib.sha256(f"{kind}\0{pattern_of(message)}".encode()).hexdigest()
    return kind[:_TYPE], digest[:16]


def with_decision(failure: StoredError, reason: str, error: str | None) -> StoredError:
    """Return why a stopping run is parked, and with it the reason and error with which it is to end."""
    reason, error = decision(reason, error)
    failure["decided"] = {"reason": reason, "error": None if error is None else codec.loads_plain(error)}
    return failure


def decision(reason: str, error: str | None) -> tuple[str, str | None]:
    """Return the reason and the error, as it is stored, with which a run is to end; it may be, or have been, parked."""
    decided = codec.loads_plain(error).get("decided") if error else None
    if decided is None:
        return reason, error
    return decided["reason"], None if decided["error"] is None else codec.dumps_plain(decided["error"])


def _led_to(exc: BaseException, was_caught: Callable[[str], bool]) -> Iterator[str]:
    """Yield the steps whose failures led to this exception.

    A group is led to by its members, an exception raised `from` another by that one. What leaves an `except` clause
    without a `from` is led to by what was caught there, unless the workflow went on to something else in between. What
    led to the failure of a step is not followed further.
    """
    seen: set[int] = set()
    left = [(exc, False)]
    while left:
        this, implied = left.pop()
        if id(this) in seen:
            continue
        seen.add(id(this))
        if isinstance(this, (StepFailed, MapFailed, RunFailed, RunCancelled)) and this.step is not None:
            if not (implied and was_caught(this.step)):
                yield this.step
            continue
        implied = implied or not this.__suppress_context__
        origin = this.__cause__ if this.__suppress_context__ else this.__context__
        members = this.exceptions if isinstance(this, BaseExceptionGroup) else ()
        left += [(origin, implied)] if origin is not None else []
        left += [(member, False) for member in reversed(members)]


def _path(cls: type) -> str:
    return _attempt(lambda: _storable(class_path(cls)), "<unnamed>")


def _message(exc: BaseException) -> str:
    return _attempt(lambda: _head(_storable(str(exc))), "<str() of the exception failed>")


def _traceback(exc: BaseException) -> str:
    # One by one, so that a message of megabytes at the end does not push out the frames.
    text = "".join(_head(_storable(part)) for part in traceback.format_exception(exc))
    return text if len(text) <= TRACEBACK_LIMIT else f"{_CUT}\n{text[len(_CUT) + 1 - TRACEBACK_LIMIT :]}"


def _head(text: str) -> str:
    return text if len(text) <= MESSAGE_LIMIT else f"{text[: MESSAGE_LIMIT - len(_CUT) - 1]}{_CUT}\n"


def _storable(text: str) -> str:
    """Return plain text that every database takes: NUL and lone surrogates are written as escapes."""
    text = str.__str__(text).replace("\x00", "\\x00")
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _attempt(make: Callable[[], str], otherwise: str) -> str:
    try:
        return make()
    except BaseException:  # noqa: BLE001 - A __str__ of a user's exception may raise anything, SystemExit included.
        return otherwise
