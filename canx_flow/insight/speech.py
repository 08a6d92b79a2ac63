"""Numbers, durations, moments and states in the reader's language, each a whole phrase. Called by what is shown there.

What logs, programs and the terminal say is in English: `core.durations`, which cuts durations in the same places.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import get_language, override, pgettext_lazy
from django.utils.translation import gettext as _

from .. import states

Text = str | Promise


class Unit(NamedTuple):
    """A unit of time, its size in seconds, the next smaller one, and how both are written together, and one alone."""

    name: str
    size: int
    smaller: str
    part: int
    both: Text
    alone: Text


UNITS = (
    Unit(
        "days", 86400, "hours", 3600,
        pgettext_lazy("duration", "{days} d {hours} h"), pgettext_lazy("duration", "{days} d"),
    ),
    Unit(
        "hours", 3600, "minutes", 60,
        pgettext_lazy("duration", "{hours} h {minutes} min"), pgettext_lazy("duration", "{hours} h"),
    ),
    Unit(
        "minutes", 60, "seconds", 1,
        pgettext_lazy("duration", "{minutes} min {seconds} s"), pgettext_lazy("duration", "{minutes} min"),
    ),
)  # fmt: skip
SECONDS = pgettext_lazy("duration", "{seconds} s")
MILLISECONDS = pgettext_lazy("duration", "{milliseconds} ms")
NOW = pgettext_lazy("moment", "now")
IN, AGO = pgettext_lazy("moment", "in {span}"), pgettext_lazy("moment", "{span} ago")

RUN_STATES: dict[str, Text] = {
    states.PENDING: pgettext_lazy("state of a run", "pending"),
    states.RUNNING: pgettext_lazy("state of a run", "running"),
    states.SLEEPING: pgettext_lazy("state of a run", "sleeping"),
    states.WAITING: pgettext_lazy("state of a run", "waiting"),
    states.RETRYING: pgettext_lazy("state of a run", "retrying"),
    states.PAUSED: pgettext_lazy("state of a run", "paused"),
    states.PARKED: pgettext_lazy("state of a run", "parked"),
    states.STOPPING: pgettext_lazy("state of a run", "stopping"),
    states.COMPLETED: pgettext_lazy("state of a run", "completed"),
    states.FAILED: pgettext_lazy("state of a run", "failed"),
    states.CANCELLED: pgettext_lazy("state of a run", "cancelled"),
}


def in_english() -> AbstractContextManager[object]:
    """Have texts that know other languages be as all others of a terminal, a file or a report."""
    return override(None)


def patterns() -> dict[str, str]:
    """Return the phrases by which a script writes moments as `when` and `due` do, with names in braces."""
    found: dict[str, Text] = {"in": IN, "ago": AGO, "now": NOW, "late": _("now, due {when}"), "seconds": SECONDS}
    for unit in UNITS:
        found |= {unit.name: unit.alone, f"{unit.name}_{unit.smaller}": unit.both}
    return {name: str(text) for name, text in found.items()}


def number(count: float, places: int | None = None) -> str:
    """Write a number as the reader's language groups and points it; in English where texts are, too."""
    if get_language() is None or not settings.USE_I18N:
        return f"{count:,}" if places is None else f"{count:,.{places}f}"
    return number_format(count, places, force_grouping=True)


def span(duration: float | timedelta, *, briefly: bool = False) -> str:
    """Write a duration in its two largest units, or in one: `2 h 14 min`, `2 h`, `1.3 s`, `12 ms`."""
    seconds = max(duration.total_seconds() if isinstance(duration, timedelta) else duration, 0)
    for unit in UNITS:
        whole, rest = divmod(round(seconds / unit.part), unit.size // unit.part)
        if whole and rest and whole < 100 and not briefly:
            return str(unit.both).format(**{unit.name: number(whole), unit.smaller: number(rest)})
        if whole:
            return str(unit.alone).format(**{unit.name: number(whole)})
    if seconds < 0.9995:
        return str(MILLISECONDS).format(milliseconds=number(round(seconds * 1000)))
    tenths = seconds < 9.95
    return str(SECONDS).format(seconds=number(round(seconds, 1) if tenths else round(seconds), 1 if tenths else None))


def when(moment: datetime, now: datetime, *, briefly: bool = False) -> str:
    """Write `in 2 h 14 min`, `3 d 4 h ago`, `now`; briefly `in 2 h`, `3 d ago`."""
    seconds = (moment - now).total_seconds()
    if abs(seconds) < 1:
        return str(NOW)
    return str(IN if seconds > 0 else AGO).format(span=span(abs(seconds), briefly=briefly))


def due(moment: datetime, now: datetime, *, briefly: bool = False) -> str:
    """Say how far away a moment to come is; it may be late."""
    said = when(moment, now, briefly=briefly)
    return said if (now - moment).total_seconds() < 1 else _("now, due {when}").format(when=said)
