"""Ticks beside transactions that stay open: a worker's turn, and every other schedule, waits for none of them (P13)."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.db import transaction

from canx_flow import Context, workflow
from canx_flow.core import clock
from canx_flow.core.schedules import Scheduled
from canx_flow.models import Schedule, Timer, WorkflowRun
from canx_flow.store import schedules, ticks
from canx_flow.testing import run_until_idle

from ..elsewhere import elsewhere
from ..policies.shared import step, work

pytestmark = pytest.mark.django_db(transaction=True)


@workflow("ticks.parent")
def parent(ctx: Context) -> None:
    """Wait for a child that waits."""
    ctx.call("child", work, "wait")


@pytest.fixture(autouse=True)
def _row_locks(tier: str) -> None:
    if tier == "sqlite":
        pytest.skip("an open write transaction stops all writers of a SQLite file")


@pytest.fixture
def last() -> UUID:
    """The last run of the schedule "a", which is at work; "a" cancels it with its next tick, and "b" is due with it."""
    run_id = parent.start()
    run_until_idle()
    a = Scheduled.declared("a", parent, every=timedelta(days=1), overlap="cancel_other")
    b = Scheduled.declared("b", step, every=timedelta(days=1), args=("b",))
    for declared in (a, b):
        schedules.insert("default", declared, Schedule.ADMIN)
    now = clock.now()
    Schedule.objects.update(nominal_at=now, next_at=now, due_at=now)
    Schedule.objects.filter(name="a").update(last_run=run_id)
    return run_id


def _tick() -> list[str]:
    """The workflows of which a tick starts runs; it does not wait for this thread's transaction."""
    ticked = elsewhere(lambda: ticks.tick("default")).result(5)
    return sorted(run.workflow for run in ticked.started)


def _is_due() -> None:
    Schedule.objects.filter(name="a").update(due_at=clock.now())


def test_p13_a_tick_waits_for_nobody_who_has_locked_the_run_that_it_cancels(last: UUID) -> None:
    """The other schedules tick; its own a moment later, again and again, until the run is free."""
    with transaction.atomic():
        assert parent.pause(last)
        assert _tick() == ["policies.step"]
        row = Schedule.objects.get(name="a")
        assert row.due_at is not None
        assert row.due_at - clock.now() <= ticks.LOCKED_PAUSE
        elsewhere(_is_due).result(5)
        assert _tick() == []
    assert WorkflowRun.objects.get(id=last).state == "paused"
    _is_due()
    assert _tick() == ["ticks.parent"]
    assert parent.status(last).state == "cancelled"
    assert "cancel_other" in parent.status(last).reason
    row.refresh_from_db()
    assert row.last_run_id == WorkflowRun.objects.filter(workflow="ticks.parent").latest("id").id
    assert row.skipped == 0


def test_p13_a_tick_waits_for_nobody_who_has_locked_a_child_of_the_run_that_it_cancels(last: UUID) -> None:
    """The run is cancelled, and the next one started; the child is cancelled once it is free."""
    child = WorkflowRun.objects.get(parent=last).id
    with transaction.atomic():
        assert work.pause(child)
        assert _tick() == ["policies.step", "ticks.parent"]
    assert parent.status(last).state == "cancelled"
    assert work.status(child).state == "paused"
    run_until_idle()
    assert work.status(child).state == "cancelled"
    assert not Timer.objects.filter(run_id__in=(last, child)).exists()


def test_a_child_that_nobody_has_locked_is_cancelled_with_the_run(last: UUID) -> None:
    """At once, and for the same reason."""
    child = WorkflowRun.objects.get(parent=last).id
    assert _tick() == ["policies.step", "ticks.parent"]
    assert work.status(child).state == "cancelled"
    assert "cancel_other" in work.status(child).reason
