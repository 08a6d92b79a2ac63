"""W21: how late the ticks of 200 schedules of a second are, and what 1,000 schedules cost while none of them ticks.

A tick is late by the time from its moment until its run was made, one transaction for many, and its run begins when a
slot has claimed it. The idle CPU, with 50 queues that have limits besides, is told beside that of a worker without.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from django.utils import timezone

from canx_flow import queues
from canx_flow.models import Schedule, WorkflowRun

from ..waiting import wait_until
from . import latency
from .book import Book
from .crowded import idle_ms_per_s
from .measure import percentile
from .peers import Peer
from .places import Place
from .workers import Worker, working
from .workload import Workload

EACH_SECOND, RARE, LIMITED = 200, 1_000, 50
_YEARS = 3650 * 86_400.0  # seconds between two ticks of a rare one
_WARM_UP = 5
#: Seconds until all has settled.
_SETTLE = 5.0
_PATIENCE = 120.0


def measure(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    """Lags in each repetition; the idle CPU once, as in W6."""
    small = not book.options.seconds
    each_second, rare, limited, settle = (5, 10, 5, 0.2) if small else (EACH_SECOND, RARE, LIMITED, _SETTLE)
    for _ in range(book.options.repeat):
        row = _lags(place, each_second, max(2.0, 2 * book.options.seconds))
        book.add("w21", place.name, f"{each_second:,} schedules of a second", row)
    without = _idle(place, 0, 0, settle, book.options.idle_seconds)
    idle = _idle(place, rare, limited, settle, book.options.idle_seconds)
    row = {"idle_ms_per_s": idle, "without_ms_per_s": without, "more_ms_per_s": idle - without}
    book.add("w21", place.name, f"{rare:,} schedules and {limited} limited queues, idle", row)


def _lags(place: Place, schedules: int, seconds: float) -> dict[str, float]:
    """Of the whole seconds of this time, from the first that each of them has had on."""
    place.fresh()
    with _declaring(place, schedules, 1.0):
        wait_until(lambda: Schedule.objects.filter(last_at__isnull=False).count() == schedules, _PATIENCE)
        begin = timezone.now()
        time.sleep(seconds)
        end = timezone.now().replace(microsecond=0)
        wait_until(lambda: Schedule.objects.filter(last_at__gte=end).count() == schedules, _PATIENCE)
        found = WorkflowRun.objects.filter(scheduled_for__gt=begin, scheduled_for__lte=end)
        wait_until(lambda: not found.exclude(state="completed").exists(), _PATIENCE)
    moments = list(found.values_list("scheduled_for", "created_at", "started_at"))
    late = [_between(moment, made) for moment, made, _ in moments]
    begun = [_between(moment, started) for moment, _, started in moments]
    whole = (end - begin.replace(microsecond=0)) // timedelta(seconds=1)
    return {
        "p50_ms": percentile(late, 50) * 1000, "p99_ms": percentile(late, 99) * 1000, "most_ms": max(late) * 1000,
        "begun_p50_ms": percentile(begun, 50) * 1000, "begun_p99_ms": percentile(begun, 99) * 1000,
        "early": sum(lag < 0 for lag in late), "missing": whole * schedules - len(moments), "ticks": len(moments),
    }  # fmt: skip


def _between(moment: datetime | None, later: datetime | None) -> float:
    assert moment is not None
    assert later is not None
    return (later - moment).total_seconds()


def _idle(place: Place, schedules: int, limited: int, settle: float, seconds: float) -> float:
    """CPU ms/s of the worker and the database, while nothing is to do."""
    place.fresh()
    for number in range(limited):
        queues.limits(f"queue-{number}", concurrency=10)
    with _declaring(place, schedules, _YEARS) as worker:
        wait_until(lambda: Schedule.objects.count() == schedules, _PATIENCE)
        latency.latencies(_WARM_UP)
        time.sleep(settle)
        return sum(idle_ms_per_s(place, worker, seconds))


def _declaring(place: Place, schedules: int, seconds: float) -> AbstractContextManager[Worker]:
    """A worker that declares so many schedules, with so many seconds between the ticks of each."""
    return working(place, BENCH_SCHEDULES=str(schedules), BENCH_EVERY=str(seconds))


COLUMNS = {
    "p50_ms": "p50 ms late",
    "p99_ms": "p99 ms late",
    "most_ms": "most ms late",
    "begun_p50_ms": "until begun p50 ms",
    "begun_p99_ms": "p99 ms",
    "early": "early",
    "missing": "missing",
    "ticks": "ticks",
    "more_ms_per_s": "idle CPU ms/s more",
    "idle_ms_per_s": "idle CPU ms/s",
    "without_ms_per_s": "without",
}
WORKLOAD = Workload("w21", f"{EACH_SECOND} schedules of a second; {RARE:,} that do not tick", measure, COLUMNS)
