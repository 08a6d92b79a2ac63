"""`using(expires=…)`: a run that has not started by then is cancelled, whoever did not start it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connections

from canx_flow import Context, RunCancelled, workflow
from canx_flow.core import clock, registry
from canx_flow.models import Timer, WorkflowRun
from canx_flow.replay import executor
from canx_flow.signals import run_cancelled
from canx_flow.states import Kind
from canx_flow.store import claims, leases, timers
from canx_flow.testing import advance, run_until_idle
from canx_flow.testing.port import InlinePort

from .shared import step, work

pytestmark = pytest.mark.django_db(transaction=True)

SOON = work.using(expires=timedelta(minutes=10))


def test_a_run_that_has_not_started_in_its_time_is_cancelled() -> None:
    """With the reason `Expired`; receivers are told, and who waits for its result is."""
    told: list[Any] = []
    run_cancelled.connect(receiver := lambda **kwargs: told.append(kwargs["run_id"]))
    run_id = SOON.using(run_at=clock.now() + timedelta(minutes=9)).start()
    work.pause(run_id)
    advance(11 * 60)
    assert work.status(run_id).state == "paused"  # Timers that fall due while it is paused act when it goes on.
    work.resume(run_id)
    run_until_idle()
    run_cancelled.disconnect(receiver)
    status = work.status(run_id)
    assert (status.state, status.reason, status.started_at) == ("cancelled", "Expired", None)
    assert told == [run_id]
    with pytest.raises(RunCancelled, match="Expired"):
        work.result(run_id)
    assert "Expired" in status.why


def test_one_that_no_worker_has_claimed_expires() -> None:
    """It was due, and nobody came."""
    unserved = WorkflowRun.objects.get(id=SOON.start())
    WorkflowRun.objects.filter(id=unserved.id).update(version="unknown", state="pending", ready=True)
    Timer.objects.update(due_at=clock.now() - timedelta(seconds=1))
    assert timers.fire("default").cancelled == [unserved.id]
    assert work.status(unserved.id).reason == "Expired"


def test_one_that_has_started_in_time_goes_on() -> None:
    """However long it takes: it is no deadline."""
    run_id = SOON.start("wait")
    run_until_idle()
    advance(timedelta(days=1))
    assert work.status(run_id).state == "waiting"
    assert not Timer.objects.filter(kind=Kind.EXPIRE).exists()
    work.send(run_id, "answered")
    run_until_idle()
    assert work.status(run_id).state == "completed"


def test_one_that_ends_in_time_leaves_no_timer() -> None:
    """They go with the end."""
    SOON.start_many([(1,), (2,)])
    assert Timer.objects.count() == 2
    run_until_idle()
    assert WorkflowRun.objects.filter(state="completed").count() == 2
    assert not Timer.objects.exists()


def test_one_that_is_claimed_too_late_is_not_called() -> None:
    """A claim may come before its timer is fired, and the body is not called for all that."""
    run_id = step.using(expires=60).start("never")
    WorkflowRun.objects.update(
        policies=WorkflowRun.objects.get().policies.replace('expires_at": "2', 'expires_at": "1')
    )
    owner = leases.register(host="here", pid=1, workflows=registry.identities()).id
    [run] = claims.claim(connections["default"], owner, 1, registry.identities())
    assert executor.run_sync(run, step, InlinePort("default", owner)) == "cancelled"
    status = step.status(run_id)
    assert (status.state, status.reason, status.started_at) == ("cancelled", "Expired", None)
    assert not Timer.objects.exists()


def test_a_debounced_run_expires_by_the_last_call() -> None:
    """Each start that moves it sets its time anew, or takes it back."""
    quiet = work.using(singleton="a", debounce=60, expires=100)
    run_id = quiet.start(1)
    for _ in range(4):
        advance(50)
        assert quiet.start(2) == run_id
    advance(60)
    assert work.status(run_id).state == "completed"
    other = quiet.start(1)
    work.using(singleton="a", debounce=60).start(2)
    assert not Timer.objects.filter(run_id=other, kind=Kind.EXPIRE).exists()


@workflow("policies.parent")
def parent(ctx: Context) -> str:
    """Calls a child that must have started within a minute."""
    try:
        return str(ctx.call("child", work.using(expires=60, queue="of-nobody", delay=30), 7))
    except RunCancelled as error:
        return error.reason


def test_a_child_expires_and_its_parent_is_told() -> None:
    """By the exception that any cancelled child raises."""
    run_id = parent.start()
    run_until_idle()
    child = WorkflowRun.objects.get(parent_id=run_id)
    work.pause(child.id)
    advance(61)
    work.resume(child.id)
    run_until_idle()
    assert parent.status(run_id).result == "Expired"
