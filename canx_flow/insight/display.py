"""Stored values as people may see them: decoded, through `REDACT`, as readable text, shortened.

Called by the admin, the terminal and `timeline`. Nothing here raises. `redaction` says under which names `REDACT` is
asked for a value. Of an error the type and the time are always shown, a traceback only if the message was left alone
or the traceback was changed too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .. import conf
from ..core import codec
from ..core.failures import steps_of
from ..core.options import Progress
from ..core.pretty import WIDTH, as_call, pretty, printable
from ..exceptions import StepFailed, StepInterrupted, StoredError, class_path, summary
from . import speech
from .redaction import HIDDEN, Names, Raw, Revealed, reveal, reveal_value
from .stored import Stored

#: Characters of one value that are shown unless asked otherwise.
LIMIT = 10_000
_BRIEF = 200  # characters of an error in a list
_STEP_FAILURES = {class_path(StepFailed), class_path(StepInterrupted)}
_OF_STEP = re.compile(r"step .*? failed after [\d,]+ attempts?: (.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Shown:
    """A value as text. `left_out`: characters cut off at its end; `note`: why it is not the value as it was stored."""

    text: str
    left_out: int = 0
    note: str = ""

    def __str__(self) -> str:
        more = ngettext("({number} more character)", "({number} more characters)", self.left_out)
        cut = f"… {more.format(number=speech.number(self.left_out))}" if self.left_out else ""
        note = f" ({self.note})" if self.note else ""
        return f"{self.text}{cut}{note}"


@dataclass(frozen=True, slots=True)
class ShownError:
    """A stored failure: of one attempt, or of a run, then with the `steps` that ended it, if any did."""

    type: str
    message: str
    traceback: str
    at: datetime | None
    steps: tuple[str, ...] = ()
    #: Of an attempt: of how many it is one, where that is limited.
    max_attempts: int | None = None
    #: Of an attempt: which it was in its round of attempts, and when it was called, where that was stored.
    attempt: int | None = None
    began: datetime | None = None

    @property
    def step(self) -> str | None:
        """The first of them."""
        return self.steps[0] if self.steps else None

    @property
    def is_step_s(self) -> bool:
        """Whether it is the failure of that step itself, and no other exception that it has led to."""
        return self.type in _STEP_FAILURES

    @property
    def summary(self) -> str:
        """`Type: message` on one line; the type without its module."""
        name = self.type.rpartition(".")[2]
        return " ".join(summary({"type": name, "message": self.message}).split())

    @property
    def summary_in_brief(self) -> str:
        """The same, shortened."""
        said = self.summary
        return said if len(said) <= _BRIEF else f"{said[: _BRIEF - 1]}…"

    @property
    def brief(self) -> str:
        """What failed, for a line of a list: `step: Type: message`, shortened."""
        found = _OF_STEP.fullmatch(self.message) if self.step else None
        said = " ".join(found[1].split()) if found else self.summary
        said = f"{printable(', '.join(self.steps))}: {said}" if self.steps else said
        return said if len(said) <= _BRIEF else f"{said[: _BRIEF - 1]}…"


# -- what may be seen ------------------------------------------------------------------------------


def shown(text: str | None, *names: Names, limit: int | None = LIMIT, width: int = WIDTH) -> Shown | None:
    """Write a stored text readably; `None` if nothing is stored."""
    return None if text is None else _shown(reveal(text, *names), pretty, limit, width)


def excerpt(stored: Stored | None, names: Names | None, *, width: int = WIDTH) -> Shown | None:
    """Write a stored text of which only the beginning may have been read; `REDACT` alone is given the rest of it.

    What is not whole does not decode: its beginning is shown as it is stored.
    """
    concealed, given = names is not None and names.concealed, () if names is None else (names,)
    if stored is None or stored.is_whole or conf.get().redact or concealed:
        text = None if stored is None else stored.text if concealed else stored.whole()
        return shown(text, *given, width=width)
    text = stored.text[:LIMIT]
    return Shown(printable(text), stored.length - len(text), _("as it is stored"))


def large(stored: Stored | None, most: int, names: Names | None = None) -> Shown | None:
    """Write what has more than so many characters as it is stored, cut, without decoding it; `None`: it has not.

    `REDACT` would have to be given all of it, so where that is set only the size is told; nothing of what is concealed.
    """
    if stored is None or stored.length <= most or (names is not None and names.concealed):
        return None
    if conf.get().redact:
        return Shown("", stored.length, "")
    text = stored.text[:most]
    return Shown(printable(text), stored.length - len(text), _("as it is stored") if text else "")


def arguments(text: str, *names: Names, limit: int | None = LIMIT, width: int = WIDTH) -> Shown:
    """Write a run's stored arguments as in the call: `(7, express=true)`."""
    return _shown(reveal(text, *names), as_call, limit, width)


