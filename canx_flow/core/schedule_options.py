"""The options of `schedule(…)`, checked one by one. Called by `schedules`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings

from . import naming
from .cron import Cron
from .durations import SECONDS_OF_HUNDRED_YEARS, aware, seconds
from .recurrence import Recurrence

_LEAST_INTERVAL = timedelta(seconds=1)


def checked_rule(
    name: str,
    cron: Any,
    every: Any,
    offset: Any,
    tz: Any,
    window: Any,
    start_at: Any,
    end_at: Any,
) -> Recurrence:
    """Return when a schedule of these options ticks; ValueError or TypeError names what is wrong."""
    if (cron is None) == (every is None):
        raise ValueError("exactly one of cron and every must be given")
    if cron is not None and not isinstance(cron, str):
        raise TypeError(f"cron must be a str, not {type(cron).__name__}")
    distance = None if every is None else _checked_every(every)
    shift = checked_span(offset, "offset")
    if shift and (distance is None or shift >= distance):
        raise ValueError("offset is for schedules with every, and must be less than that")
    rule = Recurrence(
        name,
        None if cron is None else Cron(cron).expression,
        distance,
        shift,
        _checked_zone(tz),
        checked_span(window, "window"),
        None if start_at is None else aware(start_at, "start_at").astimezone(UTC),
        None if end_at is None else aware(end_at, "end_at").astimezone(UTC),
    )
    if rule.start_at is not None and rule.end_at is not None and rule.end_at < rule.start_at:
        raise ValueError("end_at must not be earlier than start_at")
    _refuse_never(rule)
    return rule


def _refuse_never(rule: Recurrence) -> None:
    """Raise ValueError for a cron expression without any moment, such as the 30th of February."""
    if rule.cron is None:
        return
    begin = datetime(2000, 1, 1, tzinfo=ZoneInfo("UTC"))
    if next(Cron(rule.cron).after(begin, rule.zone), None) is None:
        raise ValueError(f"cron {rule.cron!r} has no moment at all")


def _checked_every(every: Any) -> timedelta:
    distance = checked_span(every, "every", positive=True)
    if distance < _LEAST_INTERVAL:
        raise ValueError(f"every must be at least a second, not {naming.shown(every)}")
    return distance


def checked_span(value: Any, what: str, *, positive: bool = False) -> timedelta:
    """Return a timedelta or a number of seconds as a timedelta: a hundred years at most, or moments overflow."""
    number = seconds(value, what, positive=positive)
    if number > SECONDS_OF_HUNDRED_YEARS:
        raise ValueError(f"{what} is too long: {naming.shown(value)} is more than a hundred years")
    return timedelta(seconds=number)


def _checked_zone(tz: Any) -> str:
    tz = settings.TIME_ZONE if tz is None else tz
    if not isinstance(tz, str):
        raise TypeError(f"tz must be the name of a time zone, such as 'Europe/Paris', not {type(tz).__name__}")
    try:
        ZoneInfo(tz)
    except Exception:  # noqa: BLE001 - of an odd name, whatever the file system says of it
        raise ValueError(
            f"tz {naming.shown(tz)} is no time zone: it is the name of one, such as 'Europe/Paris'"
        ) from None
    return tz


def one_of(value: Any, what: str, choices: Sequence[str]) -> str:
    """Return the value; ValueError if it is none of these."""
    if value not in choices:
        raise ValueError(f"{what} must be one of {', '.join(map(repr, choices))}, not {naming.shown(value)}")
    return str(value)
