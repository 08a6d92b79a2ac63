"""What may be a name (of a step, event, workflow or key), and what may be text; the rest is refused at the call."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.utils.functional import Promise

MAX_KEY = 255
_MOST_SHOWN = 200
_UNDO = "[undo]"
#: What the events begin with by which the engine tells a run of its children's ends.
END = "#end:"
#: And those by which it tells a run what has become of a step that another executor calls.
TASK = "#task:"
#: And those of timers by which steps wait for their limits.
_ENGINES = (END, TASK, "#limit:", "#rate:")
_RESULT = "[result]"
_RESERVED = frozenset("/#[]")
_HALF_PAIR = re.compile("[\ud800-\udfff]")


@lru_cache(maxsize=4096)
def step_name(name: str, what: str = "step name") -> str:
    """Check a step's name: 1 to 255 characters without `/ # [ ]`, control characters or blanks at its ends."""
    name = checked(name, what)
    if not _RESERVED.isdisjoint(name):
        raise ValueError(f"{what} {name!r} must not contain any of / # [ ]: they build the keys of branches and items")
    return name


def undo_key(key: str) -> str:
    """Return the key under which a step is undone; ValueError if there is no room left for it."""
    if len(key) > MAX_KEY - len(_UNDO):
        raise ValueError(
            f"step key {key[:40]!r}… has {len(key)} characters: with compensate at most {MAX_KEY - len(_UNDO)} are "
            f"allowed, so that its undo has a key, too"
        )
    return f"{key}{_UNDO}"


def map_of(key: str) -> str:
    """Return the key of the map that this is the key of an item of; any other key as it is."""
    return key.rpartition("[")[0] or key


def event_name(event: str) -> str:
    """Check an event's name: as any other, but none of those that are the engine's own."""
    event = checked(event, "event name")
    if event.startswith(_ENGINES):
        prefix = event[: event.index(":") + 1]
        raise ValueError(f"event name {event!r} must not begin with {prefix}: such names are the engine's own")
    return event


def end_of(run_id: UUID) -> str:
    """Return the name of the event that tells a run of its child's end."""
    return f"{END}{run_id}"


def outcome_of(token: UUID) -> str:
    """Return the name of the event that tells a run what has become of the delegated step that has this token."""
    return f"{TASK}{token}"


def token_of(event: str | None) -> UUID | None:
    """Return the token of the delegated step whose outcome an event of this name tells; `None` if it is no such."""
    return UUID(event.removeprefix(TASK)) if event is not None and event.startswith(TASK) else None


def result_of(key: str) -> str:
    """Return the key under which the end of the child is recorded that was spawned under `key`; ValueError if long."""
    if len(key) + len(_RESULT) > MAX_KEY:
        most = MAX_KEY - len(_RESULT)
        raise ValueError(f"step key {key[:40]!r}… has {len(key)} characters; of a spawn at most {most} are allowed")
    return f"{key}{_RESULT}"


def started_by(key: str) -> str:
    """Return the key under which the child was started whose end is recorded under `key`."""
    return key.removesuffix(_RESULT)


def child_of(event: str | None) -> UUID | None:
    """Return the child whose end an event of this name tells; `None` if it is no such event."""
    return UUID(event.removeprefix(END)) if event is not None and event.startswith(END) else None


def anchor(key: str) -> str:
    """Return the id of a step's row on the page of its run; in an address it is quoted."""
    return "step-" + "".join("_" if char.isspace() else char for char in key)


def label(workflow: str, version: str) -> str:
    """Return how people name a workflow: `name`, or `name@version`."""
    return f"{workflow}@{version}" if version else workflow


def text(value: Any, what: str) -> str:
    """Check text for people, such as a reason, that every database can store; return it as a plain str."""
    if not isinstance(value, (str, Promise)):  # gettext_lazy promises a text.
        raise TypeError(f"{what} must be a str, not {type(value).__name__}")
    found = str.__str__(value) if isinstance(value, str) else str(value)
    if not is_storable(found):
        raise ValueError(f"{what} must contain neither a NUL nor half a surrogate pair, which databases refuse")
    return found


def is_storable(text: str) -> bool:
    """Tell whether every database takes it: PostgreSQL takes no NUL, none of them half a surrogate pair."""
    return "\x00" not in text and (text.isascii() or not _HALF_PAIR.search(text))


def shown(value: Any) -> str:
    """Write a value that was refused, for the error message: whatever it is, and not all of a long one."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - Python writes no int of more than 4,300 digits, and others' repr may do anything
        text = f"{type(value).__name__} that cannot be shown"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def checked(name: str, what: str, most: int = MAX_KEY) -> str:
    """Check any other name: 1 to `most` characters, no control characters, no blanks at its ends; return a plain str.

    The text of a subclass is the name: members of `class Event(str, Enum)` are names on every database.
    """
    # Not in the cached function: a list cannot be a key of the cache.
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a str, not {type(name).__name__}")
    return _checked(name if type(name) is str else str.__str__(name), what, most)


@lru_cache(maxsize=4096)
def _checked(name: str, what: str, most: int) -> str:
    if not name:
        raise ValueError(f"{what} must not be empty")
    if len(name) > most:
        raise ValueError(f"{what} has {len(name)} characters, at most {most} are allowed: {name[:40]!r}…")
    if name != name.strip():
        raise ValueError(f"{what} {name!r} must not begin or end with blanks")
    if not name.isprintable() and any(
        ord(char) < 32 or 127 <= ord(char) < 160 or 0xD800 <= ord(char) < 0xE000 for char in name
    ):
        raise ValueError(f"{what} {name!r} must not contain control characters")
    return name