def value(found: Any, *names: Names, limit: int | None = LIMIT, width: int = WIDTH) -> Shown:
    """Write a value that is no stored text, such as a run's attributes."""
    return _shown(reveal_value(found, *names), pretty, limit, width)


def progress(found: Progress | None, *names: Names) -> Progress | None:
    """Return a run's progress; `None` where `REDACT` leaves nothing of it that could be drawn."""
    revealed = reveal_value(found, *names) if found else None
    if revealed is None or not isinstance(revealed.value, Mapping):
        return None
    return cast("Progress", dict(revealed.value))


# -- errors ----------------------------------------------------------------------------------------


def run_error(text: str | None, workflow: str, *, concealed: bool = False) -> ShownError | None:
    """Return what ended a run, as stored in its `error`."""
    if not text:
        return None
    stored = _plain(text)
    steps: tuple[str | None, ...] = _steps(stored) or (None,)
    return _error(stored, *(_failure(workflow, step, concealed) for step in steps))


def step_errors(text: str | None, workflow: str, step: str, *, concealed: bool = False) -> list[ShownError]:
    """Return the failed attempts of a step, oldest first, as stored in its record's `errors`."""
    stored = _plain(text) if text else []
    names = _failure(workflow, step, concealed)
    return [_error(error, names) for error in (stored if isinstance(stored, list) else [stored])]


def last_error(text: str | None, workflow: str, step: str, *, concealed: bool = False) -> ShownError | None:
    """Return the last failed attempt of a step."""
    stored = _plain(text) if text else []
    stored = stored if isinstance(stored, list) else [stored]
    return _error(stored[-1], _failure(workflow, step, concealed)) if stored else None


def _failure(workflow: str, step: str | None, concealed: bool) -> Names:
    return Names("error", workflow, step, concealed=concealed)


def _plain(text: str) -> Any:
    try:
        return codec.loads_plain(text)
    except Exception:  # noqa: BLE001 - damage, of any kind
        return {"type": "?", "message": hidden() if conf.get().redact else text}


def _error(stored: Any, *names: Names) -> ShownError:
    stored = stored if isinstance(stored, dict) else {}
    said = {name: str(stored.get(name) or "") for name in ("type", "message", "traceback")}
    message, traceback = redacted_error(said, *names)
    most, number = stored.get("max_attempts"), stored.get("attempt")
    return ShownError(
        printable(said["type"]), printable(message), printable(traceback), _moment(stored.get("at")), _steps(stored),
        most if isinstance(most, int) else None, number if isinstance(number, int) else None,
        _moment(stored.get("began")),
    )  # fmt: skip


def _steps(stored: Any) -> tuple[str, ...]:
    steps = steps_of(cast("StoredError", stored)) if isinstance(stored, dict) else ()
    return tuple(step for step in steps if isinstance(step, str))


def redacted_error(said: dict[str, str], *names: Names) -> tuple[str, str]:
    """Return the message and the traceback of a stored error, as people may have them."""
    found = reveal_value(dict(said), *names)
    if not isinstance(found.value, Mapping):
        return str(_shown(found, pretty, LIMIT, WIDTH)), ""
    message, traceback = str(found.value.get("message", "")), str(found.value.get("traceback", ""))
    # A traceback repeats the message, and its causes' messages: a function that hides one must change both.
    forgotten = message != said["message"] and traceback == said["traceback"]
    return message, hidden() if forgotten and traceback else traceback


def _moment(text: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else None


# -- as text ---------------------------------------------------------------------------------------


def _raw(text: Raw) -> str:
    return hidden() if text == HIDDEN else printable(text)


def hidden() -> str:
    """Write, in the reader's language, that a value is hidden."""
    return _("(hidden)")


def _shown(found: Revealed, write: Callable[[Any, int], str], limit: int | None, width: int) -> Shown:
    if found.note and not isinstance(found.value, Raw):
        return Shown(hidden(), note=found.note)
    try:
        text = _raw(found.value) if isinstance(found.value, Raw) else write(found.value, width)
    except Exception as exc:  # noqa: BLE001 - the value may be anything that a function of the project returns
        return Shown(hidden(), note=_("{error} when it was written").format(error=type(exc).__name__))
    if limit is None or len(text) <= limit:
        return Shown(text, note=found.note)
    return Shown(text[:limit], len(text) - limit, found.note)
