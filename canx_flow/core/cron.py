"""The moments of a cron expression in a time zone.

cronsim reads the fields; what a change of the clocks means is here. Where the hour field is `*` or `*/n`, moments
follow elapsed time: both copies of a doubled hour, none of a missing one. Where it names hours, a missing local time is
the first moment after the gap, once, and a doubled one is its first copy. (cronsim by itself does so only where the
minutes are fixed, too.) Called by `recurrence`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo

from cronsim import CronSim, CronSimError

_FIELDS = 5
_ANY_HOUR = re.compile(r"\*(/\d+)?")
_SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)


class Cron:
    """A cron expression, checked."""

    def __init__(self, expression: str) -> None:
        fields = expression.split()
        self.expression = " ".join(fields)
        if len(fields) != _FIELDS:
            raise ValueError(f"cron must have five fields, as in '0 2 * * *', not {len(fields)}: {expression!r}")
        try:
            CronSim(self.expression, datetime(2000, 1, 1))  # noqa: DTZ001 - a local time, of no zone yet
        except CronSimError as error:
            raise ValueError(f"cron {expression!r} is no cron expression: {str(error).lower()}") from None
        self._any_hour = _ANY_HOUR.fullmatch(fields[1]) is not None

    def after(self, moment: datetime, zone: tzinfo) -> Iterator[datetime]:
        """Yield every moment later than this one, in UTC and in order; none beyond what a datetime can say."""
        moment = moment.astimezone(UTC)
        try:
            yield from (self._elapsed if self._any_hour else self._named)(moment, zone)
        except OverflowError:
            return

    def _elapsed(self, moment: datetime, zone: tzinfo) -> Iterator[datetime]:
        """Go from one change of the clocks to the next: in between, local times are as far apart as moments are."""
        begin, looked = _local(moment, zone), moment
        while True:
            offset, changed = _local(looked, zone) - looked.replace(tzinfo=None), None
            for time in CronSim(self.expression, begin):
                found = (time - offset).replace(tzinfo=UTC)
                changed = first_change(looked, found, zone)
                if changed is not None:
                    break
                if found > moment:
                    yield found
                looked = found
            if changed is None:
                return
            # The moment of the change may be one of them itself.
            begin, looked = _local(changed, zone) - _SECOND, changed

    def _named(self, moment: datetime, zone: tzinfo) -> Iterator[datetime]:
        for time in CronSim(self.expression, _local(moment, zone)):
            found = first_moment(time, zone)
            if found > moment:
                yield found
                moment = found


def first_change(begin: datetime, end: datetime, zone: tzinfo) -> datetime | None:
    """Return the first moment after `begin`, up to `end`, from which on the zone's clocks show another offset."""
    offset = _offset(begin, zone)
    while begin < end:
        day = min(begin + _DAY, end)
        if _offset(day, zone) != offset:
            return _change(begin, day, zone)
        begin = day
    return None


def first_moment(time: datetime, zone: tzinfo) -> datetime:
    """Return when the zone's clocks show this local time first; of one that they skip, the moment after the gap."""
    one, other = (time.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    # In a gap the offset before it, of fold 0, gives the later moment.
    return one if one <= other else _change(other, one, zone)


def _change(begin: datetime, end: datetime, zone: tzinfo) -> datetime:
    """Return the second at which the offset changes between these two moments, of which it differs."""
    before, begin = _offset(begin, zone), begin.replace(microsecond=0)
    low, high = 0, int((end - begin).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(begin + timedelta(seconds=middle), zone) == before:
            low = middle
        else:
            high = middle
    return begin + timedelta(seconds=high)


def _offset(moment: datetime, zone: tzinfo) -> timedelta | None:
    return moment.astimezone(zone).utcoffset()


def _local(moment: datetime, zone: tzinfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)
