"""What a start may be asked for: priority, attributes and the rest, checked at the call."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from . import codec, conf
from .exceptions import NotSerializable, PayloadTooLarge

if TYPE_CHECKING:
    from django.db.models import Model

LOWEST_PRIORITY, HIGHEST_PRIORITY = -100, 100
#: Python refuses to write very long ints, and databases to read them.
_LARGEST = 10**300
#: MariaDB takes 31 levels of JSON; the object that holds all attributes is one.
_DEEPEST = 30


@dataclass(frozen=True)
class StartOptions:
    """What `using` sets for the next start; `None` or the workflow's own where nothing is said."""

    key: str | None = None
    on_conflict: Literal["existing", "reject"] = "existing"
    queue: str | None = None
    priority: int | None = None
    delay: float | timedelta | None = None
    run_at: datetime | None = None
    timeout: float | timedelta | None = None
    subject: Model | None = None
    attributes: dict[str, Any] | None = None


def checked_priority(priority: int) -> int:
    """-100 to 100, larger first, as in django.tasks."""
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise TypeError(f"priority must be an int, not {type(priority).__name__}")
    if not LOWEST_PRIORITY <= priority <= HIGHEST_PRIORITY:
        raise ValueError(f"priority must be between {LOWEST_PRIORITY} and {HIGHEST_PRIORITY}, not {priority}")
    return priority


def checked_attributes(values: dict[str, Any]) -> str:
    """The JSON of attributes; NotSerializable for anything but JSON's own types, and for what a database refuses."""
    for name, value in values.items():
        if not isinstance(name, str):
            raise NotSerializable("an attribute", "", f"names are str, not {type(name).__name__}")
        _refuse_foreign(name, f"attribute {name!r}")
        _refuse_foreign(value, f"attribute {name!r}", _DEEPEST)
    text = json.dumps(values)
    if len(text) > (limit := conf.get().max_payload_bytes):
        raise PayloadTooLarge("what the attributes say", len(text), limit)
    return text


def _refuse_foreign(value: Any, what: str, deeper: int = 0) -> None:
    if isinstance(value, (dict, list)) and deeper == 0:
        problem = f"it is nested more than {_DEEPEST} levels deep, which MariaDB refuses, or contains itself"
        raise NotSerializable(what, "", problem)
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise NotSerializable(what, "", f"attributes are plain JSON: keys are str, not {type(key).__name__}")
            _refuse_foreign(key, what)
            _refuse_foreign(item, what, deeper - 1)
    elif isinstance(value, list):
        for item in value:
            _refuse_foreign(item, what, deeper - 1)
    elif isinstance(value, str):
        if "\x00" in value or any(0xD800 <= ord(char) < 0xE000 for char in ("" if value.isascii() else value)):
            raise NotSerializable(what, "", "it has a NUL or half a surrogate pair, which PostgreSQL's JSON refuses")
    elif not _is_number(value) and value is not None:
        raise NotSerializable(what, "", f"attributes are plain JSON, and {type(value).__name__} is no type of it")


def _is_number(value: Any) -> bool:
    if type(value) is int:
        return -_LARGEST <= value <= _LARGEST
    return type(value) is bool or (type(value) is float and math.isfinite(value))


def checked_progress(done: float, total: float | None, message: str) -> dict[str, Any]:
    """What `ctx.progress` was told: finite numbers and a str, else TypeError or ValueError naming the argument."""
    for name, value in (("done", done), ("total", total)):
        if value is None and name == "total":
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{name} must be a number, not {type(value).__name__}")
        if not -_LARGEST <= value <= _LARGEST:
            raise ValueError(f"{name} must be finite and of no more than 300 digits")
    if not isinstance(message, str):
        raise TypeError(f"message must be a str, not {type(message).__name__}")
    progress = {"done": done, "total": total, "message": str.__str__(message)}
    codec.dumps(progress, "progress")  # Refused at the call: where it is written the body cannot be told any more.
    return progress
