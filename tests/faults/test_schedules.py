"""Schedules of a second among workers that are killed at random: every tick once.

TICKING_WORKERS, EACH_SECOND and TICKING_SECONDS say how many workers and schedules, and for how long; the suite takes
few, for some seconds.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from canx_flow.core import clock
from canx_flow.models import Schedule, WorkflowRun
from tests.processes import Workers
from tests.waiting import wait_until

WORKERS = int(os.environ.get("TICKING_WORKERS", "3"))
SCHEDULES = int(os.environ.get("EACH_SECOND", "20"))
SECONDS = int(os.environ.get("TICKING_SECONDS", "8"))
A_SECOND = timedelta(seconds=1)


def _moments() -> dict[str, list[datetime]]:
    found: dict[str, list[datetime]] = defaultdict(list)
    runs = WorkflowRun.objects.filter(workflow="tests.ticked").order_by("scheduled_for")
    for key, moment in runs.values_list("key", "scheduled_for"):
        assert key is not None
        assert moment is not None
        found[key.partition("@")[0]].append(moment)
    return found


def test_c119_every_tick_starts_one_run_whatever_workers_die(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first moment to the last, each schedule has one run for each second."""
    monkeypatch.setenv("EACH_SECOND", str(SCHEDULES))
    monkey = random.Random(119)
    alive = workers.start_many(WORKERS, "--concurrency", "8")
    wait_until(lambda: Schedule.objects.filter(last_at__isnull=False).count() == SCHEDULES, 60)
    begin = clock.now()
    for second in range(1, SECONDS + 1):
        until = begin + second * A_SECOND
        wait_until(lambda until=until: clock.now() >= until, 60)
        if second % 2:
            alive.pop(monkey.randrange(len(alive))).kill()
            alive.append(workers.start("--concurrency", "8", banner=False))
    end = clock.now().replace(microsecond=0)
    rows = Schedule.objects.all()
    wait_until(lambda: rows.filter(last_at__gte=end).count() == SCHEDULES, 60)
    for worker in alive:
        worker.end()
    moments = _moments()
    assert len(moments) == SCHEDULES
    for name, found in moments.items():
        assert found[-1] >= end, name
        assert all(later - earlier == A_SECOND for earlier, later in pairwise(found)), name
    runs = WorkflowRun.objects.filter(workflow="tests.ticked", created_at__gte=begin)
    lags = sorted((run.created_at - run.scheduled_for).total_seconds() for run in runs if run.scheduled_for)
    print(f"{len(lags)} ticks, lag p50 {lags[len(lags) // 2]:.3f} s, p99 {lags[len(lags) * 99 // 100]:.3f} s")
