"""What runs are found by goes with their attributes: when they are set, changed and pruned."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.db import DatabaseError, connection, transaction

from canx_flow import Context, client, workflow
from canx_flow.core import clock
from canx_flow.core.entries import entry
from canx_flow.models import RunAttribute, WorkflowRun
from canx_flow.store import pruning, starts
from canx_flow.store.db.databases import session_for
from canx_flow.store.pruning import Old
from canx_flow.testing import advance, run_until_idle

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


@workflow("attributes.any")
def anything(ctx: Context) -> None:
    """Counts, sleeps, and then has nothing more to count."""
    for number in range(3):
        ctx.step("count", str)
        ctx.set_attributes(count=number)
    ctx.sleep("nap", HOUR)
    ctx.set_attributes(count=None)


def noted(run_id: UUID) -> set[int]:
    """What is noted of a run."""
    return set(RunAttribute.objects.filter(run_id=run_id).values_list("entry", flat=True))


def expected(**attributes: object) -> set[int]:
    """What is to be noted: nothing where the database has an index for JSON."""
    if session_for("default").indexes_json:
        return set()
    return {entry(name, value) for name, value in attributes.items()}


def test_what_is_noted_is_what_the_run_has() -> None:
    """From the start on, and after each change: nothing stays of what it had before."""
    run_id = anything.using(attributes={"city": "Bern"}).start()
    assert noted(run_id) == expected(city="Bern")
    run_until_idle()
    assert noted(run_id) == expected(city="Bern", count=2)
    advance(HOUR)
    assert anything.status(run_id).state == "completed"
    assert noted(run_id) == expected(city="Bern", count=None)
    assert anything.runs.with_attributes(city="Bern", count=None).get().id == run_id
    assert not anything.runs.with_attributes(count=2).exists()


def test_every_way_to_start_notes_them() -> None:
    """Delayed, with a key, anew, many at once; a run without attributes has nothing."""
    some = anything.using(attributes={"size": 1})
    ids = [some.using(delay=HOUR).start(), some.using(key="one").start(), some.start()]
    ids.append(client.rerun(ids[0]))
    pattern = WorkflowRun(workflow="attributes.any", attributes={"size": 1.0})
    ids += starts.insert_many("default", pattern, ["[[],{}]"] * 2)
    assert {run_id: noted(run_id) for run_id in ids} == dict.fromkeys(ids, expected(size=1))
    assert set(anything.runs.with_attributes(size=1).values_list("id", flat=True)) == set(ids)
    assert some.using(key="one").start() == ids[1]
    assert noted(ids[1]) == expected(size=1)
    assert noted(anything.start()) == set()


@pytest.mark.django_db(transaction=True)
def test_a_run_that_was_not_stored_has_noted_nothing() -> None:
    """Both are stored in one transaction: the caller's, or one of their own."""
    with transaction.atomic():
        anything.using(attributes={"size": 1}).start()
        transaction.set_rollback(True)
    assert not RunAttribute.objects.exists()
    if not session_for("default").indexes_json:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE canx_flow_runattribute RENAME TO canx_flow_gone")
            try:
                with pytest.raises(DatabaseError):
                    anything.using(attributes={"size": 1}).start()
            finally:
                cursor.execute("ALTER TABLE canx_flow_gone RENAME TO canx_flow_runattribute")
        assert not WorkflowRun.objects.exists()


def test_pruned_runs_leave_nothing_of_it() -> None:
    """It goes with the run; that of others stays."""
    gone = anything.using(attributes={"city": "Bern", "size": 1}).start()
    kept = anything.using(attributes={"city": "Bern"}).start()
    anything.cancel(gone)
    assert pruning.prune("default", Old(clock.now() + HOUR), 100, lambda _: None) == 1
    assert set(RunAttribute.objects.values_list("run_id", flat=True)) == ({kept} if expected(city="Bern") else set())
