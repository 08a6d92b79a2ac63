"""The tables divided by months, as the page says: runs go on, and a month that is detached takes what has ended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection

from canx_flow import Context, client, workflow
from canx_flow.core import clock
from canx_flow.core.identity import first_id_at
from canx_flow.models import RunHistory, RunKey, StepRecord, WorkflowRun
from canx_flow.states import COMPLETED, FAILED, SLEEPING
from canx_flow.store import pruning
from canx_flow.store.pruning import Old
from canx_flow.testing import advance, run_until_idle

from .docs.pages import page

pytestmark = pytest.mark.django_db

#: A month of which nothing can have been stored before the test began.
MONTH = datetime(2060, 1, 1, tzinfo=UTC)


@workflow("partitions.any")
def anything(ctx: Context, *, fails: bool = False) -> str:
    """A step, a sleep, an event and a step."""
    ctx.step("before", str)
    ctx.sleep("nap", 60)
    answer: str = ctx.wait_for("answer", "answered")
    ctx.step("broken" if fails else "after", (lambda: 1 / 0) if fails else str)
    return answer


@pytest.fixture
def divided(tier: str) -> None:
    """Tables divided as the page says, with a partition for MONTH; all of it is rolled back with the test."""
    if tier != "postgresql":
        pytest.skip("partitions are PostgreSQL's")
    run("before")
    with connection.cursor() as cursor:
        for block in page("how-to/partitions").blocks:
            if block.language == "postgresql":
                cursor.execute(block.code)
        cursor.execute("CALL add_month(%s)", [MONTH])


def run(
    key: str,
    made: datetime | None = None,
    state: str = COMPLETED,
    parent: UUID | None = None,
    origin: UUID | None = None,
) -> UUID:
    """A run with a record, a key and something noted, made at this moment; `origin`: of a fork."""
    made = made or clock.now()
    run_id = UUID(int=first_id_at(made).int + len(key))
    WorkflowRun.objects.create(
        id=run_id, workflow="partitions.any", key=key, state=state, ready=False, parent_id=parent,
        forked_from_id=origin, seed=origin,
        finished_at=None if state == SLEEPING else made + timedelta(seconds=1),
    )  # fmt: skip
    RunKey.objects.create(run_id=run_id, workflow="partitions.any", key=key)
    StepRecord.objects.create(run_id=run_id, seq=1, name="s", kind="step", state="completed", started_at=made)
    RunHistory.objects.create(run_id=run_id, at=made, actor="people", verb="pause")
    return run_id


def rows(table: str) -> int:
    """How many rows a partition has."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        return int(cursor.fetchone()[0])


def detach(ended_before: datetime) -> None:
    """As the page says."""
    with connection.cursor() as cursor:
        cursor.execute("CALL detach_month(%s, %s)", [MONTH, ended_before])


@pytest.mark.usefixtures("divided")
def test_runs_go_on_in_divided_tables() -> None:
    """Steps, sleeps, events, a failure and its retry; what was stored before is there."""
    run_id, failing = anything.start(), anything.using(key="twice").start(fails=True)
    assert anything.using(key="twice").start(fails=True) == failing
    run_until_idle()
    for one in (run_id, failing):
        client.send(one, "answered", "yes")
    advance(61)
    assert client.get_run(run_id).state == COMPLETED
    assert client.get_run(failing).state in (FAILED, "retrying")
    assert rows("workflowruns_before") == 3
    assert WorkflowRun.objects.filter(key="before").exists()
    assert StepRecord.objects.filter(run_id=run_id).count() == 4


@pytest.mark.usefixtures("divided")
def test_a_month_is_detached_with_what_has_ended_in_it() -> None:
    """What has not ended stays, with all that is its own, and so does a child that may be asked for, and a fork whose
    child goes on; runs go on."""
    gone = run("gone", MONTH)
    asleep = run("asleep", MONTH + timedelta(days=1), SLEEPING)
    child = run("child of", MONTH + timedelta(days=2), parent=asleep)
    failed = run("failed child", MONTH + timedelta(days=3), FAILED, parent=asleep)
    grandchild = run("child of a failed one", MONTH + timedelta(days=4), parent=failed)
    young = run("young", MONTH + timedelta(days=20))
    fork = run("fork", MONTH + timedelta(days=5), origin=gone)
    going = run("child of a fork", MONTH + timedelta(days=6), SLEEPING, parent=fork)
    run("another fork", MONTH + timedelta(days=7), origin=gone)
    assert rows("workflowruns_2060_01") == 9
    detach(MONTH + timedelta(days=10))
    kept = {asleep, child, failed, grandchild, young, fork, going}
    assert set(WorkflowRun.objects.filter(id__gte=first_id_at(MONTH)).values_list("id", flat=True)) == kept
    for model in (StepRecord, RunKey, RunHistory):
        found = model._default_manager.filter(run_id__gte=first_id_at(MONTH))
        assert set(found.values_list("run_id", flat=True)) == kept, model.__name__
    assert rows("workflowruns_2060_01") == rows("steprecords_2060_01") == 9
    assert gone not in kept
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE workflowruns_2060_01, steprecords_2060_01")
    test_runs_go_on_in_divided_tables()


@pytest.mark.usefixtures("divided")
def test_pruning_goes_through_all_partitions() -> None:
    """It finds what is old wherever it lies."""
    kept = run("asleep", MONTH, SLEEPING)
    run("old", MONTH + timedelta(days=1))
    assert pruning.prune("default", Old(MONTH + timedelta(days=31)), 100, lambda _: None) == 2
    assert set(WorkflowRun.objects.values_list("id", flat=True)) == {kept}
