"""A body that meets a database that is away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError
from freezegun import freeze_time

from canx_flow import Context, workflow
from canx_flow.models import StepRecord
from canx_flow.testing import advance, run_until_idle

from .shared import SOON, START

pytestmark = pytest.mark.django_db


@pytest.mark.once
def test_an_operational_error_in_the_body_is_an_outage(calls: list[int]) -> None:
    """Leaving the body, it hands the run back for a while that grows, and is no failure of the run."""

    @workflow("steps.outage")
    def flow(ctx: Context) -> str:
        calls.append(1)
        if len(calls) < 4:
            raise OperationalError("server closed the connection unexpectedly")
        return "done"

    waits: list[float] = []
    with freeze_time(START) as frozen:
        run_id = flow.start()
        for _ in range(3):
            run_until_idle()
            status = flow.status(run_id)
            assert (status.state, status.error) == ("retrying", None)
            assert status.resume_at is not None
            waits.append((status.resume_at - datetime.now(UTC)).total_seconds())
            frozen.tick(timedelta(seconds=waits[-1]))
        run_until_idle()
    assert flow.result(run_id) == "done"
    assert waits == sorted(waits)
    assert waits[0] > 0


@pytest.mark.once
def test_an_outage_without_end_fails_the_run(calls: list[int], settings: Any) -> None:
    """After MAX_RECOVERIES hand-backs in a row without a new record, the database being there, the run fails."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "MAX_RECOVERIES": 3}

    @workflow("steps.outage-ends")
    def flow(ctx: Context) -> None:
        ctx.step("work", lambda: None)
        calls.append(1)
        raise OperationalError("no such table")

    run_id = flow.start()
    advance(timedelta(days=1))
    status = flow.status(run_id)
    assert (status.state, status.reason) == ("failed", "OperationalError")
    assert len(calls) == 4


@pytest.mark.once
def test_an_operational_error_in_a_step_is_the_step_s() -> None:
    """In a step it is an exception like any other: a failed attempt, retried by the policy."""
    errors = [OperationalError("gone")]

    def work() -> str:
        if errors:
            raise errors.pop()
        return "done"

    @workflow("steps.outage-step")
    def flow(ctx: Context) -> str:
        return ctx.step("work", work, retry=SOON)

    run_id = flow.start()
    advance(60)
    assert flow.result(run_id) == "done"
    assert StepRecord.objects.get(run_id=run_id).attempts == 2
