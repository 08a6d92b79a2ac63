"""What a start may be asked for: priority, attributes and the rest, checked at the call."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from .exceptions import NotSerializable

if TYPE_CHECKING:
    from django.db.models import Model

LOWEST_PRIORITY, HIGHEST_PRIORITY = -100, 100


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
        _refuse_foreign(value, f"attribute {name!r}")
    text = json.dumps(values)
    if "\\u0000" in text:
        raise NotSerializable("an attribute", "", "it contains a NUL character, which PostgreSQL's JSON refuses")
    return text


def _refuse_foreign(value: Any, what: str) -> None:
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise NotSerializable(what, "", "attributes are plain JSON: keys are str")
        for item in value.values():
            _refuse_foreign(item, what)
    elif isinstance(value, list):
        for item in value:
            _refuse_foreign(item, what)
    elif (
        value is not None and type(value) not in (bool, int, str) and not (type(value) is float and value - value == 0)
    ):
        raise NotSerializable(what, "", f"attributes are plain JSON; {value!r} is a {type(value).__name__}")
