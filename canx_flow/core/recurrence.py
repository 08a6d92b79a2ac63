"""When a schedule ticks: a pure function of its rule and the clock. Called by `schedules`, and by what writes its rows.

A tick has a nominal moment, which names its run, and a moment at which it is due: later by its share of the window.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice
from zoneinfo import ZoneInfo

from .cron import Cron

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND, _NONE = timedelta(microseconds=1), timedelta(0)
#: How far back the last moment is looked for: most rules have one in the first of these.
_BACK = tuple(map(timedelta, (1 / 24, 1, 32, 367, 3660)))
#: The last year that every database can store.
_LAST_YEAR = 9998


@dataclass(frozen=True, slots=True)
class Tick:
    """One moment of a schedule: its name, and when its run starts."""

    nominal: datetime
    due_at: datetime


@dataclass(frozen=True)
class Recurrence:
    """The rule of one schedule: a cron expression in a time zone, or an interval counted from the epoch."""

    name: str
    cron: str | None
    every: timedelta | None
    offset: timedelta
    tz: str
    window: timedelta
    start_at: datetime | None
    end_at: datetime | None

    @cached_property
    def zone(self) -> ZoneInfo:
        """The time zone in which the fields of the cron expression are read."""
        return ZoneInfo(self.tz)

    @cached_property
    def _cron(self) -> Cron | None:
        return None if self.cron is None else Cron(self.cron)

    def after(self, moment: datetime) -> Iterator[Tick]:
        """Yield every tick whose nominal moment is later than this one, in order."""
        moments = self._moments(moment)
        nominal = next(moments, None)
        while nominal is not None:
            following = next(moments, None)
            yield Tick(nominal, nominal + self._share(nominal, following))
            nominal = following

    def first_after(self, moment: datetime) -> Tick | None:
        """Return the first tick whose nominal moment is later than this one; `None` if there is none any more."""
        return next(self.after(moment), None)

    def has(self, moment: datetime) -> bool:
        """Return whether a tick has this nominal moment."""
        tick = self.first_after(moment - _MICROSECOND)
        return tick is not None and tick.nominal == moment

    def upcoming(self, moment: datetime, most: int) -> list[Tick]:
        """Return the next ticks, at most so many."""
        return list(islice(self.after(moment), most))

    def last_due(self, moment: datetime, since: datetime) -> Tick | None:
        """Return the last tick that is due at this moment, if it is not earlier than `since`."""
        for back in _BACK:
            begin = max(since, moment - back)
            found = None
            for tick in self.after(begin - _MICROSECOND):
                if tick.due_at > moment:
                    break
                found = tick
            if found is not None or begin == since:
                return found
        return None

    def _moments(self, moment: datetime) -> Iterator[datetime]:
        if self.start_at is not None:
            moment = max(moment, self.start_at.astimezone(UTC) - _MICROSECOND)
        for found in self._interval(moment) if self._cron is None else self._cron.after(moment, self.zone):
            if found.year > _LAST_YEAR or (self.end_at is not None and found > self.end_at):
                return
            yield found

    def _interval(self, moment: datetime) -> Iterator[datetime]:
        assert self.every is not None
        count = (moment - _EPOCH - self.offset) // self.every + 1
        try:
            found = _EPOCH + self.offset + count * self.every
            while True:
                yield found
                found += self.every
        except OverflowError:
            return

    def _share(self, nominal: datetime, following: datetime | None) -> timedelta:
        """Return this tick's share of the window: the same on every machine, and never past the next tick."""
        window = self.window if following is None else min(self.window, following - nominal)
        if window <= _NONE:
            return _NONE
        digest = hashlib.sha256(f"{self.name}@{stamp(nominal)}".encode()).digest()
        return timedelta(microseconds=int.from_bytes(digest[:8], "big") % (window // _MICROSECOND))


def stamp(moment: datetime) -> str:
    """Write a nominal moment as it stands in the key of its run: `2026-11-30T01:00:00Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
