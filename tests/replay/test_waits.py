"""Waits whose events are there already: what one costs does not grow with how many there were."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from canx_flow import Context, client, send_event, workflow
from canx_flow.testing import run_until_idle

pytestmark = pytest.mark.django_db


@workflow("waits.reads")
def reads(ctx: Context, times: int) -> list[int]:
    """Read so many events of one name."""
    return [ctx.wait_for("news", "news") for _ in range(times)]


@pytest.mark.parametrize("broadcast", [False, True])
def test_no_wait_asks_more_than_the_one_before(broadcast: bool) -> None:
    """A run that has read many events names none of them when it looks for the next one."""
    asked: list[tuple[float, int]] = []
    for times in (5, 10, 15):
        run_id = reads.start(times)
        for number in range(times):
            send_event("news", number) if broadcast else client.send(run_id, "news", number)
        with CaptureQueriesContext(connection) as queries:
            run_until_idle()
        assert client.result(run_id) == list(range(times))
        looks = [sql for query in queries if (sql := query["sql"]).startswith("SELECT") and "payload" in sql]
        asked.append((len(looks) / times, max(map(len, looks))))
    (each, longest), *others = asked
    # The first activation of a process may look at more than that: it is the growth that counts.
    assert all(more <= each + 0.2 and text <= longest + 10 for more, text in others), asked
