"""`status`: where a run stands, state by state and field by field."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.db import connections, transaction
from freezegun import freeze_time

from canx_flow import (
    Context,
    NotDecodable,
    Retry,
    RunNotFound,
    get_run,
    workflow,
)
from canx_flow.core import clock, registry
from canx_flow.models import Timer, WorkflowRun
from canx_flow.store import claims, leases
from canx_flow.testing import advance, run_until_idle

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def fail() -> None:
    """A step that never succeeds."""
    raise ValueError("no")


@workflow("status.any", retry=Retry(max_attempts=3, initial=60, factor=2, jitter=0))
def anything(ctx: Context, what: str = "") -> Any:
    """Ends at once, or gets stuck where `what` says."""
    match what:
        case "sleep":
            ctx.sleep("nap", HOUR)
        case "wait":
            ctx.wait_for("answer", "answered", key="order-7", timeout=HOUR)
        case "step":
            ctx.step("flaky", fail)
        case "fail":
            raise ValueError("no")
    return {"ended": (what,)}


#: What a run's status says where nothing else is known.
PLAIN: dict[str, Any] = {
    "workflow": "status.any",
    "version": "",
    "reason": "",
    "step": None,
    "resume_at": None,
    "waits": (),
    "attempt": 1,
    "generation": 0,
    "attributes": {},
    "progress": None,
    "result": None,
    "error": None,
    "parent_id": None,
    "created_at": START,
    "started_at": START,
    "finished_at": None,
}


def assert_status(run_id: UUID, **expected: Any) -> None:
    """Every field of the run's status: those given, all others as in PLAIN. `why` is for test_why.py."""
    status = dataclasses.asdict(anything.status(run_id))
    assert status.pop("why")
    assert status == {"id": run_id, **PLAIN, **expected}


def claim(run_id: UUID) -> UUID:
    """Have a live worker claim this one run; the worker's id."""
    worker = leases.register(host="elsewhere", pid=1)
    claimed = claims.claim(connections["default"], worker.id, 1, registry.identities())
    assert [run.id for run in claimed] == [run_id]
    return worker.id


# -- status, state by state ------------------------------------------------------------------------------


@freeze_time(START)
def test_status_of_a_pending_run() -> None:
    """Nobody has claimed it, so it has not started."""
    assert_status(anything.start(), state="pending", started_at=None)


@freeze_time(START)
def test_status_of_a_delayed_start() -> None:
    """It sleeps with no step, until its time."""
    run_id = anything.using(delay=HOUR).start()
    wait = {"step": None, "kind": "start", "event": None, "key": None, "resume_at": START + HOUR}
    assert_status(run_id, state="sleeping", started_at=None, resume_at=START + HOUR, waits=(wait,))


@freeze_time(START)
def test_status_of_a_running_run() -> None:
    """Its step, attempt and progress are what its worker last reported: nothing yet, or the last heartbeat."""
    run_id = anything.start()
    worker = claim(run_id)
    assert_status(run_id, state="running")
    said = {"step": "charge", "attempt": 3, "progress": {"done": 1, "total": 2, "message": "half"}}
    leases.beat(worker, activity=json.dumps({str(run_id): said}))
    assert_status(run_id, state="running", **said)


@freeze_time(START)
def test_status_of_a_sleeping_run() -> None:
    """The step is the sleep, the time its end."""
    run_id = anything.start("sleep")
    run_until_idle()
    wait = {"step": "nap", "kind": "sleep", "event": None, "key": None, "resume_at": START + HOUR}
    assert_status(run_id, state="sleeping", step="nap", resume_at=START + HOUR, waits=(wait,))


@freeze_time(START)
def test_status_of_a_waiting_run() -> None:
    """The step is the wait, with its event and key, and the time is its timeout."""
    run_id = anything.start("wait")
    run_until_idle()
    wait = {"step": "answer", "kind": "wait", "event": "answered", "key": "order-7", "resume_at": START + HOUR}
    assert_status(run_id, state="waiting", step="answer", resume_at=START + HOUR, waits=(wait,))


def test_status_of_a_retrying_run() -> None:
    """The step is the one that failed, the attempt the one to come, the time when it comes."""
    with freeze_time(START):
        run_id = anything.start("step")
        run_until_idle()
        for attempt, seconds in ((2, 60), (3, 60 + 120)):
            moment = START + timedelta(seconds=seconds)
            wait = {"step": "flaky", "kind": "retry", "event": None, "key": None, "resume_at": moment}
            assert_status(run_id, state="retrying", step="flaky", attempt=attempt, resume_at=moment, waits=(wait,))
            advance(moment - clock.now())


@freeze_time(START)
def test_status_of_a_paused_run() -> None:
    """It shows what it was waiting for, and until when."""
    run_id = anything.start("sleep")
    run_until_idle()
    anything.pause(run_id, "wait a minute")
    wait = {"step": "nap", "kind": "sleep", "event": None, "key": None, "resume_at": START + HOUR}
    assert_status(run_id, state="paused", step="nap", resume_at=START + HOUR, waits=(wait,))


@freeze_time(START)
def test_status_of_a_parked_run() -> None:
    """Its reason says what somebody must do."""
    run_id = anything.start()
    WorkflowRun.objects.filter(id=run_id).update(version="gone")
    run_until_idle()
    reason = anything.status(run_id).reason
    assert reason.startswith("UnknownWorkflow")
    assert "'status.any@gone'" in reason
    assert_status(run_id, state="parked", version="gone", reason=reason, started_at=None)


