"""One warning a minute, whoever gives it; and one word when it is over."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import OperationalError
from freezegun import freeze_time

from canx_flow.observe import facts
from canx_flow.worker.outages import OutageLog

from ..waiting import wait_until


def _away(number: int) -> facts.Outage:
    return facts.TurnMetOutage(OperationalError(f"away: {number}"))


def test_one_warning_a_minute_and_one_end(caplog: pytest.LogCaptureFixture) -> None:
    """The second complaint within a minute is not logged, the next one is; the end is told once."""
    outages = OutageLog()
    with freeze_time("2026-01-01") as frozen:
        outages.end("committer")
        outages.warn(_away(1))
        frozen.tick(timedelta(seconds=59))
        outages.warn(_away(2))
        frozen.tick(timedelta(seconds=2))
        outages.warn(_away(3))
        outages.end("committer")
        outages.end("committer")
    assert [record.getMessage() for record in caplog.records] == [
        "The database is away (away: 1); the worker tries again",
        "The database is away (away: 3); the worker tries again",
        "The committer of this worker reaches the database again",
    ]


def test_the_first_answer_ends_every_wait() -> None:
    """Whoever has it: the others need not sit out their backoff, and hooks are called."""
    outages = OutageLog()
    back: list[bool] = []
    outages.on_back.append(lambda: back.append(True))
    waited: list[bool] = []
    threads = [threading.Thread(target=lambda: waited.append(outages.wait(60))) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(outages._back._waiters) == 3)  # type: ignore[attr-defined]
    outages.end("committer")
    for thread in threads:
        thread.join(10)
    assert (waited, back) == ([True] * 3, [True])
    assert not outages.wait(0.01)
