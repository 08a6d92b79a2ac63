"""How many runs have started, completed and failed in each minute, hour or day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from freezegun import freeze_time

from canx_flow.core import clock
from canx_flow.core.identity import first_id_at, moment_of, uuid7
from canx_flow.insight import alike, throughput
from canx_flow.insight.throughput import DAY, HOUR, MINUTE, Throughput
from canx_flow.models import WorkflowRun

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 1, 12, 30, 20, tzinfo=UTC)
MINUTES = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _noon() -> Iterator[None]:
    with freeze_time(NOW):
        yield


def run(started: timedelta, ended: timedelta | None = None, state: str = "completed", **about: Any) -> UUID:
    """A run that started so long ago, and ended."""
    run_id = UUID(int=first_id_at(NOW - started).int + WorkflowRun.objects.count())
    WorkflowRun.objects.create(
        id=run_id, workflow="w", state="sleeping" if ended is None else state, created_at=NOW - started,
        finished_at=None if ended is None else NOW - ended, **about,
    )  # fmt: skip
    return run_id


def read(per: str = MINUTE, most: int = throughput.MOST_RUNS) -> Throughput:
    """What there is now."""
    return throughput.read("default", clock.now(), per, alike.newest("default"), most)


def numbers(found: Throughput) -> list[tuple[int, int | None, int | None]]:
    """Of each span that has any."""
    return [
        (span.started, span.completed, span.failed)
        for span in found.spans
        if span.started or span.completed or span.failed
    ]


def test_each_run_is_counted_where_it_started_and_where_it_ended() -> None:
    """Those of one minute together; what ended before the first span, or has not ended, is not counted as ended."""
    run(5 * MINUTES, 2 * MINUTES)
    run(5 * MINUTES, 2 * MINUTES)
    run(5 * MINUTES, 4 * MINUTES, "failed")
    run(5 * MINUTES, 4 * MINUTES, "cancelled")
    run(3 * MINUTES)
    run(200 * MINUTES, 190 * MINUTES)
    run(200 * MINUTES, 2 * MINUTES)
    found = read()
    assert numbers(found) == [(4, 0, 0), (0, 0, 1), (1, 0, 0), (0, 3, 0)]
    assert found.total == (5, 3, 1)
    assert (found.since, found.failed_since) == (None, None)


def test_a_span_begins_with_its_first_moment_and_has_not_its_last() -> None:
    """The spans lie side by side: each moment is in one of them."""
    run(timedelta(seconds=20), timedelta(seconds=20))
    run(timedelta(seconds=20, milliseconds=1), timedelta(seconds=20, milliseconds=1))
    found = read()
    assert [(span.started, span.completed) for span in found.spans[-2:]] == [(1, 1), (1, 1)]
    assert found.spans[-1].began == datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    assert all(before.until == after.began for before, after in zip(found.spans, found.spans[1:], strict=False))


@pytest.mark.parametrize(("per", "number"), [(MINUTE, 60), (HOUR, 24), (DAY, 30)])
def test_there_is_a_span_for_each(per: str, number: int) -> None:
    """Up to the one that goes on now."""
    spans = read(per).spans
    assert len(spans) == number
    assert spans[-1].began <= NOW < spans[-1].until


def test_days_are_those_of_the_readers_time_zone() -> None:
    """From midnight to midnight there: one that begins summer time has 23 hours. Hours begin at its full hours."""
    with freeze_time(datetime(2026, 3, 30, 12, tzinfo=UTC)), timezone.override("Europe/Berlin"):
        *_, sunday, today = read(DAY).spans
    assert today.began == datetime(2026, 3, 29, 22, tzinfo=UTC)
    assert sunday.until - sunday.began == timedelta(hours=23)
    with timezone.override("Asia/Kolkata"):  # Half an hour off.
        assert read(HOUR).spans[-1].began == datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def test_what_is_not_looked_at_is_not_called_nothing() -> None:
    """Completions are known from the start of the oldest run on that was looked at: before, there is no number."""
    for ago in (50, 40, 30, 20):
        run(ago * MINUTES, (ago - 1) * MINUTES)
    found = read(most=2)
    assert found.since == NOW - 30 * MINUTES
    assert numbers(found) == [(1, None, 0), (1, None, 0), (1, 0, 0), (0, 1, 0), (1, 0, 0), (0, 1, 0)]


def test_failures_are_counted_among_those_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many have started since; up to the number that is looked at."""
    monkeypatch.setattr(alike, "MOST_RUNS", 2)
    for ago in (50, 40, 30):
        run(ago * MINUTES, (ago - 1) * MINUTES, "failed")
    run(MINUTES)
    found = read(most=1)
    assert found.failed_since == NOW - 40 * MINUTES
    assert [span.failed for span in found.spans if span.failed] == [1, 1]
    assert found.spans[0].failed is None


def test_what_has_started_is_counted_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is said."""
    monkeypatch.setitem(throughput.MOST_STARTED, MINUTE, 2)
    run(MINUTES)
    assert not read().is_capped
    run(MINUTES), run(MINUTES)
    found = read()
    assert found.is_capped
    assert found.total[0] == 2


def test_it_takes_two_queries() -> None:
    """Of whatever length the spans are."""
    for per in (MINUTE, HOUR, DAY):
        run(MINUTES, MINUTES)
        failed = alike.newest("default")
        with CaptureQueriesContext(connection) as captured:
            throughput.read("default", clock.now(), per, failed)
        assert len(captured) == 2


@pytest.mark.once
def test_an_id_says_when_it_was_made() -> None:
    """To the millisecond."""
    assert moment_of(uuid7()) == NOW
    assert moment_of(first_id_at(NOW)) == NOW
