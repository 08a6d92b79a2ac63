"""The options of a start and of control calls: priority, attributes, reasons and the rest, checked at the call."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from .. import conf
from ..exceptions import NotSerializable, PayloadTooLarge
from . import clock, codec
from .naming import checked, is_storable, shown, text

if TYPE_CHECKING:
    from django.db.models import Model

LOWEST_PRIORITY, HIGHEST_PRIORITY = -100, 100
#: Python refuses to write very long ints, and databases to read them.
_LARGEST = 10**300
_MOST_ENTRIES = 100
#: MariaDB takes 31 levels of JSON; the object that holds all attributes is one.
_DEEPEST = 30


class Progress(TypedDict):
    """The progress that `ctx.progress` has published."""

    done: float
    total: float | None
    message: str


@dataclass(frozen=True)
class StartOptions:
    """What `using` sets for the next start; `None` where the caller gave none."""

    key: str | None = None
    on_conflict: Literal["existing", "reject", "cancel_other"] = "existing"
    queue: str | None = None
    priority: int | None = None
    delay: float | timedelta | None = None
    run_at: datetime | None = None
    timeout: float | timedelta | None = None
    subject: Model | None = None
    attributes: dict[str, Any] | None = None
    #: Of a child: what becomes of it where its parent is cancelled.
    on_parent_cancel: Literal["cancel", "abandon"] | None = None
    #: Start policies: see `core.policies`.
    singleton: str | None = None
    debounce: float | timedelta | None = None
    debounce_max: float | timedelta | None = None
    expires: float | timedelta | None = None
    cancel_on: str | tuple[str, str | None] | None = None
    partition: str | None = None


def checked_priority(priority: int) -> int:
    """Check a priority: -100 to 100, larger first, as in django.tasks."""
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise TypeError(f"priority must be an int, not {type(priority).__name__}")
    if not LOWEST_PRIORITY <= priority <= HIGHEST_PRIORITY:
        raise ValueError(f"priority must be between {LOWEST_PRIORITY} and {HIGHEST_PRIORITY}, not {shown(priority)}")
    return int(priority)  # Of an IntEnum, which some drivers would write by its name.


def checked_partition(partition: str | None) -> str | None:
    """Check the partition of a run in its queue, if it is of one: 1 to 255 characters."""
    return None if partition is None else checked(partition, "partition")


def checked_attributes(values: dict[str, Any]) -> str:
    """Return the JSON of attributes; NotSerializable for types that are not JSON's, and for what a database refuses."""
    if not isinstance(values, dict):
        raise TypeError(f"attributes must be a dict, not {type(values).__name__}")
    for name, value in values.items():
        if not isinstance(name, str):
            raise NotSerializable("an attribute", "", f"names are str, not {type(name).__name__}")
        if problem := _foreign(name) or _foreign(value, _DEEPEST):
            raise NotSerializable(f"attribute {name!r}", "", problem)
    text = json.dumps(values)
    if len(text) > (limit := conf.get().max_payload_bytes):
        raise PayloadTooLarge("what the attributes say", len(text), limit)
    return text


def checked_filter(values: dict[str, Any]) -> None:
    """Check the attributes that a queryset filters by: their numbers must compare alike on every database."""
    if len(values) > _MOST_ENTRIES:
        raise ValueError(f"at most {_MOST_ENTRIES} attributes can be looked for at once, not {len(values)}")
    for name, value in values.items():
        if problem := _foreign(name) or _foreign(value, _DEEPEST) or _too_large(value):
            raise ValueError(f"attribute {shown(name)} cannot be looked for: {problem}")


def checked_note(control: str, reason: Any, by: Any) -> dict[str, Any]:
    """Return what a control call stores with the run: a reason that is text, and the name of any object as `by`."""
    reason, limit = text(reason, "reason"), conf.get().max_payload_bytes
    if len(reason) > limit:
        raise PayloadTooLarge("the reason", len(reason), limit)
    return {"control": control, "control_reason": reason, "control_by": _by(by), "control_at": clock.now()}


def _by(by: Any) -> str:
    try:
        return "" if by is None else text(str(by), "by")[:255]
    except Exception as exc:
        raise ValueError(f"by must be a user or a text, and {shown(by)} cannot be stored as one: {exc}") from exc


def checked_flag(value: Any, what: str) -> None:
    """Raise TypeError unless it is True or False: a text such as "no" is neither."""
    if value is not True and value is not False:
        raise TypeError(f"{what} must be True or False, not {type(value).__name__}")


def _foreign(value: Any, deeper: int = 0) -> str:
    """Return why it is no attribute: no plain JSON, or something in it that a database refuses; empty if it is one."""
    if isinstance(value, (dict, list)) and deeper == 0:
        return f"it is nested more than {_DEEPEST} levels deep, which MariaDB refuses, or contains itself"
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                return f"attributes are plain JSON: keys are str, not {type(key).__name__}"
            if problem := _foreign(key) or _foreign(item, deeper - 1):
                return problem
        return ""
    if isinstance(value, list):
        return next(filter(None, (_foreign(item, deeper - 1) for item in value)), "")
    if isinstance(value, str):
        return "" if is_storable(value) else "it has a NUL or half a surrogate pair, which PostgreSQL's JSON refuses"
    if value is None or _is_number(value):
        return ""
    if type(value) in (int, float):
        return "it is no finite number of at most 300 digits"
    return f"attributes are plain JSON, and {type(value).__name__} is no type of it"


def _too_large(value: Any) -> str:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return next(filter(None, map(_too_large, value)), "")
    if type(value) is int and not -(1 << 63) <= value < 1 << 63:
        return "databases compare no int beyond 64 bits"
    return ""


def _is_number(value: Any) -> bool:
    if type(value) is int:
        return -_LARGEST <= value <= _LARGEST
    return type(value) is bool or (type(value) is float and math.isfinite(value))


def checked_progress(done: float, total: float | None, message: str) -> Progress:
    """Return the progress of finite numbers and a str; TypeError or ValueError naming the argument for others."""
    for name, value in (("done", done), ("total", total)):
        if value is None and name == "total":
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{name} must be a number, not {type(value).__name__}")
        if not -_LARGEST <= value <= _LARGEST:
            raise ValueError(f"{name} must be finite and of no more than 300 digits")
    if not isinstance(message, str):
        raise TypeError(f"message must be a str, not {type(message).__name__}")
    progress: Progress = {"done": done, "total": total, "message": str.__str__(message)}
    codec.dumps(
        progress, "a progress with this message"
    )  # Refused at the call: the body has gone on by the time it is written.
    return progress
