"""Stored values as people may see them: decoded, through `REDACT`, as readable text, shortened.

Called by the admin, the terminal and `timeline`. Nothing here raises, and where `REDACT` is set a value that it
could not be called with is not shown at all. It is called as `REDACT(name, value)` with

- a run's arguments, `[[positional, …], {keyword: …}]`, and its result: the workflow's name;
- a step's or a wait's result: the whole step name, such as `ship[3]`; an event's payload: as `payload` says;
- an error, as `{"type": …, "message": …, "traceback": …}`: the step's name, then, if it ended the run, the
  workflow's. The type and the time are always shown, a traceback only if the message was left alone or
  the traceback was changed too.

Attributes and progress are published by the workflow itself and shown as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from .. import conf
from ..core import codec
from ..core.failures import steps_of
from ..core.pretty import WIDTH, as_call, counted, pretty, printable
from ..exceptions import NotDecodable, StepFailed, StepInterrupted, StoredError, class_path, summary
from .stored import Stored

#: Characters of one value that are shown unless asked otherwise.
LIMIT = 10_000
HIDDEN = "(hidden)"
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
        cut = f"… ({counted(self.left_out, 'more character')})" if self.left_out else ""
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


@dataclass(frozen=True, slots=True)
class Revealed:
    """A value as people may have it; with a `note`, `value` is not the stored one, but what stands for it."""

    value: Any
    note: str = ""


# -- what may be seen ------------------------------------------------------------------------------


def shown(text: str | None, *names: str, limit: int | None = LIMIT, width: int = WIDTH) -> Shown | None:
    """Write a stored text readably; `None` if nothing is stored. `names`: what `REDACT` is called with, in turn."""
    return None if text is None else _shown(reveal(text, *names), pretty, limit, width)


def excerpt(stored: Stored | None, *names: str, width: int = WIDTH) -> Shown | None:
    """Write a stored text of which only the beginning may have been read; `REDACT` alone is given the rest of it.

    What is not whole does not decode: its beginning is shown as it is stored.
    """
    if stored is None or stored.is_whole or conf.get().redact:
        return shown(None if stored is None else stored.whole(), *names, width=width)
    text = stored.text[:LIMIT]
    return Shown(printable(text), stored.length - len(text), "as it is stored")


def arguments(text: str, workflow: str, *, limit: int | None = LIMIT, width: int = WIDTH) -> Shown:
    """Write a run's stored arguments as in the call: `(7, express=true)`."""
    return _shown(reveal(text, workflow), as_call, limit, width)


def payload(
    text: str, event: str, consumed_by: str | None, workflow: str, *, limit: int | None = LIMIT, width: int = WIDTH
) -> Shown:
    """Write an event's payload; `REDACT` is called with the event's name, the reading wait's, then the workflow's.

    So it hides under the name of its wait what it hides there once it is the wait's result.
    """
    return _shown(reveal(text, *payload_names(event, consumed_by, workflow)), pretty, limit, width)


def payload_names(event: str, consumed_by: str | None, workflow: str) -> list[str]:
    """Return the names that `REDACT` is called with for an event's payload, in turn."""
    return [name for name in (event, consumed_by, workflow) if name]


def reveal(text: str, *names: str) -> Revealed:
    """Return the value of a stored text, after `REDACT`."""
    try:
        redact = conf.redactor()
    except Exception as exc:  # noqa: BLE001 - whatever is wrong with it, nothing is shown without it
        return Revealed(HIDDEN, f"REDACT cannot be used: {type(exc).__name__}")
    try:
        value = codec.loads(text)
    except NotDecodable as exc:
        if redact is not None:
            return Revealed(HIDDEN, "it no longer decodes, so REDACT could not look at it")
        return Revealed(_Raw(text), f"as stored; {printable(str(exc))}")
    return Revealed(value) if redact is None else _redacted(redact, value, names)


def _redacted(redact: conf.Redactor, value: Any, names: Sequence[str]) -> Revealed:
    try:
        for name in dict.fromkeys(names):
            value = redact(name, value)
    except Exception as exc:  # noqa: BLE001 - the project's function; its message may hold the value
        return Revealed(HIDDEN, f"REDACT raised {type(exc).__name__}")
    return Revealed(value)


# -- errors ----------------------------------------------------------------------------------------


def run_error(text: str | None, workflow: str) -> ShownError | None:
    """Return what ended a run, as stored in its `error`."""
    if not text:
        return None
    stored = _plain(text)
    return _error(stored, *_steps(stored), workflow)


def step_errors(text: str | None, step: str) -> list[ShownError]:
    """Return the failed attempts of a step, oldest first, as stored in its record's `errors`."""
    stored = _plain(text) if text else []
    return [_error(error, step) for error in (stored if isinstance(stored, list) else [stored])]


def last_error(text: str | None, step: str) -> ShownError | None:
    """Return the last failed attempt of a step."""
    stored = _plain(text) if text else []
    stored = stored if isinstance(stored, list) else [stored]
    return _error(stored[-1], step) if stored else None


def _plain(text: str) -> Any:
    try:
        return codec.loads_plain(text)
    except Exception:  # noqa: BLE001 - damage, of any kind
        return {"type": "?", "message": HIDDEN if conf.get().redact else text}


def _error(stored: Any, *names: str) -> ShownError:
    stored = stored if isinstance(stored, dict) else {}
    said = {name: str(stored.get(name) or "") for name in ("type", "message", "traceback")}
    message, traceback = redacted_error(said, names)
    most = stored.get("max_attempts")
    return ShownError(
        printable(said["type"]), printable(message), printable(traceback), _moment(stored.get("at")), _steps(stored),
        most if isinstance(most, int) else None,
    )  # fmt: skip


def _steps(stored: Any) -> tuple[str, ...]:
    steps = steps_of(cast("StoredError", stored)) if isinstance(stored, dict) else ()
    return tuple(step for step in steps if isinstance(step, str))


def redacted_error(said: dict[str, str], names: Sequence[str]) -> tuple[str, str]:
    """Return the message and the traceback of a stored error, as people may have them."""
    try:
        redact = conf.redactor()
    except Exception as exc:  # noqa: BLE001 - as in `reveal`
        return f"{HIDDEN} REDACT cannot be used: {type(exc).__name__}", ""
    if redact is None:
        return said["message"], said["traceback"]
    found = _redacted(redact, dict(said), names)
    if not isinstance(found.value, Mapping):
        return str(_shown(found, pretty, LIMIT, WIDTH)), ""
    message, traceback = str(found.value.get("message", "")), str(found.value.get("traceback", ""))
    # A traceback repeats the message, and its causes' messages: a function that hides one must change both.
    forgotten = message != said["message"] and traceback == said["traceback"]
    return message, HIDDEN if forgotten and traceback else traceback


def _moment(text: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else None


# -- as text ---------------------------------------------------------------------------------------


class _Raw(str):
    """Stored text that is shown as it is."""

    __slots__ = ()


def _shown(found: Revealed, write: Callable[[Any, int], str], limit: int | None, width: int) -> Shown:
    if found.note and not isinstance(found.value, _Raw):
        return Shown(HIDDEN, note=found.note)
    try:
        text = printable(found.value) if isinstance(found.value, _Raw) else write(found.value, width)
    except Exception as exc:  # noqa: BLE001 - the value may be anything that a function of the project returns
        return Shown(HIDDEN, note=f"{type(exc).__name__} when it was written")
    if limit is None or len(text) <= limit:
        return Shown(text, note=found.note)
    return Shown(text[:limit], len(text) - limit, found.note)
