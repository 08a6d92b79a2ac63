"""How many runs have started, completed and failed in each minute, hour or day.

Ids begin with the time, so what has started in a span is a range of the primary key, counted up to a limit. When runs
have ended no index knows: completions are counted among the newest runs, failures among the newest that have failed,
and it is said from when on these are all that are known. Two queries, beside the one for failures. Called by the admin.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from uuid import UUID

from django.utils import timezone

from ..core.identity import first_id_at, moment_of
from ..models import WorkflowRun
from ..states import COMPLETED
from . import alike, counting
from .alike import Failed

MINUTE, HOUR, DAY = "minute", "hour", "day"
#: How many spans there are of each, and up to how many runs are counted as started in one.
SPANS = {MINUTE: 60, HOUR: 24, DAY: 30}
MOST_STARTED = {MINUTE: 2_000, HOUR: 5_000, DAY: 5_000}
#: The newest runs among which completions are counted.
MOST_RUNS = 10_000
_LENGTHS = {MINUTE: timedelta(minutes=1), HOUR: timedelta(hours=1)}


@dataclass(frozen=True, slots=True)
class Span:
    """A minute, an hour or a day; `None`: it began before what is known of ends."""

    began: datetime
    until: datetime
    started: int
    completed: int | None
    failed: int | None

    @property
    def ended(self) -> int:
        return (self.completed or 0) + (self.failed or 0)


@dataclass(frozen=True, slots=True)
class Throughput:
    """The spans, the oldest first. `since`: runs that started before this moment were not looked at for their ends."""

    per: str
    spans: Sequence[Span]
    since: datetime | None
    failed_since: datetime | None
    #: Up to how many are counted as started in one span.
    most: int

    @property
    def total(self) -> tuple[int, int, int]:
        """How many have started, completed and failed in all of the spans, as far as that is known."""
        spans = self.spans
        return sum(s.started for s in spans), sum(s.completed or 0 for s in spans), sum(s.failed or 0 for s in spans)

    @property
    def is_capped(self) -> bool:
        return any(span.started >= self.most for span in self.spans)


def read(alias: str, now: datetime, per: str, failed: Sequence[Failed], most_runs: int = MOST_RUNS) -> Throughput:
    """Read the last spans up to now; `failed`: the newest runs that have failed, as `alike.newest` reads them."""
    borders = _borders(now, per)
    runs = WorkflowRun.objects.using(alias).order_by("-id")
    newest = list(runs.values_list("id", "state", "finished_at")[:most_runs])
    since = _begin([run_id for run_id, *_ in newest], most_runs)
    failed_since = _begin([run.id for run in failed], alike.MOST_RUNS)
    completed = _numbers(borders, (at for _, state, at in newest if state == COMPLETED), since)
    failures = _numbers(borders, (run.at for run in failed), failed_since)
    started = _started(alias, borders, MOST_STARTED[per])
    spans = [Span(*known) for known in zip(borders, borders[1:], started, completed, failures, strict=False)]
    return Throughput(per, spans, since, failed_since, MOST_STARTED[per])


def hourly(now: datetime, moments: Iterable[datetime | None]) -> Sequence[int]:
    """Count moments in each of the last 24 hours, up to now."""
    return [number or 0 for number in _numbers(_borders(now, HOUR), moments, None)]


def _started(alias: str, borders: Sequence[datetime], most: int) -> list[int]:
    runs = WorkflowRun.objects.using(alias).all()
    ids = [first_id_at(border) for border in borders]
    return counting.capped(alias, [runs.filter(id__gte=first, id__lt=next_) for first, next_ in pairwise(ids)], most)


def _numbers(
    borders: Sequence[datetime], moments: Iterable[datetime | None], since: datetime | None
) -> list[int | None]:
    """Count moments between the borders; `None` before what was looked at."""
    numbers = [0] * (len(borders) - 1)
    for at in moments:
        place = bisect_right(borders, at) - 1 if at is not None else -1
        if 0 <= place < len(numbers):
            numbers[place] += 1
    return [
        None if since is not None and until <= since else number
        for number, until in zip(numbers, borders[1:], strict=True)
    ]


def _begin(ids: Sequence[UUID], most: int) -> datetime | None:
    """Return when the first of these has started, the newest first; `None` if there are no others."""
    return moment_of(ids[-1]) if len(ids) >= most else None


def _borders(now: datetime, per: str) -> list[datetime]:
    """Return where the spans begin, in the reader's time zone, and where the last of them ends."""
    number, border = SPANS[per], _BORDERS[per]
    return [border(now, place - number + 1) for place in range(number + 1)]


def _in_hours(length: timedelta) -> Callable[[datetime, int], datetime]:
    def border(now: datetime, place: int) -> datetime:
        local = timezone.localtime(now)
        into = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond) % length
        return now - into + place * length

    return border


def _in_days(now: datetime, place: int) -> datetime:
    day = timezone.localtime(now).date() + timedelta(days=place)
    return timezone.make_aware(datetime.combine(day, time.min)).astimezone(UTC)


_BORDERS: dict[str, Callable[[datetime, int], datetime]] = {
    **{per: _in_hours(length) for per, length in _LENGTHS.items()}, DAY: _in_days,
}  # fmt: skip
