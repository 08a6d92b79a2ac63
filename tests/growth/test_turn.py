"""A worker's turn: polls, claims and looks for due timers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connections
from django.db.models import Q

from canx_flow.core import clock
from canx_flow.core.identity import uuid7
from canx_flow.core.options import checked_note
from canx_flow.models import Schedule, Worker, WorkflowRun
from canx_flow.store import claims, leases, parking, poll, queues, schedules, ticks, timers
from canx_flow.store.db.databases import session_of
from canx_flow.store.queue_claims import QueueClaims

from .work import LITTLE, measured

KNOWN = [("order", "")]


def _insert_backlog(kind: WorkflowRun) -> None:
    # PostgreSQL chooses by what it has last heard of the table: a multiple of that, within a transaction, would be
    # sorted, and what is left of it when that is rolled back has other tests' statements chosen by chance.
    runs = 3_000 if connections["default"].vendor == "postgresql" else 20_000
    session_of(connections["default"]).insert_runs(kind, [uuid7() for _ in range(runs)], ["[[],{}]"] * runs)


@pytest.mark.parametrize("queues", [(), ("a0",)])
def test_a_poll_reads_little(queues: tuple[str, ...]) -> None:
    """Beside sleeping, ended and ready runs, and delivered events, an idle worker's poll is a few look-ups."""
    with measured() as work:
        found = poll.ask(connections["default"], queues)
    assert (found.ready, found.undelivered) == (True, False)
    work.assert_little()


def test_a_look_for_due_timers_reads_little(statistics: str, tier: str) -> None:
    """Beside sleepers that are not due."""
    if (statistics, tier) == ("fresh", "postgresql"):
        pytest.skip("without statistics it takes a third for due, and sorts them, in a table of this size")
    with measured() as work:
        assert timers.fire("default").seen == 0
    work.assert_little()


@pytest.mark.parametrize("queues", [(), ("a6",), ("a0", "a3", "none"), ("none",)])
def test_a_claim_reads_little(queues: tuple[str, ...]) -> None:
    """It reads hardly more ready runs than it takes, from any queues, the last in the alphabet or one that has none."""
    owner = Worker.objects.create(id=uuid4())
    with measured() as work:
        runs = claims.claim(connections["default"], owner.id, 2, KNOWN, queues)
    assert len(runs) == (queues != ("none",)) * 2
    work.assert_little(6 * LITTLE)


@pytest.mark.parametrize("queues", [(), ("a0", "a3")])
def test_a_claim_reads_little_of_what_the_worker_does_not_know(queues: tuple[str, ...]) -> None:
    """However many of the ready runs are of other workflows. MariaDB looks up the queue of each that it reads, too."""
    owner = Worker.objects.create(id=uuid4())
    with measured() as work:
        assert claims.claim(connections["default"], owner.id, 16, [("rare", ""), ("other", "2")], queues) == []
    work.assert_little(9 * LITTLE)


@pytest.mark.usefixtures("taken_back")
@pytest.mark.parametrize("queues_of", [(), ("a0", "a3")])
def test_a_claim_reads_little_of_a_workflow_that_is_paused(queues_of: tuple[str, ...]) -> None:
    """However many of its runs are ready, before everything else."""
    owner = Worker.objects.create(id=uuid4())
    _insert_backlog(WorkflowRun(workflow="order", queue="a0"))
    queues.pause_workflow("default", "order", checked_note("pause", "", None))
    with measured() as work:
        assert claims.claim(connections["default"], owner.id, 16, [*KNOWN, ("order", "2")], queues_of) == []
    work.assert_little(9 * LITTLE)


def test_a_look_for_unknown_workflows_reads_little() -> None:
    """A look-up for each workflow of which runs are ready, not one for each run."""
    Worker.objects.create(id=uuid4(), workflows='[["order", ""]]')
    with measured() as work:
        assert parking.park_unknown("default", leases.live_workers()) == []
    work.assert_little()


def test_a_look_for_owners_that_are_gone_reads_little() -> None:
    """Of runs that have an owner, which are few."""
    with measured() as work:
        leases.owners_not_alive()
    work.assert_little()


