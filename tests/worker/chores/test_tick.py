"""Ticks in a worker: what a run's end lets begin, and schedules that this worker cannot read."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pytest

from canx_flow.core.clock import now
from canx_flow.core.recurrence import stamp
from canx_flow.core.schedules import Scheduled
from canx_flow.models import Schedule, WorkflowRun
from canx_flow.store import schedules
from canx_flow.worker.turn import Turn
from tests.policies.shared import gated, step
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_tick_that_waits_for_a_run_starts_with_its_end(worker: Any, effects: Any) -> None:
    """Whenever somebody would look at its schedule next."""
    moment = now().replace(microsecond=0)
    first = gated.start("first")
    WorkflowRun.objects.filter(id=first).update(scheduled_for=moment)
    declared = Scheduled.declared("gated", gated, every=timedelta(days=30), args=("second",), overlap="buffer_one")
    schedules.insert("default", declared, Schedule.ADMIN)
    Schedule.objects.update(last_run=first, buffered=json.dumps([stamp(moment)]))
    worker.start("--poll-interval", "120")
    wait_until(lambda: effects.count("at first"), 30, message="the first has not begun")
    effects.release("second")
    effects.release("first")
    wait_until(lambda: gated.runs.filter(state="completed").count() == 2, 30, message="the second was not started")
    assert Schedule.objects.get().buffered == "[]"


def test_a_schedule_that_this_worker_cannot_read_is_told_of_once(turn: Turn, caplog: pytest.LogCaptureFixture) -> None:
    """The turn goes on, and the others tick."""
    declared = Scheduled.declared("step", step, cron="0 * * * *", tz="UTC", args=("a",))
    for name, spec in (("lost", declared.spec.replace('"UTC"', '"Europe/Atlantis"')), ("step", declared.spec)):
        Schedule.objects.create(
            name=name, origin=Schedule.ADMIN, workflow=step.name, arguments=declared.starting.arguments, spec=spec,
            nominal_at=now(), next_at=now(), due_at=now(),
        )  # fmt: skip
    with caplog.at_level(logging.WARNING, "canx_flow.worker"):
        for _ in range(2):
            Schedule.objects.update(due_at=now())
            turn._agenda.schedule.learn(now())
            turn._tick()
    assert [run.key.partition("@")[0] for run in WorkflowRun.objects.all() if run.key] == ["step"]
    said = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert said == ["Schedule 'lost' does not tick here"]
