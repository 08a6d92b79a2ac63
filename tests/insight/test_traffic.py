"""What sleeps or waits in each queue, and what has ended there within the last minute."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from freezegun import freeze_time

from canx_flow.core import clock
from canx_flow.core.identity import uuid7
from canx_flow.insight import traffic
from canx_flow.insight.traffic import Traffic
from canx_flow.models import WorkflowRun
from canx_flow.states import ALL, ENDED

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def noon() -> Iterator[Any]:
    """The clock of these tests, which stands until it is moved."""
    with freeze_time(START) as clock:
        yield clock


def made(queue: str, *states: str) -> None:
    """A run there in each of these states, which has just come to it."""
    for state in states:
        ended = clock.now() if state in ENDED else None
        WorkflowRun.objects.create(id=uuid7(), queue=queue, state=state, ready=False, finished_at=ended)


def read() -> Traffic:
    """What there is now."""
    return traffic.read("default", clock.now())


def test_what_sleeps_waits_or_retries_is_counted_by_queue() -> None:
    """Of all states these alone, and in no queue but theirs."""
    made("mail", *ALL, "sleeping")
    made("slow", "waiting", "completed")
    found = read()
    assert found.suspended == {"mail": 4, "slow": 1}
    assert not found.is_capped


def test_what_has_ended_within_the_last_minute_is_counted(noon: Any) -> None:
    """Be it completed, cancelled or failed, of which the last is told apart."""
    made("mail", "completed", "failed")
    noon.tick(59)
    made("mail", *ALL)
    found = read()
    assert (found.ended, found.failed) == ({"mail": 5}, {"mail": 2})
    noon.tick(2)
    assert (read().ended, read().failed) == ({"mail": 3}, {"mail": 1})
    assert read().since is None


def test_of_each_state_the_newest_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to a limit, which is said as soon as one of them reaches it."""
    monkeypatch.setattr(traffic, "MOST_SUSPENDED", 2)
    made("old", "sleeping", "waiting")
    assert not read().is_capped
    made("mail", "sleeping", "sleeping")
    found = read()
    assert found.suspended == {"mail": 2, "old": 1}
    assert found.is_capped


def test_ends_are_counted_among_the_runs_that_were_started_last(monkeypatch: pytest.MonkeyPatch, noon: Any) -> None:
    """It is said since when these were started, and whether that is less than the minute ago."""
    monkeypatch.setattr(traffic, "MOST_STARTED", 2)
    made("mail", *["completed"] * 3)
    found = read()
    assert (found.ended, found.since, found.is_short) == ({"mail": 2}, START, True)
    noon.tick(timedelta(minutes=2))
    assert (read().ended, read().is_short) == ({}, False)


def test_three_queries_do() -> None:
    """However many queues and runs there are."""
    for queues in ("", "abcdefg"):
        for queue in queues:
            made(queue, *ALL)
        with CaptureQueriesContext(connection) as captured:
            read()
        assert len(captured) == 3
