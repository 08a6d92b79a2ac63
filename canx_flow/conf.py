"""The project's `CANX_FLOW` dict as one typed, cached object; `checks` reports what is wrong with it.

Every module calls `get()`. Nothing is read before the first call, so importing this needs no settings.
"""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from .core import queue_limits, rates
from .core.limits import MOST_BURST, MOST_CONCURRENCY, Limit
from .core.naming import checked, shown
from .retry import Retry

Redactor = Callable[..., Any]
#: (check id, message, hint)
Problem = tuple[str, str, str]
Check = Callable[[str, Any], list[Problem]]

MOST_SECONDS = 1_000_000_000
MOST_DAYS = 365_000
#: The options of a limit, and the largest number of each.
_LIMIT_OPTIONS = {"rate": 0, "burst": MOST_BURST, "concurrency": MOST_CONCURRENCY}
_MOST_LIMIT_NAME = 200
_ADDRESS = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")


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
    admin_url: str | None = None
    admin_keys: bool = True
    #: By name.
    limits: dict[str, Limit] = field(default_factory=dict)
    queues: dict[str, dict[str, Any]] = field(default_factory=dict)


_KEYS = {item.name.upper(): item.name for item in fields(Settings)}


@cache
def get() -> Settings:
    """Return the settings in force; ImproperlyConfigured if they are wrong."""
    if found := _shape_problems():
        raise ImproperlyConfigured("; ".join(message for _, message, _ in found))
    values: dict[str, Any] = {_KEYS[key]: value for key, value in _given().items()}
    if "retry" in values:
        values["retry"] = Retry(**values["retry"])
    if "limits" in values:
        values["limits"] = {name: _limit(name, options) for name, options in values["limits"].items()}
    return Settings(**values)


def problems() -> list[Problem]:
    """Return everything that is wrong with `CANX_FLOW`, as (check id, message, hint)."""
    found = _shape_problems()
    return found or _redact_problems()


def redactor() -> Redactor | None:
    """Return the function of `REDACT`, `(value, *, workflow, step, event, kind) -> value`, or `None`."""
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


def _check_url(key: str, value: Any) -> list[Problem]:
    """Ask for an address that a reader of a log can open, wherever that is."""
    if value is None or (isinstance(value, str) and _ADDRESS.fullmatch(value)):
        return []
    if not isinstance(value, str):
        return _wrong_type(key, value, "a str or None")
    hint = 'Write the whole address of the admin, such as "https://example.com/admin/".'
    return [("canx_flow.E016", f"CANX_FLOW[{key!r}] is no address: {shown(value)}.", hint)]


def _check_bool(key: str, value: Any) -> list[Problem]:
    return [] if isinstance(value, bool) else _wrong_type(key, value, "a bool")


def _check_limits(key: str, value: Any) -> list[Problem]:
    if not isinstance(value, dict):
        return _wrong_type(key, value, "a dict of limits by their names")
    found = [problem for name, options in value.items() for problem in _limit_problems(name, options)]
    hint = f'Write CANX_FLOW[{key!r}] = {{"stripe": {{"rate": "20/s", "burst": 1, "concurrency": 10}}}}.'
    return [("canx_flow.E017", f"CANX_FLOW[{key!r}]{where} {what}.", hint) for where, what in found]


def _limit_problems(name: Any, options: Any) -> Iterator[tuple[str, str]]:
    """Yield where a limit is wrong, and what."""
    try:
        checked(name, "the name of a limit", _MOST_LIMIT_NAME)
    except (TypeError, ValueError) as exc:
        yield "", f"has a bad name: {exc}"
        return
    if not isinstance(options, dict):
        yield f"[{name!r}]", f"must be a dict, not {type(options).__name__}"
        return
    found = list(_option_problems(name, options))
    yield from found
    if found:
        return
    if options.get("rate") is None and options.get("concurrency") is None:
        yield f"[{name!r}]", "limits nothing: give it a rate, a concurrency, or both"
    elif "burst" in options and options.get("rate") is None:
        yield f"[{name!r}]['burst']", "needs a rate"


def _option_problems(name: str, options: dict[Any, Any]) -> Iterator[tuple[str, str]]:
    for option, value in options.items():
        if option not in _LIMIT_OPTIONS:
            yield f"[{name!r}]", f"has an unknown option: {shown(option)}. The options are {', '.join(_LIMIT_OPTIONS)}"
        elif (problem := _limit_problem(option, value)) is not None:
            yield f"[{name!r}][{option!r}]", f"{problem}, not {shown(value)}"


def _limit_problem(option: str, value: Any) -> str | None:
    """Return what is wrong with one option of a limit."""
    if value is None and option != "burst":
        return None
    if option == "rate":
        try:
            rates.parse(value)
        except ValueError as exc:
            return str(exc)
        return None
    most = _LIMIT_OPTIONS[option]
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        return f"must be an int from 1 to {most}"
    return None


def _limit(name: str, options: dict[str, Any]) -> Limit:
    rate = options.get("rate")
    return Limit(
        str(name), None if rate is None else rates.parse(rate), options.get("burst", 1), options.get("concurrency")
    )


def _redact_problems() -> list[Problem]:
    """Return what is wrong with `REDACT`; not part of `get`, as the import may need the settings that `get` reads."""
    path = _given().get("REDACT")
    if path is None:
        return []
    try:
        function = import_string(path)
    except Exception as exc:  # noqa: BLE001 - The module may raise anything when it is imported.
        return [("canx_flow.E007", f"CANX_FLOW['REDACT'] cannot be imported: {exc}", "")]
    if not callable(function):
        return [("canx_flow.E007", f"CANX_FLOW['REDACT'] is not a function: {shown(path)}.", "")]
    return _redact_misfit(path, function)


def _redact_misfit(path: str, function: Callable[..., Any]) -> list[Problem]:
    """Return what keeps the function from being called: then nothing could be shown."""
    try:
        inspect.signature(function).bind(None, workflow=None, step=None, event=None, kind="result")
    except TypeError as exc:
        hint = "It is called as redact(value, workflow=…, step=…, event=…, kind=…)."
        return [("canx_flow.E007", f"CANX_FLOW['REDACT'] cannot be called: {shown(path)}: {exc}.", hint)]
    except ValueError:  # One that is written in C does not tell.
        return []
    return []


def _check_queues(key: str, value: Any) -> list[Problem]:
    """Check each queue's name, and each of its options."""
    if not isinstance(value, dict):
        return _wrong_type(key, value, "a dict of queues")
    found: list[Problem] = []
    for name, options in value.items():
        if not isinstance(options, dict):
            found += _wrong_type(f"{key}[{name!r}]", options, "a dict of options")
            continue
        try:
            checked(name, "the name of a queue", 100)
            for option, given in options.items():
                queue_limits.checked(option, given)
        except (TypeError, ValueError) as exc:
            hint = f"The options of a queue are {', '.join(queue_limits.NAMES)}."
            found.append(("canx_flow.E018", f"CANX_FLOW[{key!r}][{shown(name)}]: {exc}.", hint))
    return found


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
    "ADMIN_URL": _check_url,
    "ADMIN_KEYS": _check_bool,
    "LIMITS": _check_limits,
    "QUEUES": _check_queues,
}
