"""The classes that a function's annotations name. Called by the admin's form that starts a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

from .callables import plain


def classes(function: Any) -> set[type]:
    """Return the classes in the annotations of a function, and in those of the dataclasses among them."""
    found: set[type] = set()
    hints = [*_hints(plain(function)).values()]
    while hints:
        hint = hints.pop()
        hints += get_args(hint)
        if isinstance(hint, type) and hint not in found:
            found.add(hint)
            hints += _hints(hint).values() if is_dataclass(hint) else ()
    return found


def _hints(annotated: Any) -> Mapping[str, Any]:
    try:
        return get_type_hints(annotated)
    except Exception:  # noqa: BLE001 - names that only type checkers import, or whatever the project's code raises
        return {}
