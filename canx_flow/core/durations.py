"""Durations and moments: checked where callers hand them in, naming the argument; and written in words."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta

from .naming import shown

_NONE, _HUNDRED_YEARS = timedelta(0), timedelta(days=36_525)
SECONDS_OF_HUNDRED_YEARS = _HUNDRED_YEARS.total_seconds()


def seconds(value: float | timedelta, what: str, *, positive: bool = False) -> float:
    """Return a duration in seconds: finite, and not negative (or, for `positive`, above zero)."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} must be a timedelta or a number of seconds, not {type(value).__name__}")
    # Compared, not asked whether it is finite: an int may be too large for a float.
    if not 0 <= value <= sys.float_info.max or (positive and value == 0):
        raise ValueError(
            f"{what} must be {'above zero' if positive else 'zero or more'} and finite, not {shown(value)}"
        )
    return float(value)


def is_usual(value: object) -> bool:
    """Return whether this is a right duration whenever it begins: a number of seconds or a timedelta, to 100 years."""
    if type(value) is timedelta:
        return _NONE <= value <= _HUNDRED_YEARS
    return (type(value) is float or type(value) is int) and 0 <= value <= SECONDS_OF_HUNDRED_YEARS


def later(moment: datetime, delay: float, what: str = "a delay") -> datetime:
    """Return `moment` plus seconds; ValueError beyond what every database can store."""
    try:
        result = moment + timedelta(seconds=delay)
    except OverflowError:
        result = None
    if result is None or result.year >= 9999:
        raise ValueError(f"{what} of {delay:g} seconds reaches beyond the year 9998, which no database here can store")
    return result


def aware(moment: datetime, what: str) -> datetime:
    """Return the moment if it is an aware datetime within every database's range, else TypeError or ValueError."""
    if not isinstance(moment, datetime):
        raise TypeError(f"{what} must be an aware datetime, not {type(moment).__name__}")
    if moment.utcoffset() is None:
        raise ValueError(f"{what} must be an aware datetime: {moment!r} has no time zone")
    if not 1000 < moment.year < 9999:
        raise ValueError(f"{what} is out of the databases' range: {moment!r}")
    return moment


# -- in words --------------------------------------------------------------------------------------

UNITS = (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1))


def span(duration: float | timedelta) -> str:
    """Write a duration in its two largest units: `2 h 14 min`, `1.3 s`, `12 ms`."""
    seconds = max(duration.total_seconds() if isinstance(duration, timedelta) else duration, 0)
    for unit, size, smaller, part in UNITS:
        whole, rest = divmod(round(seconds / part), size // part)
        if whole:
            return f"{whole:,} {unit} {rest} {smaller}" if rest and whole < 100 else f"{whole:,} {unit}"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"


def when(moment: datetime, now: datetime) -> str:
    """Return `in 2 h 14 min`, `3 d 4 h ago`, or `now`."""
    seconds = (moment - now).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"in {span(seconds)}" if seconds > 0 else f"{span(-seconds)} ago"


def ago(moment: datetime, now: datetime) -> str:
    """Return how long ago a moment was, in one unit, for lists: `3 min ago`."""
    seconds = max((now - moment).total_seconds(), 0)
    for unit, size, _, _ in UNITS:
        if seconds >= size:
            return f"{int(seconds / size):,} {unit} ago"
    return f"{seconds:.0f} s ago"
