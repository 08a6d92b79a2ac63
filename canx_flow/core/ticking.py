"""What a schedule does when it is due: which ticks start runs, which wait, which are left out. A pure function.

Called by `store.ticks` in the transaction that has locked the schedule's row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from .recurrence import Tick
from .schedules import Scheduled

#: A tick that is found no later than this has not been missed: `catch_up` is about those that were.
LATE = timedelta(seconds=60)
#: Ticks of one schedule that one look starts or puts by; ticks that may wait for a run's end; missed ones it counts.
MOST_AT_ONCE, MOST_BUFFERED, MOST_COUNTED = 100, 1000, 1000
#: How often a schedule is looked at whose ticks wait for a run's end.
LOOK_AGAIN = timedelta(seconds=1)
_MICROSECOND = timedelta(microseconds=1)

#: Why a tick started no run: its schedule's last run has not ended; no worker was there in time; it waited for a run's
#: end when its schedule began anew.
OVERLAP, MISSED, ANEW = "overlap", "missed", "anew"


@dataclass(slots=True)
class Standing:
    """A schedule's row, as far as the decision depends on it."""

    nominal: datetime | None
    next_at: datetime | None
    buffered: list[datetime]
    #: Whether the last run has not ended.
    busy: bool


@dataclass(slots=True)
class Decision:
    """What becomes of the ticks that are due, and when the schedule is due again."""

    starts: list[datetime] = field(default_factory=list)
    buffered: list[datetime] = field(default_factory=list)
    #: How many were left out, and why the last of them.
    skipped: int = 0
    reason: str = ""
    cancels: bool = False
    following: Tick | None = None
    due_at: datetime | None = None

    def skip(self, count: int, reason: str) -> None:
        """Leave out so many ticks."""
        if count:
            self.skipped, self.reason = self.skipped + count, reason


def decide(scheduled: Scheduled, standing: Standing, now: datetime) -> Decision:
    """Return what the schedule does now."""
    decision = Decision()
    due = standing.buffered + _due(scheduled, standing, now, decision)
    _overlap(scheduled.overlap, due, standing.busy, decision)
    following = decision.following
    decision.due_at = None if following is None else following.due_at
    if decision.buffered:
        again = now + LOOK_AGAIN
        decision.due_at = again if decision.due_at is None else min(again, decision.due_at)
    return decision


def _due(scheduled: Scheduled, standing: Standing, now: datetime, decision: Decision) -> list[datetime]:
    """Return the ticks that count as due, by `catch_up`; note the rest as missed, and which tick follows them."""
    rule, nominal, next_at = scheduled.recurrence, standing.nominal, standing.next_at
    if nominal is None or next_at is None:
        return []
    if next_at > now:
        decision.following = Tick(nominal, next_at)
        return []
    since = now - max(scheduled.catch_up_window, LATE)
    if scheduled.catch_up == "all":
        return _all(scheduled, nominal, now, since, decision)
    last = rule.last_due(now, nominal) or Tick(nominal, next_at)
    decision.following = rule.first_after(last.nominal)
    decision.skip(_count(scheduled, nominal, last.nominal), MISSED)
    in_time = last.due_at >= now - LATE or (scheduled.catch_up == "one" and last.nominal >= since)
    decision.skip(0 if in_time else 1, MISSED)
    return [last.nominal] if in_time else []


def _all(scheduled: Scheduled, nominal: datetime, now: datetime, since: datetime, decision: Decision) -> list[datetime]:
    begin = max(nominal, since)
    decision.skip(_count(scheduled, nominal, begin), MISSED)
    found: list[datetime] = []
    for tick in scheduled.recurrence.after(begin - _MICROSECOND):
        if tick.due_at > now or len(found) == MOST_AT_ONCE:
            decision.following = tick
            break
        found.append(tick.nominal)
    return found


def _count(scheduled: Scheduled, begin: datetime, end: datetime) -> int:
    """Count the ticks from one moment to before another, up to a bound."""
    if begin >= end:
        return 0
    ticks = islice(scheduled.recurrence.after(begin - _MICROSECOND), MOST_COUNTED)
    return sum(1 for _ in _until(ticks, end))


def _until(ticks: islice[Tick], end: datetime) -> list[Tick]:
    found = []
    for tick in ticks:
        if tick.nominal >= end:
            break
        found.append(tick)
    return found


def _overlap(overlap: str, due: list[datetime], busy: bool, decision: Decision) -> None:
    """Share out what is due: what starts, what waits, what is left out."""
    if not due:
        return
    if overlap == "allow_all":
        decision.starts = due
    elif overlap == "cancel_other":
        decision.starts, decision.cancels = due[-1:], busy
        decision.skip(len(due) - 1, OVERLAP)
    else:
        rest = due
        if not busy:
            decision.starts, rest = due[:1], due[1:]
        most = {"skip": 0, "buffer_one": 1, "buffer_all": MOST_BUFFERED}[overlap]
        decision.buffered = rest[:most]
        decision.skip(len(rest) - most if len(rest) > most else 0, OVERLAP)