@freeze_time(START)
def test_status_of_a_stopping_run() -> None:
    """Its reason is the one given to cancel, its step what the worker still does."""
    run_id = anything.start()
    worker = claim(run_id)
    leases.beat(worker, activity=json.dumps({str(run_id): {"step": "charge", "attempt": 1, "progress": None}}))
    anything.cancel(run_id, "enough")
    assert_status(run_id, state="stopping", reason="enough", step="charge")


def test_status_of_a_completed_run() -> None:
    """The result is decoded, with its types."""
    with freeze_time(START):
        run_id = anything.start("sleep")
        advance(HOUR)
        assert_status(run_id, state="completed", result={"ended": ("sleep",)}, finished_at=START + HOUR)


def test_status_of_a_failed_run() -> None:
    """The error holds type, message, traceback and time; and the step, where one ended the run."""
    with freeze_time(START):
        run_id = anything.start("fail")
        run_until_idle()
        error = anything.status(run_id).error
        assert error is not None
        assert_status(run_id, state="failed", reason="ValueError", error=error, finished_at=START)
        assert (error["type"], error["message"], error["at"]) == ("builtins.ValueError", "no", START.isoformat())
        assert 'raise ValueError("no")' in error["traceback"]
        assert "step" not in error
        by_step = anything.start("step")
        advance(HOUR)
        error = anything.status(by_step).error
        assert error is not None
        assert (error["type"], error["step"]) == ("canx_flow.exceptions.StepFailed", "flaky")
        assert anything.status(by_step).reason == "StepFailed"


@freeze_time(START)
def test_status_of_a_cancelled_run() -> None:
    """The reason is the one given."""
    run_id = anything.start("sleep")
    run_until_idle()
    anything.cancel(run_id, "no longer needed")
    assert_status(run_id, state="cancelled", reason="no longer needed", finished_at=START)


# -- status, field by field --------------------------------------------------------------------------------


@pytest.mark.once
def test_a_status_is_a_frozen_value() -> None:
    """It is what was true when it was asked for, and cannot be changed."""
    status = anything.status(anything.start())
    run_until_idle()
    assert (status.state, status.ended) == ("pending", False)
    assert anything.status(status.id).ended
    with pytest.raises(dataclasses.FrozenInstanceError):
        status.state = "completed"  # type: ignore[misc]


def test_ids_may_be_text() -> None:
    """Every way to write a UUID finds the run."""
    run_id = anything.start()
    assert {anything.status(text).id for text in (str(run_id), run_id.hex, str(run_id).upper(), run_id)} == {run_id}
    assert get_run(str(run_id)) == anything.status(run_id) == async_to_sync(anything.astatus)(run_id)


def test_waits_are_listed_with_the_one_due_first_at_the_front() -> None:
    """State, step and time are those of the wait due first; waits without a time come last, and a deadline is none."""
    with freeze_time(START):
        run_id = anything.using(timeout=60).start("sleep")
        run_until_idle()
        # What branches will leave, once a run can have them.
        for step, minutes in (("c", 90), ("d", None), ("a", 30), ("b", 45)):
            due_at = None if minutes is None else START + timedelta(minutes=minutes)
            Timer.objects.create(run_id=run_id, step=step, kind="wait", due_at=due_at, event=f"{step}-came")
        status = anything.status(run_id)
    assert [wait.step for wait in status.waits] == ["a", "b", "nap", "c", "d"]
    assert [wait.event for wait in status.waits] == ["a-came", "b-came", None, "c-came", "d-came"]
    assert (status.step, status.resume_at) == ("a", START + timedelta(minutes=30))


def test_attributes_and_progress_are_shown() -> None:
    """What the body published stands on the run with its next commit, over what it was started with."""

    @workflow("status.published")
    def publishing(ctx: Context) -> None:
        ctx.set_attributes(stage="new", count=1)
        ctx.progress(1, 3, "reading")
        ctx.sleep("nap", HOUR)
        ctx.set_attributes(stage="old", tags=["a", {"b": None}])
        ctx.progress(3.0, message="done")

    run_id = publishing.using(attributes={"customer": "ada", "stage": "none"}).start()
    assert publishing.status(run_id).attributes == {"customer": "ada", "stage": "none"}
    run_until_idle()
    status = publishing.status(run_id)
    assert status.attributes == {"customer": "ada", "stage": "new", "count": 1}
    assert status.progress == {"done": 1, "total": 3, "message": "reading"}
    advance(HOUR)
    status = publishing.status(run_id)
    assert status.attributes == {"customer": "ada", "stage": "old", "count": 1, "tags": ["a", {"b": None}]}
    assert status.progress == {"done": 3.0, "total": None, "message": "done"}


def test_a_status_is_shown_even_where_the_results_class_is_gone() -> None:
    """A result that no longer decodes is left out of the status; asking for it says why it cannot be had."""
    run_id = anything.start()
    run_until_idle()
    WorkflowRun.objects.filter(id=run_id).update(result='{"$dataclass":["tests.gone:Class",{"x":1}]}')
    status = anything.status(run_id)
    assert (status.state, status.result) == ("completed", None)
    with pytest.raises(NotDecodable, match=r"tests\.gone"):
        anything.result(run_id)


def test_a_rolled_back_start_leaves_nothing_to_ask_about() -> None:
    """The run existed for its transaction only."""
    with transaction.atomic():
        run_id = anything.start()
        assert anything.status(run_id).state == "pending"
        transaction.set_rollback(True)
    with pytest.raises(RunNotFound):
        anything.status(run_id)