@pytest.mark.usefixtures("taken_back")
@pytest.mark.parametrize("limits", [{"concurrency": 100}, {"partition_concurrency": 1}, {"rate": "50/s"}])
def test_a_claim_within_limits_reads_little(limits: dict[str, Any]) -> None:
    """Of the partitions as many as it takes, however many runs one of them has; and of other queues next to nothing."""
    owner = Worker.objects.create(id=uuid4())
    runs = [
        WorkflowRun(workflow="order", queue="tenants", partition="big" if number % 2 else f"t{number % 400}")
        for number in range(3000)
    ]
    WorkflowRun.objects.bulk_create(runs, 500)
    queues.limit("default", "tenants", limits)
    ours = QueueClaims(owner.id, ("tenants",))
    with measured() as work:
        taken = ours.claim(connections["default"], 16, 0, KNOWN)
    assert len(taken.runs) == 16
    work.assert_little(20 * LITTLE)


@pytest.mark.usefixtures("taken_back")
@pytest.mark.parametrize("is_paused", [False, True])
def test_a_claim_within_limits_reads_little_of_a_backlog(is_paused: bool) -> None:
    """To take the oldest, and the first; and to take nothing, where the backlog's workflow is paused."""
    owner = Worker.objects.create(id=uuid4())
    _insert_backlog(WorkflowRun(workflow="order", queue="long"))
    queues.limit("default", "long", {"concurrency": 100})
    if is_paused:
        queues.pause_workflow("default", "order", checked_note("pause", "", None))
    ours = QueueClaims(owner.id, ("long",))
    with measured() as work:
        taken = ours.claim(connections["default"], 16, 0, KNOWN)
    assert len(taken.runs) == (0 if is_paused else 16)
    work.assert_little(10 * LITTLE)


@pytest.mark.usefixtures("taken_back")
def test_the_queues_without_limits_are_found_by_a_step_each() -> None:
    """Beside one that is full, and has thousands of ready runs before theirs."""
    owner = Worker.objects.create(id=uuid4())
    WorkflowRun.objects.bulk_create([WorkflowRun(workflow="order", queue="full", priority=9) for _ in range(2000)], 500)
    queues.limit("default", "full", {"concurrency": 1})
    ours = QueueClaims(owner.id)
    ours.claim(connections["default"], 1, 0, KNOWN)
    ours.claim(connections["default"], 1, 0, KNOWN)
    with measured() as work:
        taken = ours.claim(connections["default"], 4, 0, KNOWN)
    assert {run.queue for run in taken.runs} & {"full"} == set()
    assert len(taken.runs) == 4
    work.assert_little(20 * LITTLE)


@pytest.mark.usefixtures("taken_back")
def test_a_look_for_due_schedules_reads_little(statistics: str, tier: str) -> None:
    """Beside thousands that are not due, or paused: in a tick as in a poll, and for those that wait for a run's end."""
    if (statistics, tier) == ("fresh", "postgresql"):
        pytest.skip("without statistics it takes a third for due, and sorts them, in a table of this size")
    later = clock.now() + timedelta(days=1)
    Schedule.objects.bulk_create(
        [
            Schedule(name=f"s{n}", workflow="order", spec="{}", due_at=later if n % 2 else None, last_run_id=uuid4())
            for n in range(5000)
        ],
        500,
    )
    if tier == "postgresql":
        with connections["default"].cursor() as cursor:
            cursor.execute("ANALYZE canx_flow_schedule")
    with measured() as work:
        assert ticks.tick("default").seen == 0
        assert poll.ask(connections["default"]).next_tick is not None
    work.assert_little(2 * LITTLE)
    last = Schedule.objects.get(name="s1")
    with measured() as work:
        assert schedules.waiting_for("default", [last.last_run_id or uuid4()]) == []
    work.assert_little()
    with measured() as work:
        assert ticks.tick("default", declared=(), beside=Q(id__in=[last.id])).seen == 1
    work.assert_little()
