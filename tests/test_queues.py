"""Queues with limits, as projects use them: declared, changed and paused while workers run."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest

from canx_flow import queues, workflow
from canx_flow.models import PausedWorkflow, Queue, WorkflowRun
from canx_flow.testing import advance, run_until_idle
from tests.processes import Workers
from tests.waiting import wait_until
from tests.workflows import one_brief


def peak(lines: Iterable[str]) -> int:
    """How many briefs were under way at once, at most."""
    now = most = 0
    for line in lines:
        now += {"begin": 1, "end": -1}.get(line.split()[0], 0)
        most = max(most, now)
    return most


def _begin(runs: int, seconds: float = 0.02, **options: Any) -> None:
    for number in range(runs):
        one_brief.using(**{"queue": "mail", **options}).start(f"r{number}", seconds)


def _all_done(runs: int) -> bool:
    return WorkflowRun.objects.filter(state="completed").count() == runs


@pytest.fixture
def declared(settings: Any) -> dict[str, Any]:
    """The limits of queue `mail` in the settings."""
    options: dict[str, Any] = {}
    settings.CANX_FLOW = {**settings.CANX_FLOW, "QUEUES": {"mail": options}}
    return options


def test_a_declared_limit_holds_over_workers_and_slots_are_not_left_idle(
    declared: dict[str, Any], workers: Workers, effects: ModuleType
) -> None:
    """Never more than three at once, and three are: each that ends is followed by the next, without a poll."""
    declared["concurrency"] = 3
    workers.start_many(2, "--concurrency", "4", "--poll-interval", "5")
    _begin(60)
    wait_until(lambda: _all_done(60), 60)
    assert peak(effects.read()) == 3


def test_c117_a_running_worker_heeds_a_limit_that_is_changed(workers: Workers, effects: ModuleType) -> None:
    """Up, down, and taken back; no worker is started anew."""
    queues.limits("mail", concurrency=1)
    workers.start("--concurrency", "6")
    _begin(10)
    wait_until(lambda: _all_done(10), 60)
    assert peak(effects.read()) == 1
    assert queues.limits("mail", concurrency=4).concurrency == 4
    before = len(effects.read())
    _begin(24, 0.1)
    wait_until(lambda: _all_done(34), 60)
    assert peak(effects.read()[before:]) == 4


def test_a_queue_is_paused_and_resumed_while_workers_run(workers: Workers, effects: ModuleType) -> None:
    """Nothing is claimed meanwhile but from others; all of it afterwards."""
    queues.pause("mail", "the provider is down", by="ada")
    workers.start("--concurrency", "4")
    _begin(5)
    _begin(3, queue="plain")
    wait_until(lambda: _all_done(3))
    assert WorkflowRun.objects.filter(queue="mail", state="pending").count() == 5
    assert queues.resume("mail")
    wait_until(lambda: _all_done(8))


def test_a_workflow_is_paused_and_resumed(workers: Workers, effects: ModuleType) -> None:
    """In whatever queue its runs are."""
    queues.pause_workflow(one_brief.name, "a bad release")
    workers.start("--concurrency", "4")
    _begin(2)
    _begin(2, queue="plain")
    wait_until(lambda: not WorkflowRun.objects.exclude(state="pending").exists())
    assert queues.resume_workflow(one_brief.name)
    assert not queues.resume_workflow(one_brief.name)
    wait_until(lambda: _all_done(4))


@pytest.mark.django_db
def test_a_pause_takes_who_paused_it_behind_the_reason() -> None:
    """As the contract writes it: of a queue, and of a workflow."""
    assert queues.pause("mail", "the provider is down", "ada")
    assert queues.pause_workflow(one_brief.name, "a bad release", "ada")
    assert {Queue.objects.get().paused_by, PausedWorkflow.objects.get().by} == {"ada"}


def test_c113_a_tenant_with_one_run_waits_for_one_round_not_for_a_backlog(
    declared: dict[str, Any], workers: Workers, effects: ModuleType
) -> None:
    """Its run is done while most of the other's are still ready."""
    declared |= {"partition_concurrency": 2}
    _begin(300, partition="big")
    workers.start("--concurrency", "4")
    wait_until(lambda: WorkflowRun.objects.filter(state="completed").count() > 5)
    small = one_brief.using(queue="mail", partition="small").start("small", 0.02)
    one_brief.result(small, 30)
    assert WorkflowRun.objects.filter(partition="big", ready=True).count() > 150


@pytest.mark.django_db
def test_a_rate_holds_while_the_clock_is_moved(declared: dict[str, Any]) -> None:
    """Under the inline driver, by its clock: two a minute, and all of them in the end."""

    @workflow("tests.rated", queue="mail")
    def rated(ctx: Any) -> None:
        ctx.step("work", int)

    declared["rate"] = "2/m"
    for _ in range(6):
        rated.start()
    done = WorkflowRun.objects.filter(state="completed")
    run_until_idle()
    assert done.count() == 2
    advance(30)
    assert done.count() == 2
    advance(timedelta(minutes=1))
    assert done.count() == 4
    advance(timedelta(minutes=10))
    assert done.count() == 6


@pytest.mark.django_db
def test_a_partition_is_kept_by_whatever_follows_from_a_run() -> None:
    """A rerun and a fork have it; a child has its own, as with queues."""

    @workflow("tests.child_of_tenant")
    def child(ctx: Any) -> None:
        ctx.step("work", int)

    @workflow("tests.tenant")
    def parent(ctx: Any) -> None:
        ctx.step("work", int)
        ctx.call("child", child)
        ctx.call("own", child.using(partition="theirs"))

    run = parent.using(partition="tenant-7").start()
    run_until_idle()
    again, forked = parent.rerun(run), parent.fork(run, "work")
    found = dict(WorkflowRun.objects.values_list("id", "partition"))
    assert found[run] == found[again] == found[forked] == "tenant-7"
    of_children = WorkflowRun.objects.filter(parent_id=run).order_by("id").values_list("partition", flat=True)
    assert list(of_children) == [None, "theirs"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"concurrency": 0}, ValueError, "concurrency must be between 1 and 1,000,000, not 0"),
        ({"concurrency": True}, TypeError, "concurrency must be an int or None, not bool"),
        ({"per_worker": "2"}, TypeError, "per_worker must be an int or None, not str"),
        ({"rate": 5}, TypeError, "rate must be a text such as '100/m', not int"),
        ({"rate": "0/m"}, ValueError, "rate must be like '100/m'"),
        ({"partition_rate": "5/x"}, ValueError, "partition_rate must be like '100/m'"),
        ({"partition_concurrency": -1}, ValueError, "partition_concurrency must be between"),
        ({"aging": 1.5}, ValueError, "aging must be between 0 and 1, not 1.5"),
        ({"agin": 0.5}, TypeError, "a queue has no option 'agin'"),
    ],
)
def test_a_bad_option_is_refused_by_name(options: dict[str, Any], error: type[Exception], said: str) -> None:
    """At the call; nothing is written."""
    with pytest.raises(error, match=said):
        queues.limits("mail", **options)
    assert not Queue.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(("partition", "error"), [("", ValueError), (7, TypeError), ("x" * 256, ValueError)])
def test_a_bad_partition_is_refused_by_name(partition: Any, error: type[Exception]) -> None:
    """At the start; no run is left."""
    with pytest.raises(error, match="partition"):
        one_brief.using(partition=partition).start("x", 0.0)
    assert not WorkflowRun.objects.exists()
