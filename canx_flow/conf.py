"""The project's `CANX_FLOW` dict as one typed, cached object; `checks` reports what is wrong with it.

Every module calls `get()`. Nothing is read before the first call, so importing this needs no settings.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from .core.naming import shown
from .retry import Retry

Redactor = Callable[[str, Any], Any]
#: (check id, message, hint)
Problem = tuple[str, str, str]
Check = Callable[[str, Any], list[Problem]]

MOST_SECONDS = 1_000_000_000
MOST_DAYS = 365_000


@dataclass(frozen=True)
class Settings:
    """`CANX_FLOW`, checked. `redact` is the dotted path; `redactor()` gives the function."""

    database: str = "default"
    retry: Retry = field(default_factory=Retry)
    lease_seconds: float = 30
    poll_seconds: float = 1.0
    max_recoveries: int = 10
    max_payload_bytes: int = 1_000_000
    event_days: float = 30
    retention_days: float | None = None
    redact: str | None = None


_KEYS = {item.name.upper(): item.name for item in fields(Settings)}


@cache
def get() -> Settings:
    """Return the settings in force; ImproperlyConfigured if they are wrong."""
    if found := _shape_problems():
        raise ImproperlyConfigured("; ".join(message for _, message, _ in found))
    values: dict[str, Any] = {_KEYS[key]: value for key, value in _given().items()}
    if "retry" in values:
        values["retry"] = Retry(**values["retry"])
    return Settings(**values)


def problems() -> list[Problem]:
    """Return everything that is wrong with `CANX_FLOW`, as (check id, message, hint)."""
    found = _shape_problems()
    return found or _redact_problems()


def redactor() -> Redactor | None:
    """Return the function of `REDACT`, `(run_or_step_name, value) -> value`, or `None`."""
    path = get().redact
    if path is None:
        return None
    if found := _redact_problems():
        raise ImproperlyConfigured(found[0][1])
    function: Redactor = import_string(path)
    return function


def _forget(*, setting: str, **_kwargs: Any) -> None:
    if setting in ("CANX_FLOW", "DATABASES"):
        get.cache_clear()


setting_changed.connect(_forget, dispatch_uid="canx_flow.conf")


def _given() -> Any:
    return getattr(settings, "CANX_FLOW", {})


def _shape_problems() -> list[Problem]:
    given = _given()
    if not isinstance(given, dict):
        hint = 'Write CANX_FLOW = {"LEASE_SECONDS": 30}, or leave it out.'
        return [("canx_flow.E001", f"CANX_FLOW must be a dict, not {type(given).__name__}.", hint)]
    found: list[Problem] = []
    for key, value in given.items():
        found += _CHECKS[key](key, value) if key in _CHECKS else [_unknown(key)]
    return found


def _unknown(key: Any) -> Problem:
    close = difflib.get_close_matches(str(key).upper(), _KEYS, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"The keys are {', '.join(_KEYS)}."
    return ("canx_flow.E002", f"CANX_FLOW has an unknown key: {shown(key)}.", hint)


def _wrong_type(key: str, value: Any, wanted: str) -> list[Problem]:
    return [("canx_flow.E003", f"CANX_FLOW[{key!r}] must be {wanted}, not {type(value).__name__}.", "")]


def _number(least: float, most: float, *, whole: bool = False, optional: bool = False) -> Check:
    wanted = "an int" if whole else "an int or a float"

    def check(key: str, value: Any) -> list[Problem]:
        if value is None and optional:
            return []
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            return _wrong_type(key, value, f"{wanted} or None" if optional else wanted)
        if least <= value <= most:
            return []
        bounds = f"from {least:g} to {most:g}" if most < math.inf else f"at least {least:g}"
        return [("canx_flow.E004", f"CANX_FLOW[{key!r}] must be {bounds}, not {shown(value)}.", "")]

    return check


def _check_database(key: str, value: Any) -> list[Problem]:
    if not isinstance(value, str):
        return _wrong_type(key, value, "a str")
    if value in settings.DATABASES:
        return []
    hint = f"The aliases are {', '.join(settings.DATABASES) or 'none'}."
    return [("canx_flow.E006", f"CANX_FLOW[{key!r}] names {shown(value)}, which is not in DATABASES.", hint)]


def _check_retry(key: str, value: Any) -> list[Problem]:
    if not isinstance(value, dict):
        return _wrong_type(key, value, "a dict of keywords of Retry")
    try:
        Retry(**value)
    except (TypeError, ValueError) as exc:
        hint = f"Its keywords are {', '.join(item.name for item in fields(Retry))}."
        return [("canx_flow.E005", f"CANX_FLOW[{key!r}] makes no Retry: {exc}.", hint)]
    return []


def _check_redact(key: str, value: Any) -> list[Problem]:
    return [] if value is None or isinstance(value, str) else _wrong_type(key, value, "a dotted path or None")


def _redact_problems() -> list[Problem]:
    """Return what is wrong with `REDACT`; not part of `get`, as the import may need the settings that `get` reads."""
    path = _given().get("REDACT")
    if path is None:
        return []
    try:
        function = import_string(path)
    except Exception as exc:  # noqa: BLE001 - The module may raise anything when it is imported.
        return [("canx_flow.E007", f"CANX_FLOW['REDACT'] cannot be imported: {exc}", "")]
    if callable(function):
        return []
    return [("canx_flow.E007", f"CANX_FLOW['REDACT'] is not a function: {shown(path)}.", "")]


_CHECKS: dict[str, Check] = {
    "DATABASE": _check_database,
    "RETRY": _check_retry,
    "LEASE_SECONDS": _number(0.001, MOST_SECONDS),
    "POLL_SECONDS": _number(0.001, MOST_SECONDS),
    "MAX_RECOVERIES": _number(1, math.inf, whole=True),
    "MAX_PAYLOAD_BYTES": _number(1, math.inf, whole=True),
    "EVENT_DAYS": _number(0.001, MOST_DAYS),
    "RETENTION_DAYS": _number(0, MOST_DAYS, optional=True),
    "REDACT": _check_redact,
}
