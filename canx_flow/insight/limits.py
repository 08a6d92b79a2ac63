"""Each limit of the settings: how many calls have a place, how many runs wait, and when the next call may begin.

Three queries, however many limits there are, each by an index and up to a number. Called by `flow limits` and the
admin.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from .. import conf
from ..core.limits import FULL, RESERVED, Limit
from ..models import LimitBucket, Timer
from ..models.conditions import FALSE
from ..store import limits
from .counting import capped

#: Runs that wait are counted up to so many.
MOST = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LimitUsage:
    """One limit, all of its buckets together. `full` and `reserved`: runs that wait for a place, and for a moment."""

    limit: Limit
    held: int
    full: int
    reserved: int
    #: When a call may begin that asks now; of the bucket without a key, if that is busy.
    next_at: datetime | None


def read(alias: str, now: datetime) -> list[LimitUsage]:
    """Read how each limit stands, in the order of the settings."""
    declared = conf.get().limits
    if not declared:
        return []
    held = Counter(limits.held(alias).order_by().values_list("name", flat=True)[:MOST])
    events = [event for name in declared for event in (FULL + name, RESERVED + name)]
    timers = Timer.objects.using(alias).filter(held=FALSE)
    waiting = dict(zip(events, capped(alias, [timers.filter(event=event) for event in events], MOST), strict=True))
    tats = dict(LimitBucket.objects.using(alias).filter(name__in=declared, key="").values_list("name", "tat"))
    return [
        LimitUsage(
            limit, held[name], waiting[FULL + name], waiting[RESERVED + name],
            _next(limit, tats.get(name, 0), now),
        )
        for name, limit in declared.items()
    ]  # fmt: skip


def _next(limit: Limit, tat: int, now: datetime) -> datetime | None:
    if limit.rate is None:
        return None
    begins, _after = limit.reserve(tat, limits.now_of(now), 1)
    begins_at = _EPOCH + timedelta(microseconds=begins)
    return begins_at if begins_at > now else None
