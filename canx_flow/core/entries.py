"""Numbers of attributes, by which runs are looked for where the database has no index for JSON.

Used by `store.attributes`, which stores them, and by `columns.HasNoted`, which asks for them.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any


def entry(name: str, value: Any) -> int:
    """Return a number of 64 bits, the same for all values that `HasEntry` takes for equal, and for hardly another."""
    text = json.dumps([name, _comparable(value)], sort_keys=True)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), signed=True)


def _comparable(value: Any) -> Any:
    """Return a value of JSON with all its numbers as floats: 1 is 1.0, and of two equal ones each is the same float."""
    match value:
        case bool() | None | str():
            return value
        case int() | float():
            return _as_float(value)
        case dict():
            return {key: _comparable(item) for key, item in value.items()}
        case _:
            return [_comparable(item) for item in value]


def _as_float(number: float) -> float:
    try:
        return float(number) + 0.0  # -0.0 is 0.0.
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")
