"""Values as text and back: ASCII JSON with types kept, so that a replay sees what the first call saw.

Called for arguments, results, payloads and failures. A value that JSON does not know is a dict of one key,
`{"$tag": …}`; a user's own dict that looks like that is stored as pairs. Nothing is pickled, and no module is
imported because stored text names it, unless it belongs to an installed app.
"""

from __future__ import annotations

import base64
import dataclasses
import importlib
import json
import math
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Collection, Iterator
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from . import conf
from .exceptions import NotDecodable, NotSerializable, PayloadTooLarge, class_path
from .naming import shown

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
#: Containers within containers; a value that holds itself has no end.
MAX_DEPTH = 200
#: Python refuses to turn longer ints into decimal digits, or back: sys.set_int_max_str_digits().
_LONG_INT = 1 << 2000
#: Two code points that JSON's escapes would join into one.
_SPLIT_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_TAG_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_SHOWN_PATH = 12
#: Characters that a value's parts may add up to, in payloads of the most that is allowed, before it is left unwritten.
_MOST_TIMES = 2
_LEAST_TAGGED = 16  # characters of a date or a time, with its tag


def dumps(value: Any, what: str) -> str:
    """`value` as ASCII JSON text. `what` names it in errors, as in "the result of step 'charge'".

    NotSerializable, with the path to the culprit; PayloadTooLarge over MAX_PAYLOAD_BYTES.
    """
    limit = conf.get().max_payload_bytes
    walk = _ALONE if type(value) in _UNCHANGING else _Walk(_MOST_TIMES * limit)
    try:
        text = _write(_tag(value, walk))
    except _TooLarge as exc:
        raise PayloadTooLarge(what, _MOST_TIMES * limit - int(walk.left), limit, more=True) from exc
    except _Refused as refused:
        raise NotSerializable(what, refused.path(), refused.why) from refused.__cause__
    except RecursionError as exc:
        raise NotSerializable(what, "", _TOO_DEEP) from exc
    except RuntimeError as exc:  # A container that another thread changes meanwhile.
        raise NotSerializable(what, "", str(exc)) from exc
    if len(text) > limit:
        raise PayloadTooLarge(what, len(text), limit)
    return text


def loads(text: str) -> Any:
    """The value that `dumps` wrote. NotDecodable if the text does not make one any more."""
    try:
        value, end = _read_tagged(text) if '"$' in text else _read_plain(text)
    except NotDecodable:
        raise
    except Exception as exc:  # JSONDecodeError, RecursionError, TypeError for what is no text.
        raise NotDecodable(f"stored text does not decode: {exc}") from exc
    if end != len(text):
        raise NotDecodable(f"stored text does not decode: there is more after character {end}")
    return value


def round_trip(value: Any, what: str) -> tuple[str, Any]:
    """The stored text, and the value that every replay will read from it: what a step returns the first time."""
    if value is None:
        return "null", None
    text = dumps(value, what)
    return text, value if type(value) in _UNCHANGING else loads(text)


def canonical(text: str) -> str:
    """What `dumps` wrote, with one order for what has none: the same text for equal values in every process.

    Sets of text come in another order in each process, and so may the dicts that are made of them.
    """
    return _write_sorted(json.loads(text, object_hook=_in_order))


def _in_order(read: dict[str, Any]) -> dict[str, Any]:
    for tag in ("$set", "$frozenset", "$dict"):
        if len(read) == 1 and tag in read:
            return {tag: sorted(read[tag], key=_write_sorted)}
    return read


def dumps_plain(value: Any) -> str:
    """The engine's own data, such as a list of failures: plain JSON, of any size, as text that every database takes."""
    return _write(value)


def loads_plain(text: str) -> Any:
    """What `dumps_plain` wrote."""
    return _read_plain(text)[0]


