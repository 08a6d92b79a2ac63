"""What may be a name: of a step, an event, a workflow, a key. Refused at the call, naming the argument."""

from __future__ import annotations

from functools import lru_cache

MAX_KEY = 255
_RESERVED = frozenset("/#[]")


@lru_cache(maxsize=4096)
def step_name(name: str) -> str:
    """A step's name: 1 to 255 characters without `/ # [ ]`, control characters or blanks at its ends."""
    name = checked(name, "step name")
    if not _RESERVED.isdisjoint(name):
        raise ValueError(
            f"step name {name!r} must not contain any of / # [ ]: they build the keys of branches and items"
        )
    return name


def checked(name: str, what: str, most: int = MAX_KEY) -> str:
    """Any other name: 1 to `most` characters, no control characters, no blanks at its ends; as a plain str.

    What a subclass holds is the name: members of `class Event(str, Enum)` are names on every database.
    """
    # Outside the cache, which could not even look up a list.
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
