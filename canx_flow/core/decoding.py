"""From JSON back to a value. JSON is read inside out, so each decoder gets its parts already decoded.

Called by `codec`. No module is imported because stored text names it, unless it belongs to an installed app.
"""

from __future__ import annotations

import base64
import dataclasses
import importlib
import json
import sys
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID
from zoneinfo import ZoneInfo

from ..exceptions import NotDecodable
from .bounds import COLLIDING, collides
from .encoding import UNSET, lookup

if TYPE_CHECKING:
    from collections.abc import Callable


def _untag(read: dict[str, Any]) -> Any:
    if len(read) != 1:
        return read
    [(key, stored)] = read.items()
    if key[:1] != "$":
        return read
    decode = DECODERS.get(key)
    if decode is None:
        raise NotDecodable(f"stored text has an unknown type tag: {key!r}")
    try:
        return decode(stored)
    except NotDecodable:
        raise
    except Exception as exc:
        # The message of `exc` may quote the value, which not every reader may see: it stays in the traceback.
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
    if collides(_listed(stored)):
        raise NotDecodable(f"a stored set does not decode: {COLLIDING}")
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
    """Build it without `__init__`: every field, init=False ones too, is as stored; a newer field has its default."""
    path, values = _listed(stored)
    cls = _class_at(path, object)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if gone := values.keys() - fields.keys():
        raise NotDecodable(f"{path} has no field {', '.join(sorted(gone))} any more")
    instance = object.__new__(cls)
    for name, field in fields.items():
        if (value := values[name] if name in values else _default(path, field)) is not UNSET:
            object.__setattr__(instance, name, value)  # Frozen ones refuse setattr().
    return instance


def _default(path: str, field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    if field.init:
        raise NotDecodable(f"{path} has a new field {field.name} without a default")
    return UNSET


def _class_at(path: str, base: type) -> Any:
    """Find the class that `module:QualName` names today, if its module is imported or belongs to an installed app."""
    module, _, qualname = path.partition(":")
    # Never import what stored text names, only what this project runs anyway.
    known = module in sys.modules or _of_installed_app(module)
    try:
        # import_module also waits for an import that another thread has under way.
        cls = lookup(importlib.import_module(module), qualname) if known else None
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


DECODERS: dict[str, Callable[[Any], Any]] = {
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

# Made once: json.loads() with options makes one per call.
read_plain = json.JSONDecoder(parse_constant=_no_constant).raw_decode
read_tagged = json.JSONDecoder(parse_constant=_no_constant, object_hook=_untag).raw_decode