def register_type(tag: str, cls: type[T], encode: Callable[[T], Any], decode: Callable[[Any], T]) -> None:
    """Let values of exactly `cls` be stored, under `tag`, which must stay the same while any run holds one.

    `encode(value)` returns something storable; `decode` gets that back. The same class may be registered again
    under its tag. ValueError if tag or class is taken, TypeError if an argument is of the wrong kind.
    """
    _check_registration(tag, cls, encode, decode)
    key = f"$:{tag}"

    def tag_registered(value: T, walk: _Walk) -> Any:
        walk.enter()
        tagged = {key: _tag_held(_foreign(encode, value), walk)}
        walk.leave(len(key))
        return tagged

    _registered[tag] = cls
    _ENCODERS[cls] = tag_registered
    _DECODERS[key] = decode


# Encoding: a value and the walk through what holds it in, what JSON knows out.


#: Of one set: a few hundred compare each other in a millisecond.
_MOST_COLLIDING = 500
_COLLIDING = f"more than {_MOST_COLLIDING} of its items have the same hash, so that making the set takes too long"
_TOO_DEEP = f"it is nested more than {MAX_DEPTH} levels deep, or contains itself"


class _Refused(Exception):  # noqa: N818 - never seen outside
    """A value that cannot be stored. On its way out, each container adds where it was."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.parts: list[str] = []

    def path(self) -> str:
        parts = self.parts[::-1]
        return "".join(parts) if len(parts) <= _SHOWN_PATH else "".join(parts[:_SHOWN_PATH]) + "…"


class _TooLarge(Exception):  # noqa: N818 - never seen outside
    """Whatever else it holds, it is too large already."""


class _Walk:
    """A value on its way to text. `depth`: containers around what is looked at; `left`: characters still allowed.

    Containers that share what they hold, and so are small in memory, may be without end as text: the least that each
    will take is counted before it is written.
    """

    __slots__ = ("depth", "left")

    def __init__(self, left: float) -> None:
        self.depth = 0
        self.left = left

    def enter(self) -> None:
        if self.depth > MAX_DEPTH:
            raise _Refused(_TOO_DEEP)
        self.depth += 1

    def leave(self, size: int) -> None:
        self.depth -= 1
        self.take(size)

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise _TooLarge


#: For what holds nothing, and is no larger as text than it is already.
_ALONE = _Walk(math.inf)


def _tag(value: Any, walk: _Walk) -> Any:
    return _ENCODERS.get(type(value), _tag_other)(value, walk)


def _tag_itself(value: Any, _walk: _Walk) -> Any:
    return value


def _tag_int(value: int, walk: _Walk) -> Any:
    if -_LONG_INT < value < _LONG_INT:
        return value
    walk.take(value.bit_length() // 4)
    return {"$int": hex(value)}


def _tag_float(value: float, _walk: _Walk) -> Any:
    if math.isfinite(value):
        return value
    raise _Refused(f"{value!r} is not a finite number")


def _tag_str(value: str, walk: _Walk) -> Any:
    if value.isascii():
        return value  # Counted with what holds it.
    walk.left -= len(value)
    if not _SPLIT_PAIR.search(value):
        return value
    return {"$str": _base64(value.encode("utf-8", "surrogatepass"))}


def _tag_held(value: Any, walk: _Walk) -> Any:
    """`_tag` for containers that do not count what they hold in a loop of their own."""
    if type(value) is str:
        walk.take(len(value))
    return _tag(value, walk)


def _tag_dict(value: dict[Any, Any], walk: _Walk) -> Any:
    # This and `_tag_items` are where encoding takes its time: what they do for each item is written out.
    depth = walk.depth
    if depth > MAX_DEPTH:
        raise _Refused(_TOO_DEEP)
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
                encode = _ENCODERS.get(kind, _tag_other)
                tagged[key] = item if encode is _tag_itself else encode(item, walk)
    except _Refused as refused:
        refused.parts.append(f"[{_short(key)}]")
        raise
    if not usual:
        tagged = _tag_unusual(value, walk)
    walk.depth = depth
    walk.left = left = walk.left - size
    if left < 0:
        raise _TooLarge
    return tagged if len(tagged) != 1 or not usual else _escape(tagged)


def _tag_unusual(value: dict[Any, Any], walk: _Walk) -> Any:
    """A dict in which some key is not plain ASCII: refused, or made plain, or stored as pairs."""
    pairs: list[tuple[Any, Any]] = []
    for key, item in value.items():
        if not isinstance(key, str):
            raise _Refused(f"a dict key must be a str, not {type(key).__name__}")
        try:
            pairs.append((_tag_held(str.__str__(key), walk), _tag_held(item, walk)))
        except _Refused as refused:
            refused.parts.append(f"[{_short(str.__str__(key))}]")
            raise
    if any(type(key) is dict for key, _ in pairs):
        return {"$dict": pairs}
    tagged = dict(pairs)
    if len(tagged) != len(pairs):
        raise _Refused("two of its keys are the same text")
    return _escape(tagged)


def _escape(tagged: dict[str, Any]) -> dict[str, Any]:
    # Only a dict of one key can be taken for a tag.
    if len(tagged) == 1 and next(iter(tagged))[:1] == "$":
        return {"$dict": list(tagged.items())}
    return tagged


def _tag_items(items: Any, walk: _Walk) -> list[Any]:
    depth = walk.depth
    if depth > MAX_DEPTH:
        raise _Refused(_TOO_DEEP)
    walk.depth = depth + 1
    tagged: list[Any] = []
    size = 2
    try:
        for item in items:
            kind = type(item)
            if kind is str and item.isascii():
                size += len(item)
                tagged.append(item)
            elif kind is int and -_LONG_INT < item < _LONG_INT:
                tagged.append(item)
            else:
                encode = _ENCODERS.get(kind, _tag_other)
                tagged.append(item if encode is _tag_itself else encode(item, walk))
    except _Refused as refused:
        refused.parts.append(f"[{len(tagged)}]")
        raise
    walk.depth = depth
    walk.left = left = walk.left - size - len(tagged)
    if left < 0:
        raise _TooLarge
    return tagged


def _tag_tuple(value: tuple[Any, ...], walk: _Walk) -> Any:
    return {"$tuple": _tag_items(value, walk)}


def _tag_set(value: set[Any], walk: _Walk) -> Any:
    if _collides(value):
        raise _Refused(_COLLIDING)
    return {"$set": _tag_items(value, walk)}


def _tag_frozenset(value: frozenset[Any], walk: _Walk) -> Any:
    if _collides(value):
        raise _Refused(_COLLIDING)
    return {"$frozenset": _tag_items(value, walk)}


def _collides(items: Collection[Any]) -> bool:
    """Whether a set of these takes quadratic time to make: it compares each with all others of the same hash.

    Made once where it comes from, it would be made again at every replay.
    """
    if len(items) <= _MOST_COLLIDING or len(items) - len(set(map(hash, items))) < _MOST_COLLIDING:
        return False
    return max(Counter(map(hash, items)).values()) > _MOST_COLLIDING


def _tag_bytes(value: bytes, walk: _Walk) -> Any:
    walk.take(len(value) * 4 // 3)
    return {"$bytes": _base64(value)}


def _tag_datetime(value: datetime, walk: _Walk) -> Any:
    walk.left -= _LEAST_TAGGED
    zone = value.tzinfo
    key: str | int | None = _zone_key(zone)
    if key is None and zone is not None:
        offset = _foreign(value.utcoffset)
        key = _odd_offset(offset)
        if key is None and type(zone) is not timezone:
            value = value.replace(tzinfo=None if offset is None else timezone(offset))
    return {"$datetime": _moment(value, key)}


def _tag_time(value: time, walk: _Walk) -> Any:
    walk.left -= _LEAST_TAGGED
    zone = value.tzinfo
    key: str | int | None = _zone_key(zone)
    if key is None and zone is not None:
        offset = _foreign(value.utcoffset)
        if offset is None:
            raise _Refused(f"a time whose zone {type(zone).__name__} has neither a key nor a fixed offset")
        key = _odd_offset(offset)
        if key is None and type(zone) is not timezone:
            value = value.replace(tzinfo=timezone(offset))
    return {"$time": _moment(value, key)}


def _moment(value: datetime | time, key: str | int | None) -> Any:
    if key is not None:
        return [value.replace(tzinfo=None).isoformat(), value.fold, key]
    return [value.isoformat(), value.fold] if value.fold else value.isoformat()


def _odd_offset(offset: timedelta | None) -> int | None:
    """An offset with a fraction of a second, in microseconds: `fromisoformat` takes the smallest of them for UTC."""
    return offset // timedelta(microseconds=1) if offset is not None and offset.microseconds else None


def _zone_key(zone: tzinfo | None) -> str | None:
    """The key of a ZoneInfo, if it leads back to a zone: one read from a file may have none, or any."""
    key = zone.key if isinstance(zone, ZoneInfo) else None
    return key if key is not None and _is_zone(key) else None


@lru_cache
def _is_zone(key: str) -> bool:
    try:
        ZoneInfo(key)
    except Exception:  # noqa: BLE001 - whatever is wrong with the key, the offset serves
        return False
    return True


def _tag_date(value: date, walk: _Walk) -> Any:
    walk.left -= _LEAST_TAGGED
    return {"$date": value.isoformat()}


def _tag_timedelta(value: timedelta, walk: _Walk) -> Any:
    walk.left -= _LEAST_TAGGED
    return {"$timedelta": [value.days, value.seconds, value.microseconds]}


def _tag_decimal(value: Decimal, walk: _Walk) -> Any:
    text = str(value)
    walk.take(len(text))
    return {"$decimal": text}


def _tag_uuid(value: UUID, walk: _Walk) -> Any:
    walk.left -= _LEAST_TAGGED
    return {"$uuid": value.hex}


def _tag_other(value: Any, walk: _Walk) -> Any:
    """Enum members, dataclass instances and subclasses of str; everything else is refused."""
    cls = type(value)
    if issubclass(cls, Enum):
        return _tag_enum(value, walk)
    if "__dataclass_fields__" in cls.__dict__:
        return _tag_dataclass(value, walk)
    if issubclass(cls, str):
        return _tag_str(str.__str__(value), walk)
    if cls.__module__ == "freezegun.api" and (encode := _FROZEN.get(cls.__name__)) is not None:
        return encode(value, walk)
    raise _Refused(f"{class_path(cls)} is not a type that can be stored: {_advice(cls)}")


def _tag_enum(member: Any, walk: _Walk) -> Any:
    cls = type(member)
    path = _path_of(cls)
    walk.take(len(path))
    if issubclass(cls, Flag):  # Combinations have no name of their own.
        return {"$flag": [path, _tag_int(int(member.value), walk)]}
    if cls.__members__.get(member.name) is not member:
        raise _Refused(f"{_short(member)} is not a member of {class_path(cls)} under its name")
    return {"$enum": [path, _tag_str(member.name, walk)]}


def _tag_dataclass(value: Any, walk: _Walk) -> Any:
    walk.enter()
    cls = type(value)
    path = _path_of(cls)
    _foreign(object.__new__, cls)  # How it will be built again; fails for one that is an int or an exception too.
    tagged: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        try:
            if (item := _foreign(getattr, value, field.name, _UNSET)) is not _UNSET:
                tagged[field.name] = _tag_held(item, walk)
        except _Refused as refused:
            refused.parts.append(f".{field.name}")
            raise
    walk.leave(len(path) + sum(map(len, tagged)))
    return {"$dataclass": [path, tagged]}


def _path_of(cls: type) -> str:
    """`module:QualName`, if that leads back to the class."""
    if _lookup(sys.modules.get(cls.__module__), cls.__qualname__) is not cls:
        raise _Refused(f"class {class_path(cls)} is not found by its name: define it at the top of a module")
    return f"{cls.__module__}:{cls.__qualname__}"


def _lookup(found: Any, qualname: str) -> Any:
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


def _foreign(call: Callable[..., Any], *args: Any) -> Any:
    """Call code of the project, which may raise anything."""
    try:
        return call(*args)
    except Exception as exc:
        raise _Refused(f"{type(exc).__name__}: {exc}") from exc


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


# Decoding: JSON reads inside out, so each decoder gets what it holds already decoded.


def _untag(read: dict[str, Any]) -> Any:
    if len(read) != 1:
        return read
    [(key, stored)] = read.items()
    if key[:1] != "$":
        return read
    decode = _DECODERS.get(key)
    if decode is None:
        raise NotDecodable(f"stored text has an unknown type tag: {key!r}")
    try:
        return decode(stored)
    except NotDecodable:
        raise
    except Exception as exc:
        # What `exc` says may quote the value, which not everybody may see: it stays in the traceback.
        raise NotDecodable(f"a stored {key.lstrip('$:')} does not decode: {type(exc).__name__}") from exc


def _listed(stored: Any) -> list[Any]:
    if type(stored) is list:
        return stored
    raise TypeError(f"a list was expected, not {type(stored).__name__}")


def _int_from(stored: Any) -> int:
    return int(stored, 16)


def _str_from(stored: Any) -> str:
    return base64.b64decode(stored, validate=True).decode("utf-8", "surrogatepass")


def _dict_from(stored: Any) -> dict[str, Any]:
    return dict(_listed(stored))


def _set_from(stored: Any) -> set[Any]:
    if _collides(_listed(stored)):
        raise NotDecodable(f"a stored set does not decode: {_COLLIDING}")
    return set(stored)


def _datetime_from(stored: Any) -> datetime:
    text, fold, key = _moment_from(stored)
    value = datetime.fromisoformat(text).replace(fold=fold)
    return value if key is None else value.replace(tzinfo=_zone(key))


def _time_from(stored: Any) -> time:
    text, fold, key = _moment_from(stored)
    value = time.fromisoformat(text).replace(fold=fold)
    return value if key is None else value.replace(tzinfo=_zone(key))


def _zone(key: str | int) -> tzinfo:
    return timezone(timedelta(microseconds=key)) if isinstance(key, int) else ZoneInfo(key)


def _moment_from(stored: Any) -> tuple[str, int, str | int | None]:
    if type(stored) is str:
        return stored, 0, None
    text, fold, *key = _listed(stored)
    return text, fold, key[0] if key else None


def _timedelta_from(stored: Any) -> timedelta:
    days, seconds, microseconds = _listed(stored)
    return timedelta(days, seconds, microseconds)


def _enum_from(stored: Any) -> Any:
    path, name = _listed(stored)
    return _class_at(path, Enum).__members__[name]


def _flag_from(stored: Any) -> Any:
    path, value = _listed(stored)
    flag = _class_at(path, Flag)(value)
    if flag.value != value:  # Some flags drop bits that they no longer know.
        raise NotDecodable(f"{path} does not know all of the stored flags any more")
    return flag


def _dataclass_from(stored: Any) -> Any:
    """Built without `__init__`: every field, init=False ones too, is as it was; a field added since has its default."""
    path, values = _listed(stored)
    cls = _class_at(path, object)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if gone := values.keys() - fields.keys():
        raise NotDecodable(f"{path} has no field {', '.join(sorted(gone))} any more")
    instance = object.__new__(cls)
    for name, field in fields.items():
        if (value := values[name] if name in values else _default(path, field)) is not _UNSET:
            object.__setattr__(instance, name, value)  # Frozen ones refuse setattr().
    return instance


def _default(path: str, field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    if field.init:
        raise NotDecodable(f"{path} has a new field {field.name} without a default")
    return _UNSET


def _class_at(path: str, base: type) -> Any:
    """The class that `module:QualName` names today, if its module may be looked into."""
    module, _, qualname = path.partition(":")
    # Never import what stored text names, only what this project runs anyway.
    known = module in sys.modules or _of_installed_app(module)
    try:
        # import_module also waits for an import that another thread has under way.
        cls = _lookup(importlib.import_module(module), qualname) if known else None
    except Exception as exc:
        raise NotDecodable(f"class {path} is not there: {type(exc).__name__}: {exc}") from exc
    if isinstance(cls, type) and issubclass(cls, base):
        return cls
    raise NotDecodable(f"class {path} is not there: it must be in an imported module or in an installed app")


def _of_installed_app(module: str) -> bool:
    from django.apps import apps  # Not before it is needed: apps may not be loaded when this is imported.

    return apps.apps_ready and any(
        module == app.name or module.startswith(f"{app.name}.") for app in apps.get_app_configs()
    )


def _no_constant(name: str) -> NoReturn:
    raise NotDecodable(f"stored text does not decode: {name} is not JSON")


# What is known.


_UNSET: Any = object()
#: A test's frozen clock answers with classes of its own, where production's has the real ones.
_FROZEN = {"FakeDatetime": _tag_datetime, "FakeDate": _tag_date}
_UNCHANGING = frozenset({bool, int, float, str})
_registered: dict[str, type] = {}

_ENCODERS: dict[type, Callable[[Any, _Walk], Any]] = {
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
_SUPPORTED = tuple(cls for cls in _ENCODERS if cls not in (type(None), bool))

_DECODERS: dict[str, Callable[[Any], Any]] = {
    "$int": _int_from,
    "$str": _str_from,
    "$dict": _dict_from,
    "$tuple": lambda stored: tuple(_listed(stored)),
    "$set": _set_from,
    "$frozenset": lambda stored: frozenset(_set_from(stored)),
    "$bytes": lambda stored: base64.b64decode(stored, validate=True),
    "$datetime": _datetime_from,
    "$date": date.fromisoformat,
    "$time": _time_from,
    "$timedelta": _timedelta_from,
    "$decimal": Decimal,
    "$uuid": UUID,
    "$enum": _enum_from,
    "$flag": _flag_from,
    "$dataclass": _dataclass_from,
}

# Made once: json.dumps() and json.loads() with options make one per call.
_write = json.JSONEncoder(check_circular=False, allow_nan=False, separators=(",", ":")).encode
_write_sorted = json.JSONEncoder(check_circular=False, sort_keys=True, separators=(",", ":")).encode
_read_plain = json.JSONDecoder(parse_constant=_no_constant).raw_decode
_read_tagged = json.JSONDecoder(parse_constant=_no_constant, object_hook=_untag).raw_decode


def _check_registration(tag: Any, cls: Any, encode: Any, decode: Any) -> None:
    if not isinstance(tag, str) or not isinstance(cls, type):
        raise TypeError(f"tag must be a str and cls a class, not {shown(tag)} and {shown(cls)}")
    for name, function in (("encode", encode), ("decode", decode)):
        if not callable(function):
            raise TypeError(f"{name} must be callable, not {type(function).__name__}")
    if not _TAG_NAME.fullmatch(tag):
        raise ValueError(f"tag must be 1 to 100 letters, digits, dots, dashes or underscores, not {shown(tag)}")
    if tag in _registered and class_path(_registered[tag]) != class_path(cls):
        raise ValueError(f"tag {tag!r} is taken by {class_path(_registered[tag])}")
    taken = [other for other, known in _registered.items() if known is cls and other != tag]
    if taken or (cls in _ENCODERS and _registered.get(tag) is not cls):
        raise ValueError(f"cls {class_path(cls)} is stored already" + (f", under tag {taken[0]!r}" if taken else ""))
