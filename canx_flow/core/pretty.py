"""Values as people read them, and as JSON has them. Called by `display` and the terminal; knows nothing of runs.

May raise what the value's own methods raise; `display` catches it.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from typing import Any
from uuid import UUID

WIDTH = 100
_SORTED_BY = 100  # parts of its text
_LONG = 4096  # bits of an int that Python need not write in decimal


def counted(number: int, what: str) -> str:
    """Write a number and what it counts: `1 run`, `1,200 runs`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """Write invisible characters as escapes, so that a text neither controls a terminal nor misleads a reader."""
    return text if text.isascii() and text.isprintable() else "".join(map(_seen, text))


def _seen(char: str) -> str:
    return char if char in "\n\t" or _is_seen(char) else char.encode("unicode_escape").decode("ascii")


def _is_seen(char: str) -> bool:
    return char.isprintable() or unicodedata.category(char) == "Zs"


def pretty(value: Any, width: int = WIDTH) -> str:
    """Write a value as text like JSON, or like Python where JSON has no such type: one line, or one per item."""
    return "".join(_lay(_node(value), "", width, 0))


def as_call(value: Any, width: int = WIDTH) -> str:
    """Write `[[positional, …], {keyword: …}]` as in a call: `(7, express=true)`; anything else as `pretty` does."""
    pair = list(value) if isinstance(value, (list, tuple)) else []
    if len(pair) != 2 or not isinstance(pair[0], (list, tuple)) or not isinstance(pair[1], dict):
        return pretty(value, width)
    items = [_Item("", _node(item)) for item in pair[0]]
    items += [_Item(f"{key}=", _node(item)) for key, item in pair[1].items()]
    return "".join(_lay(_group("(", items, ")"), "", width, 0))


@dataclass(frozen=True, slots=True)
class _Item:
    prefix: str
    node: _Node


@dataclass(frozen=True, slots=True)
class _Group:
    """What may be broken over lines; `size`: its characters on one."""

    begin: str
    items: list[_Item]
    end: str
    size: int


_Node = str | _Group


def _group(begin: str, items: list[_Item], end: str) -> _Node:
    if not items:
        return begin + end
    size = sum(len(item.prefix) + (len(node) if isinstance(node := item.node, str) else node.size) for item in items)
    return _Group(begin, items, end, size + len(begin) + len(end) + 2 * (len(items) - 1))


def _lay(node: _Node, indent: str, width: int, used: int) -> Iterator[str]:
    """Yield the text of a node in parts, beginning after `used` characters of its line."""
    if isinstance(node, str):
        yield node
    elif used + node.size <= width:
        yield from _flat(node)
    else:
        deeper = f"{indent}  "
        yield node.begin
        for place, item in enumerate(node.items):
            yield f"{',' if place else ''}\n{deeper}{item.prefix}"
            yield from _lay(item.node, deeper, width, len(deeper) + len(item.prefix) + 1)
        yield f"\n{indent}{node.end}"


def _flat(node: _Node) -> Iterator[str]:
    if isinstance(node, str):
        yield node
        return
    yield node.begin
    for place, item in enumerate(node.items):
        yield f"{', ' if place else ''}{item.prefix}"
        yield from _flat(item.node)
    yield node.end


def _node(value: Any) -> _Node:
    if isinstance(value, dict):
        return _group("{", [_Item(f"{_key(key)}: ", _node(item)) for key, item in value.items()], "}")
    if isinstance(value, list):
        return _group("[", [_Item("", _node(item)) for item in value], "]")
    if isinstance(value, tuple):
        end = ",)" if len(value) == 1 else ")"
        return _group("(", [_Item("", _node(item)) for item in value], end)
    if isinstance(value, (set, frozenset)):
        return _group("{", [_Item("", node) for node in _sorted(value)], "}") if value else "set()"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = [_Item(f"{name}=", _node(item)) for name, item in _fields(value)]
        return _group(f"{type(value).__name__}(", items, ")")
    return _leaf(value)


def _sorted(values: set[Any] | frozenset[Any]) -> list[_Node]:
    return sorted(map(_node, values), key=lambda node: _beginning(_flat(node)))


def _beginning(parts: Iterator[str]) -> str:
    """Return what a set is sorted by: not all of the text, or sets within sets would be written once for each level."""
    return "".join(islice(parts, _SORTED_BY))


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(value):
        if hasattr(value, field.name):
            yield field.name, getattr(value, field.name)


def _key(key: Any) -> str:
    return "".join(_flat(_node(key)))


def _leaf(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Enum):
        return printable(_member(value))
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, int):
        return str(value) if value.bit_length() < _LONG else hex(value)
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    return printable(str(value) if isinstance(value, (date, time, timedelta, Decimal, UUID)) else repr(value))


def _quoted(text: str) -> str:
    """Write it as JSON text, with JSON's own escapes for what cannot be seen."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if _is_seen(char) else json.dumps(char)[1:-1] for char in quoted)


def _member(value: Enum) -> str:
    return f"{type(value).__name__}.{value.name}" if value.name else str(value)


# -- for programs ----------------------------------------------------------------------------------


def jsonable(value: Any) -> Any:
    """Return the value for JSON: lists for tuples and sets, objects for dataclasses, base64 for bytes, else text."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else _key(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return list(map(jsonable, value))
    if isinstance(value, (set, frozenset)):
        return sorted(map(jsonable, value), key=lambda item: _beginning(_leaves(item)))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: jsonable(item) for name, item in _fields(value)}
    return _scalar(value)


def _leaves(value: Any) -> Iterator[str]:
    """Yield the texts in what `jsonable` made."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"{key}: "
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
            yield ", "
    else:
        yield _leaf(value)


def _scalar(value: Any) -> Any:
    match value:
        case None | bool():
            return value
        case Enum():
            return _member(value)
        case str():
            return str.__str__(value)
        case int():
            return value if value.bit_length() < _LONG else hex(value)
        case float():
            return value if math.isfinite(value) else repr(value)
        case date() | time():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode("ascii")
    return str(value) if isinstance(value, (timedelta, Decimal, UUID)) else repr(value)
