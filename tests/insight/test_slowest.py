"""The steps that take longest, of those that were stored last."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from canx_flow.insight import slowest
from canx_flow.models import StepRecord, WorkflowRun

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def record(run: WorkflowRun, name: str, took: float | None, **about: Any) -> None:
    """A step that took so many seconds."""
    ended = None if took is None else NOW + timedelta(seconds=took)
    known = {"kind": "step", "state": "completed", "seq": 1, **about}
    StepRecord.objects.create(run=run, name=name, started_at=NOW, finished_at=ended, **known)


def test_the_slowest_step_comes_first() -> None:
    """By what nineteen of twenty calls take; its uses and items are one step, of each workflow its own."""
    order, other = WorkflowRun.objects.create(workflow="order"), WorkflowRun.objects.create(workflow="other")
    for number in range(1, 21):
        record(order, f"charge#{number}", number)
    record(other, "charge", 2), record(order, "parcels[3]", 7), record(order, "parcels[4]", 8)
    found = [(slow.workflow, slow.step, slow.calls, slow.p50, slow.p95) for slow in slowest.steps("default", 10)]
    assert found == [
        ("order", "charge", 20, 11.0, 20.0), ("order", "parcels[…]", 2, 8.0, 8.0), ("other", "charge", 1, 2.0, 2.0),
    ]  # fmt: skip
    assert len(slowest.steps("default", 2)) == 2


def test_it_names_the_run_in_which_it_took_longest() -> None:
    """To be looked at."""
    runs: list[WorkflowRun] = [WorkflowRun.objects.create(workflow="order") for _ in range(3)]
    for run, took in zip(runs, (2, 9, 4), strict=True):
        record(run, "charge", took)
    [slow] = slowest.steps("default", 10)
    assert slow.run_id == runs[1].id


def test_what_waits_or_goes_on_is_no_slow_step() -> None:
    """A sleep takes as long as it should; a step that is not over has no time yet. One that failed has."""
    run = WorkflowRun.objects.create(workflow="order")
    (
        record(run, "nap", 900, kind="sleep"),
        record(run, "open", None, state="open"),
        record(run, "bad", 3, state="failed"),
    )
    assert [slow.step for slow in slowest.steps("default", 10)] == ["bad"]


def test_only_the_last_records_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are; in two queries."""
    monkeypatch.setattr(slowest, "MOST_RECORDS", 2)
    run = WorkflowRun.objects.create(workflow="order")
    for name, took in (("old", 99), ("new", 1), ("newer", 2)):
        record(run, name, took)
    with CaptureQueriesContext(connection) as captured:
        assert [slow.step for slow in slowest.steps("default", 10)] == ["newer", "new"]
    assert len(captured) == 2


def test_records_whose_run_is_gone_are_left_out() -> None:
    """Its workflow is not known any more."""
    StepRecord.objects.create(
        run_id=UUID(int=1), name="lost", kind="step", state="completed", seq=1, started_at=NOW, finished_at=NOW
    )
    assert slowest.steps("default", 10) == []
