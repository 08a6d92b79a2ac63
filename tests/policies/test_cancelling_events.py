"""`using(cancel_on=…)`: the broadcast event cancels the run, at every moment from its start to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction

from canx_flow import send_event
from canx_flow.models import Timer, WorkflowRun
from canx_flow.states import ENDED, Kind
from canx_flow.testing import run_until_idle

from ..waiting import wait_until
from .shared import gated, step, undone, work

pytestmark = pytest.mark.django_db(transaction=True)

ON = ("user.deleted", "42")


def cancelled(run_id: UUID) -> bool:
    """Whether it has ended so, with the event told as the reason."""
    status = work.status(run_id) if WorkflowRun.objects.get(id=run_id).workflow == work.name else undone.status(run_id)
    return (status.state, status.reason) == ("cancelled", "event 'user.deleted' with key '42'")


def _parked(run_id: UUID) -> None:
    WorkflowRun.objects.filter(id=run_id).update(version="of-nobody")
    run_until_idle()


def _idle(_run_id: UUID) -> None:
    run_until_idle()


def _retrying(run_id: UUID) -> None:
    run_until_idle()
    WorkflowRun.objects.filter(id=run_id).update(state="retrying")


POINTS: dict[str, tuple[Any, dict[str, Any], Callable[[UUID], Any]]] = {
    "pending": (1, {}, str),
    "delayed": (1, {"delay": 3600}, _idle),
    "debounced": (1, {"singleton": "a", "debounce": 60}, _idle),
    "sleeping": ("sleep", {}, _idle),
    "waiting": ("wait", {}, _idle),
    "retrying": ("wait", {}, _retrying),
    "paused before": (1, {}, work.pause),
    "paused within": ("wait", {}, lambda run_id: (run_until_idle(), work.pause(run_id))),
    "resumed": ("wait", {}, lambda run_id: (run_until_idle(), work.pause(run_id), work.resume(run_id))),
    "parked": (1, {}, _parked),
}


@pytest.mark.parametrize("point", POINTS)
def test_the_event_cancels_the_run_wherever_it_stands(point: str) -> None:
    """Its row goes with the run's end."""
    what, options, reach = POINTS[point]
    run_id = work.using(cancel_on=ON, **options).start(what)
    reach(run_id)
    send_event("user.deleted", {"id": 42}, key="42")
    run_until_idle()
    assert cancelled(run_id)
    assert not Timer.objects.exists()


def test_the_event_that_is_sent_before_the_first_claim_cancels_it() -> None:
    """There is no gap: the row is stored in the start's own transaction, and any later event finds it."""
    with transaction.atomic():
        run_id = work.using(cancel_on=ON).start(1)
        send_event("user.deleted", key="42")
    run_until_idle()
    assert cancelled(run_id)


@pytest.mark.parametrize(("event", "key"), [("user.deleted", "43"), ("user.deleted", None), ("user.created", "42")])
def test_another_event_or_key_cancels_nothing(event: str, key: str | None) -> None:
    """Both are compared exactly."""
    run_id = work.using(cancel_on=ON).start("wait")
    run_until_idle()
    send_event(event, key=key)
    run_until_idle()
    assert work.status(run_id).state == "waiting"


def test_an_event_without_a_key() -> None:
    """`cancel_on="name"` is an event without one."""
    run_id = work.using(cancel_on="shutdown").start("wait")
    send_event("shutdown", key="1")
    run_until_idle()
    assert work.status(run_id).state == "waiting"
    send_event("shutdown")
    run_until_idle()
    assert work.status(run_id).reason == "event 'shutdown'"


def test_an_event_before_the_start_cancels_nothing() -> None:
    """It counts from the start."""
    send_event("user.deleted", key="42")
    run_id = work.using(cancel_on=ON).start("wait")
    run_until_idle()
    assert work.status(run_id).state == "waiting"


def test_an_event_sent_to_the_run_alone_cancels_nothing() -> None:
    """Only a broadcast does, and a run that is not woken by it is not replayed for it."""
    run_id = work.using(cancel_on="answered").start("wait")
    run_until_idle()
    work.send(run_id, "answered")
    run_until_idle()
    assert work.status(run_id).state == "completed"


def test_what_was_done_is_undone_first(effects: Any) -> None:
    """As with any cancel."""
    effects.release("a")
    run_id = undone.using(cancel_on=ON).start("a")
    run_until_idle()
    send_event("user.deleted", key="42")
    run_until_idle()
    assert cancelled(run_id)
    assert effects.count("at a") == 1


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
def test_after_its_end_nothing_is_left(end: str) -> None:
    """No row, whichever end it is; a retried run is cancelled by its event again."""
    run_id = work.using(cancel_on=ON).start({"failed": "fail", "cancelled": "wait"}.get(end, 1))
    run_until_idle()
    if end == "cancelled":
        work.cancel(run_id)
    assert work.status(run_id).state == end
    assert not Timer.objects.filter(kind=Kind.CANCEL_ON).exists()
    send_event("user.deleted", key="42")
    run_until_idle()
    assert work.status(run_id).state == end
    if end == "failed":
        work.retry(run_id)
        send_event("user.deleted", key="42")
        run_until_idle()
        assert cancelled(run_id)


def test_many_runs_are_cancelled_by_one_event() -> None:
    """Started in bulk, each with its row."""
    ids = work.using(cancel_on=ON).start_many([("wait",)] * 250)
    run_until_idle()
    send_event("user.deleted", key="42")
    run_until_idle()
    assert WorkflowRun.objects.filter(id__in=ids, state="cancelled").count() == 250
    assert not Timer.objects.exists()


def test_a_running_step_ends_and_nothing_starts_after_it(workers: Any, effects: Any) -> None:
    """In real workers, while a step is in flight: its result is stored, and the run is cancelled."""
    run_id = gated.using(cancel_on=ON).start("g")
    for _ in range(2):
        workers.new().start()
    wait_until(lambda: effects.count("at g"), message="the step has not begun")
    send_event("user.deleted", key="42")
    wait_until(lambda: gated.status(run_id).state == "stopping", message="it was not stopped")
    effects.release("g")
    wait_until(lambda: gated.status(run_id).state == "cancelled", message="it has not ended")
    assert effects.count("did g") == 0
    wait_until(lambda: not Timer.objects.exists())


def test_real_workers_cancel_whatever_was_started_at_the_same_time(workers: Any) -> None:
    """Starts and events race: a run that was started before its event is cancelled, or had ended."""
    for _ in range(2):
        workers.new().start()
    ids = []
    for number in range(30):
        ids.append(step.using(cancel_on=("gone", str(number)), delay=0.05 if number % 2 else None).start(str(number)))
        send_event("gone", key=str(number))
    wait_until(
        lambda: not WorkflowRun.objects.filter(id__in=ids).exclude(state__in=ENDED).exists(), message="not all ended"
    )
    delayed = WorkflowRun.objects.filter(id__in=ids[1::2]).values_list("state", flat=True)
    assert set(delayed) <= {"cancelled", "completed"}
    wait_until(lambda: not Timer.objects.exists())


def test_its_moment_is_no_wait() -> None:
    """It is told among the timers, and not as what the run waits for."""
    run_id = work.using(cancel_on=ON, expires=3600).start("sleep")
    assert (work.status(run_id).waits, work.status(run_id).resume_at) == ((), None)
    run_until_idle()
    assert [wait.kind for wait in work.status(run_id).waits] == ["sleep"]
