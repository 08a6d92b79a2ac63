"""Steps that real Celery workers call, by real brokers: results, failures, options, kills, cancels."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from celery import Celery

from canx_flow import get_run
from canx_flow.contrib.celery.tasks import NAME
from canx_flow.models import Delegation, Event
from tests.processes import ROOT, environment, manage
from tests.waiting import wait_until

from . import workflows
from .conftest import Far


def ended(run_id: UUID) -> Any:
    """What the run has returned."""
    wait_until(lambda: get_run(run_id).finished_at is not None, 60)
    status = get_run(run_id)
    assert status.state == "completed", status
    return status.result


def test_any_celery_task_is_called_unchanged(far: Far) -> None:
    """Its result is the step's, its error the attempt's; its request has an id, and its own retries count."""
    far.ours()
    celery = far.celery()
    given = [
        ("double", 4), ("fail", "no route"), ("identity",), ("unstorable",), ("third_time",),
    ]  # fmt: skip
    runs = [workflows.one.start(*args) for args in given]
    assert ended(runs[0]) == 8
    assert ended(runs[1]) == "step 'far' failed after 1 attempt: ConnectionError: no route"
    assert ended(runs[2]) == str(Delegation.objects.get(run_id=runs[2]).token)
    assert "cannot be stored" in ended(runs[3])
    assert ended(runs[4]) == 2
    rows = Delegation.objects.all()
    assert {(row.state, row.executor) for row in rows} == {("ended", "celery")}
    assert all("@test (" in row.worker for row in rows)
    assert "tests.contrib.celery.tasks.double" in {row.task for row in rows}
    assert "Traceback" in celery.said()  # Of the tasks that have failed: Celery's own monitoring sees them.


def test_a_signature_brings_its_arguments_and_its_queue(far: Far) -> None:
    """Only a worker of that queue gets it."""
    far.ours()
    heavy = f"{far.queue}-heavy"
    run_id = workflows.signature.start(heavy)
    far.celery(heavy, pool="solo")
    assert ended(run_id) == 9


def test_a_celery_worker_killed_in_a_task_is_noticed(far: Far, effects: ModuleType) -> None:
    """By its silence; the policy has the task called again, by another worker, and the result counts once."""
    far.ours()
    first = far.celery()
    run_id = workflows.again.start("held", "gate")
    wait_until(lambda: effects.count("at gate") == 1)
    first.kill()
    effects.release("gate")
    far.celery()
    assert ended(run_id) == "gate"
    states = list(Delegation.objects.order_by("attempt").values_list("attempt", "state"))
    assert (states[0], states[-1][1]) == ((1, "given_up"), "ended")
    assert Event.objects.filter(run_id=run_id).count() == 1


def test_a_worker_killed_between_the_commit_and_the_dispatch_loses_nothing(far: Far, effects: ModuleType) -> None:
    """The next one finds the attempt out and not begun, and sends the message with the same token."""
    far.celery()
    worker = far.ours()
    run_id = workflows.dies.start()
    wait_until(lambda: worker.process.poll() is not None)
    far.ours()
    assert ended(run_id) == 8
    first, again = [line for line in effects.read() if line.startswith("dispatch ")]
    assert first == again
    assert Delegation.objects.get(run_id=run_id).again == 1


def test_a_map_keeps_celery_busy_and_its_queue_short(far: Far) -> None:
    """Ten are out at a time; no slot of ours waits for any."""
    far.ours()
    far.celery()
    run_id = workflows.items.start(40)
    assert ended(run_id) == 2 * sum(range(40))
    assert Delegation.objects.filter(state="ended").count() == 40


def test_a_cancel_revokes_what_runs_and_what_has_not_begun(far: Far, effects: ModuleType) -> None:
    """The one is terminated, the other dropped or refused; neither has a result."""
    far.ours()
    celery = far.celery()
    held = [workflows.one.start("held", f"gate {number}") for number in range(2)]
    wait_until(lambda: effects.count("at gate 0") and effects.count("at gate 1"))
    waiting = workflows.one.start("double", 7)
    wait_until(lambda: Delegation.objects.filter(run_id=waiting).exists())
    for run_id in [waiting, *held]:
        done = manage("flow", "cancel", str(run_id), **far.env)
        assert done.returncode == 0, done.stderr
    wait_until(lambda: celery.said().count("Terminating ") >= 2, 60)
    run_id = workflows.one.start("double", 1)
    assert ended(run_id) == 2  # Its pool is alive.
    assert effects.count("double 7") == 0
    assert {row.state for row in Delegation.objects.exclude(run_id=run_id)} == {"given_up"}


def test_a_message_that_is_delivered_twice_calls_the_task_once(far: Far, effects: ModuleType) -> None:
    """By whatever the broker does: here it is sent by hand once more, before and after the first has come."""
    far.ours()
    run_id = workflows.one.start("double", 4)
    wait_until(lambda: Delegation.objects.filter(run_id=run_id).exists())
    token = str(Delegation.objects.get(run_id=run_id).token)
    sender = Celery(broker=far.broker)
    name = "tests.contrib.celery.tasks.double"
    for _ in range(2):
        sender.send_task(NAME, (token, name, [4], {}), task_id=token, queue=far.queue)
    celery = far.celery()
    assert ended(run_id) == 8
    sender.send_task(NAME, (token, name, [4], {}), task_id=token, queue=far.queue)
    wait_until(lambda: celery.said().count(f"[{token}] succeeded") >= 3, 60)
    assert effects.count("double 4") == 1
    assert Event.objects.filter(run_id=run_id).count() == 1


@pytest.mark.parametrize("module", ["canx_flow", "canx_flow.admin", "canx_flow.executors", "canx_flow.worker.loop"])
def test_celery_is_not_imported_unless_it_is_used(module: str) -> None:
    """In a project that has it installed."""
    code = f"import django; django.setup(); import {module}, sys; sys.exit('celery' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), check=False)
    assert done.returncode == 0
