"""Values as text and back: ASCII JSON with types kept, so that a replay sees what the first call saw.

Called for arguments, results, payloads and failures. A value that JSON does not know is a dict of one key,
`{"$tag": …}` (`encoding` makes it, `decoding` reads it); a user's own dict that looks like that is stored as pairs.
Nothing is pickled, and no module is imported because stored text names it, unless it belongs to an installed app.
"""

from __future__ import annotations

import json
import re
from dataclasses import is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from .. import conf
from ..exceptions import NotDecodable, NotSerializable, PayloadTooLarge, class_path
from .bounds import ALONE, MAX_DEPTH, TOO_DEEP, Refused, TooLarge, Walk
from .decoding import DECODERS, read_plain, read_tagged
from .encoding import ENCODERS, UNCHANGING, foreign, tag_any, tag_held
from .naming import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "MAX_DEPTH",
    "canonical",
    "dumps",
    "dumps_plain",
    "loads",
    "loads_plain",
    "name_of",
    "register_type",
    "round_trip",
]

T = TypeVar("T")
_TAG_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
#: Characters that a value's parts may add up to, in payloads of the most that is allowed, before it is left unwritten.
_MOST_TIMES = 2
_registered: dict[str, type] = {}


def _c_encoder() -> Callable[[Any, int], Sequence[str]]:
    """Make what `JSONEncoder.encode` makes anew for each value, which takes longer than most values do."""
    encoder = json.JSONEncoder(check_circular=False, allow_nan=False, separators=(",", ":"))
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # Another Python than CPython.
        return lambda value, _level: (encoder.encode(value),)
    encode: Callable[[Any, int], Sequence[str]] = make(
        None, encoder.default, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, False
    )
    return encode


_encode = _c_encoder()
_write_sorted = json.JSONEncoder(check_circular=False, sort_keys=True, separators=(",", ":")).encode


def dumps(value: Any, what: str) -> str:
    """Encode `value` as ASCII JSON text. `what` names it in errors, as in "the result of step 'charge'".

    NotSerializable, with the path to the culprit; PayloadTooLarge over MAX_PAYLOAD_BYTES.
    """
    limit = conf.get().max_payload_bytes
    walk = ALONE if type(value) in UNCHANGING else Walk(_MOST_TIMES * limit)
    try:
        text = "".join(_encode(tag_any(value, walk), 0))
    except TooLarge as exc:
        raise PayloadTooLarge(what, _MOST_TIMES * limit - int(walk.left), limit, more=True) from exc
    except Refused as refused:
        raise NotSerializable(what, refused.path(), refused.why) from refused.__cause__
    except RecursionError as exc:
        raise NotSerializable(what, "", TOO_DEEP) from exc
    except RuntimeError as exc:  # A container that another thread changes meanwhile.
        raise NotSerializable(what, "", str(exc)) from exc
    if len(text) > limit:
        raise PayloadTooLarge(what, len(text), limit)
    return text


def loads(text: str) -> Any:
    """Decode the value that `dumps` wrote; NotDecodable if the text does not make one any more."""
    try:
        value, end = read_tagged(text) if '"$' in text else read_plain(text)
    except NotDecodable:
        raise
    except RecursionError as exc:
        raise NotDecodable(f"stored text does not decode: {TOO_DEEP}") from exc
    except Exception as exc:  # JSONDecodeError, TypeError for what is no text.
        raise NotDecodable(f"stored text does not decode: {exc}") from exc
    if end != len(text):
        raise NotDecodable(f"stored text does not decode: there is more after character {end}")
    return value


def round_trip(value: Any, what: str) -> tuple[str, Any]:
    """Return the stored text, and the value that every replay decodes from it: the step's first result, too."""
    if value is None:
        return "null", None
    text = dumps(value, what)
    return text, value if type(value) in UNCHANGING else loads(text)


def canonical(text: str) -> str:
    """Sort what has no order in the text that `dumps` wrote: equal values have the same text in every process.

    Sets of text come in another order in each process, and so may the dicts that are made of them.
    """
    return _write_sorted(json.loads(text, object_hook=_in_order))


def _in_order(read: dict[str, Any]) -> dict[str, Any]:
    for tag in ("$set", "$frozenset", "$dict"):
        if len(read) == 1 and tag in read:
            return {tag: sorted(read[tag], key=_write_sorted)}
    return read


def dumps_plain(value: Any) -> str:
    """Encode the engine's own data, such as a list of failures: plain JSON of any size that every database takes."""
    return "".join(_encode(value, 0))


def loads_plain(text: str) -> Any:
    """Decode what `dumps_plain` wrote."""
    return read_plain(text)[0]


def register_type(tag: str, cls: type[T], encode: Callable[[T], Any], decode: Callable[[Any], T]) -> None:
    """Let values of exactly `cls` be stored, under `tag`, which must stay the same while any run holds one.

    `encode(value)` returns something storable; `decode` gets that back. The same class may be registered again
    under its tag. ValueError if tag or class is taken, TypeError if an argument is of the wrong kind.
    """
    _check_registration(tag, cls, encode, decode)
    key = f"$:{tag}"

    def tag_registered(value: T, walk: Walk) -> Any:
        walk.enter()
        tagged = {key: tag_held(foreign(encode, value), walk)}
        walk.leave(len(key))
        return tagged

    _registered[tag] = cls
    ENCODERS[cls] = tag_registered
    DECODERS[key] = decode


def name_of(cls: type) -> str | None:
    """Return how stored text names a class of a project's own: `module:Name`, or `$:tag`; `None` for any other."""
    tag = next((tag for tag, known in _registered.items() if known is cls), None)
    if tag is not None:
        return f"$:{tag}"
    named = is_dataclass(cls) or issubclass(cls, Enum)
    return f"{cls.__module__}:{cls.__qualname__}" if named else None


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
    if taken or (cls in ENCODERS and _registered.get(tag) is not cls):
        raise ValueError(f"cls {class_path(cls)} is stored already" + (f", under tag {taken[0]!r}" if taken else ""))
