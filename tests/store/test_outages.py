"""One warning a minute, whoever gives it; and one word when it is over."""

from __future__ import annotations

from datetime import timedelta

import pytest
from freezegun import freeze_time

from canx_flow import logs
from canx_flow.store.outages import OutageLog

logger = logs.logger("tests.outages")


def test_one_warning_a_minute_and_one_end(caplog: pytest.LogCaptureFixture) -> None:
    """The second complaint within a minute is not logged, the next one is; the end is told once."""
    outages = OutageLog()
    with freeze_time("2026-01-01") as frozen:
        outages.end(logger, "back")
        outages.warn(logger, "away: %s", 1)
        frozen.tick(timedelta(seconds=59))
        outages.warn(logger, "away: %s", 2)
        frozen.tick(timedelta(seconds=2))
        outages.warn(logger, "away: %s", 3)
        outages.end(logger, "back")
        outages.end(logger, "back")
    assert [record.getMessage() for record in caplog.records] == ["away: 1", "away: 3", "back"]
