"""From a value to what JSON knows: what it does not know is a dict of one key, `{"$tag": …}`.

Called by `codec`. Each function takes a value and the walk that counts it, and returns what JSON can write.
"""

from __future__ import annotations

import base64
import dataclasses
import math
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from ..exceptions import class_path
from .bounds import COLLIDING, MAX_DEPTH, TOO_DEEP, Refused, TooLarge, Walk, collides

if TYPE_CHECKING:
    from collections.abc import Callable

#: Python refuses to turn longer ints into decimal digits, or back: sys.set_int_max_str_digits().
_LONG_INT = 1 << 2000
#: Two code points that JSON's escapes would join into one.
_SPLIT_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_LEAST_TAGGED = 16  # characters of a date or a time, with its tag
#: What a dataclass instance does not have, or its class no default for.
UNSET: Any = object()


def tag_any(value: Any, walk: Walk) -> Any:
    return ENCODERS.get(type(value), _tag_other)(value, walk)


def _tag_itself(value: Any, _walk: Walk) -> Any:
    return value


def _tag_int(value: int, walk: Walk) -> Any:
    if -_LONG_INT < value < _LONG_INT:
        return value
    walk.take(value.bit_length() // 4)
    return {"$int": hex(value)}


def _tag_float(value: float, _walk: Walk) -> Any:
    if math.isfinite(value):
        return value
    raise Refused(f"{value!r} is not a finite number")


def _tag_str(value: str, walk: Walk) -> Any:
    if value.isascii():
        return value  # Counted with what holds it.
    walk.left -= len(value)
    if not _SPLIT_PAIR.search(value):
        return value
    return {"$str": _base64(value.encode("utf-8", "surrogatepass"))}


def tag_held(value: Any, walk: Walk) -> Any:
    """Tag an item of a container that does not count its items in a loop of its own."""
    if type(value) is str:
        walk.take(len(value))
    return tag_any(value, walk)


def _tag_dict(value: dict[Any, Any], walk: Walk) -> Any:
    # This and `_tag_items` are where encoding takes its time: what they do for each item is written out.
    depth = walk.depth
    if depth > MAX_DEPTH:
        raise Refused(TOO_DEEP)
    walk.depth = depth + 1
    tagged: dict[str, Any] = {}
    key: Any = None
    size = 4 * len(value)
    usual = True
    try:
        for key, item in value.items():
            if type(key) is not str or not key.isascii():
                usual = False
                break
            size += len(key)
            kind = type(item)
            if kind is str and item.isascii():
                size += len(item)
                tagged[key] = item
            elif kind is int and -_LONG_INT < item < _LONG_INT:
                tagged[key] = item
            else:
                encode = ENCODERS.get(kind, _tag_other)
                tagged[key] = item if encode is _tag_itself else encode(item, walk)
    except Refused as refused:
        refused.parts.append(f"[{_short(key)}]")
        raise
    if not usual:
        tagged = _tag_unusual(value, tagged, walk)
    walk.depth = depth
    walk.left = left = walk.left - size
    if left < 0:
        raise TooLarge
    return tagged if len(tagged) != 1 or not usual else _escape(tagged)


def _tag_unusual(value: dict[Any, Any], done: dict[str, Any], walk: Walk) -> Any:
    """Tag a dict in which some key is not plain ASCII: refuse it, make its keys plain, or store it as pairs.

    `done`: the items before that key. Tagging them again at each level would double the time for each.
    """
    pairs: list[tuple[Any, Any]] = []
    for key, item in value.items():
        if type(key) is str and key in done:
            pairs.append((key, done[key]))
            continue
        if not isinstance(key, str):
            raise Refused(f"a dict key must be a str, not {type(key).__name__}")
        try:
            pairs.append((tag_held(str.__str__(key), walk), tag_held(item, walk)))
        except Refused as refused:
            refused.parts.append(f"[{_short(str.__str__(key))}]")
            raise
    if any(type(key) is dict for key, _ in pairs):
        return {"$dict": pairs}
    tagged = dict(pairs)
    if len(tagged) != len(pairs):
        raise Refused("two of its keys are the same text")
    return _escape(tagged)


def _escape(tagged: dict[str, Any]) -> dict[str, Any]:
    # Only a dict of one key can be taken for a tag.
    if len(tagged) == 1 and next(iter(tagged))[:1] == "$":
        return {"$dict": list(tagged.items())}
    return tagged


def _tag_items(items: Any, walk: Walk) -> list[Any]:
    depth = walk.depth
    if depth > MAX_DEPTH:
        raise Refused(TOO_DEEP)
    walk.depth = depth + 1
    tagged: list[Any] = []
    size = 1  # Two brackets, and a comma less than there are items.
    try:
        for item in items:
            kind = type(item)
            if kind is str and item.isascii():
                size += len(item)
                tagged.append(item)
            elif kind is int and -_LONG_INT < item < _LONG_INT:
                tagged.append(item)
            else:
                encode = ENCODERS.get(kind, _tag_other)
                tagged.append(item if encode is _tag_itself else encode(item, walk))
    except Refused as refused:
        refused.parts.append(f"[{len(tagged)}]")
        raise
    walk.depth = depth
    walk.left = left = walk.left - size - len(tagged)
    if left < 0:
        raise TooLarge
    return tagged


def _tag_tuple(value: tuple[Any, ...], walk: Walk) -> Any:
    return {"$tuple": _tag_items(value, walk)}


def _tag_set(value: set[Any], walk: Walk) -> Any:
    if collides(value):
        raise Refused(COLLIDING)
    return {"$set": _tag_items(value, walk)}


def _tag_frozenset(value: frozenset[Any], walk: Walk) -> Any:
    if collides(value):
        raise Refused(COLLIDING)
    return {"$frozenset": _tag_items(value, walk)}


def _tag_bytes(value: bytes, walk: Walk) -> Any:
    walk.take(len(value) * 4 // 3)
    return {"$bytes": _base64(value)}


def _tag_datetime(value: datetime, walk: Walk) -> Any:
    walk.left -= _LEAST_TAGGED
    zone = value.tzinfo
    key: str | int | None = _zone_key(zone)
    if key is None and zone is not None:
        offset = foreign(value.utcoffset)
        key = _odd_offset(offset)
        if key is None and type(zone) is not timezone:
            value = value.replace(tzinfo=None if offset is None else timezone(offset))
    return {"$datetime": _moment(value, key)}


def _tag_time(value: time, walk: Walk) -> Any:
    walk.left -= _LEAST_TAGGED
    zone = value.tzinfo
    key: str | int | None = _zone_key(zone)
    if key is None and zone is not None:
        offset = foreign(value.utcoffset)
        if offset is None:
            raise Refused(f"a time whose zone {type(zone).__name__} has neither a key nor a fixed offset")
        key = _odd_offset(offset)
        if key is None and type(zone) is not timezone:
            value = value.replace(tzinfo=timezone(offset))
    return {"$time": _moment(value, key)}


def _moment(value: datetime | time, key: str | int | None) -> Any:
    if key is not None:
        return [value.replace(tzinfo=None).isoformat(), value.fold, key]
    return [value.isoformat(), value.fold] if value.fold else value.isoformat()


def _odd_offset(offset: timedelta | None) -> int | None:
    """Return an offset with a fraction of a second in microseconds: `fromisoformat` reads the smallest as UTC."""
    return offset // timedelta(microseconds=1) if offset is not None and offset.microseconds else None


def _zone_key(zone: tzinfo | None) -> str | None:
    """Return the key of a ZoneInfo if that names a zone: one read from a file may have none, or any."""
    key = zone.key if isinstance(zone, ZoneInfo) else None
    return key if key is not None and _is_zone(key) else None


@lru_cache
def _is_zone(key: str) -> bool:
    try:
        ZoneInfo(key)
    except Exception:  # noqa: BLE001 - whatever is wrong with the key, the offset serves
        return False
    return True


def _tag_date(value: date, walk: Walk) -> Any:
    walk.left -= _LEAST_TAGGED
    return {"$date": value.isoformat()}


def _tag_timedelta(value: timedelta, walk: Walk) -> Any:
    walk.left -= _LEAST_TAGGED
    return {"$timedelta": [value.days, value.seconds, value.microseconds]}


def _tag_decimal(value: Decimal, walk: Walk) -> Any:
    text = str(value)
    walk.take(len(text))
    return {"$decimal": text}


def _tag_uuid(value: UUID, walk: Walk) -> Any:
    walk.left -= _LEAST_TAGGED
    return {"$uuid": value.hex}


def _tag_other(value: Any, walk: Walk) -> Any:
    """Tag enum members, dataclass instances and subclasses of str; refuse everything else."""
    cls = type(value)
    if issubclass(cls, Enum):
        return _tag_enum(value, walk)
    if "__dataclass_fields__" in cls.__dict__:
        return _tag_dataclass(value, walk)
    if issubclass(cls, str):
        return _tag_str(str.__str__(value), walk)
    if cls.__module__ == "freezegun.api" and (encode := _FROZEN.get(cls.__name__)) is not None:
        return encode(value, walk)
    raise Refused(f"{class_path(cls)} is not a type that can be stored: {_advice(cls)}")


def _tag_enum(member: Any, walk: Walk) -> Any:
    cls = type(member)
    path = _path_of(cls)
    walk.take(len(path))
    if issubclass(cls, Flag):  # Combinations have no name of their own.
        return {"$flag": [path, _tag_int(int(member.value), walk)]}
    if cls.__members__.get(member.name) is not member:
        raise Refused(f"{_short(member)} is not a member of {class_path(cls)} under its name")
    return {"$enum": [path, _tag_str(member.name, walk)]}


def _tag_dataclass(value: Any, walk: Walk) -> Any:
    walk.enter()
    cls = type(value)
    path = _path_of(cls)
    foreign(object.__new__, cls)  # How it will be built again; fails for one that is an int or an exception too.
    tagged: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        try:
            if (item := foreign(getattr, value, field.name, UNSET)) is not UNSET:
                tagged[field.name] = tag_held(item, walk)
        except Refused as refused:
            refused.parts.append(f".{field.name}")
            raise
    walk.leave(len(path) + sum(map(len, tagged)))
    return {"$dataclass": [path, tagged]}


def _path_of(cls: type) -> str:
    """Return `module:QualName` if that finds the class in every process: `__main__` is another module in each."""
    if cls.__module__ == "__main__":
        raise Refused(
            f"class {class_path(cls)} belongs to the program that is run, and no worker finds it there: define it in a "
            "module, and import it"
        )
    if lookup(sys.modules.get(cls.__module__), cls.__qualname__) is not cls:
        raise Refused(f"class {class_path(cls)} is not found by its name: define it at the top of a module")
    return f"{cls.__module__}:{cls.__qualname__}"


def lookup(found: Any, qualname: str) -> Any:
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


def foreign(call: Callable[..., Any], *args: Any) -> Any:
    """Call code of the project, which may raise anything."""
    try:
        return call(*args)
    except Exception as exc:
        raise Refused(f"{type(exc).__name__}: {exc}") from exc


def _advice(cls: type) -> str:
    from django.db.models import Model, QuerySet  # Only here: importing canx_flow must stay light.
    from django.utils.functional import Promise

    again = "a row read again later is not the result that the run saw"
    if issubclass(cls, Model):
        return f"return {cls.__name__.lower()}.pk, or the fields you need ({again}; subject= links a run to an object)"
    if issubclass(cls, QuerySet):
        return f"return the primary keys, or the fields you need, as a list ({again})"
    if issubclass(cls, Promise):
        return "call str() on a lazy text"
    if issubclass(cls, Awaitable):
        return "await it"
    if issubclass(cls, (Iterator, AsyncIterator)):
        return "make a list of it"
    for base in _SUPPORTED:
        if issubclass(cls, base):
            return f"exact types only, and it is a subclass of {base.__name__}"
    return "return plain data, or register it with canx_flow.register_type"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


#: A test's frozen clock answers with classes of its own, where production's has the real ones.
_FROZEN = {"FakeDatetime": _tag_datetime, "FakeDate": _tag_date}
UNCHANGING = frozenset({bool, int, float, str})

ENCODERS: dict[type, Callable[[Any, Walk], Any]] = {
    type(None): _tag_itself,
    bool: _tag_itself,
    int: _tag_int,
    float: _tag_float,
    str: _tag_str,
    list: _tag_items,
    dict: _tag_dict,
    tuple: _tag_tuple,
    set: _tag_set,
    frozenset: _tag_frozenset,
    bytes: _tag_bytes,
    datetime: _tag_datetime,
    date: _tag_date,
    time: _tag_time,
    timedelta: _tag_timedelta,
    Decimal: _tag_decimal,
    UUID: _tag_uuid,
}
_SUPPORTED = tuple(cls for cls in ENCODERS if cls not in (type(None), bool))
