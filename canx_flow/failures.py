"""Exceptions as data: what is stored of one, so that it can be shown and asked about months later.

Called where a step or a run fails. Never raises, whatever the exception does when it is looked at.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from . import clock
from .exceptions import StepFailed, class_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

MESSAGE_LIMIT = 10_000
TRACEBACK_LIMIT = 50_000
_CUT = "… [cut] …"


def describe(exc: BaseException, at: datetime | None = None) -> dict[str, Any]:
    """The stored form of one failed attempt: `type`, `message`, `traceback`, `at` (ISO 8601), `mro`.

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


def failure_of(exc: BaseException, at: datetime | None = None) -> dict[str, Any]:
    """The stored form of what ended a run: as `describe`, and `step` if a step's failure did."""
    failure = describe(exc, at)
    if isinstance(exc, StepFailed):
        failure["step"] = exc.step
    return failure


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
    """Plain text that every database takes: NUL and lone surrogates are written as escapes."""
    text = str.__str__(text).replace("\x00", "\\x00")
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _attempt(make: Callable[[], str], otherwise: str) -> str:
    try:
        return make()
    except BaseException:  # noqa: BLE001 - A __str__ of a user's exception may raise anything, SystemExit included.
        return otherwise
