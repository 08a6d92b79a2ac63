"""A second database: CANX_FLOW["DATABASE"] and the router."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction

from canx_flow import Context, workflow
from canx_flow.models import StepRecord, WorkflowRun
from canx_flow.routers import CanxFlowRouter
from canx_flow.testing import advance, run_until_idle
from tests.models import Effect

pytestmark = pytest.mark.django_db(databases=["default", "other"])


@workflow("tests.routers.elsewhere")
def elsewhere(ctx: Context, name: str) -> str:
    """One step that writes to the project's own database, a sleep, and an answer."""
    ctx.step("write", write, name)
    ctx.sleep("nap", timedelta(hours=1))
    return name


def write(name: str) -> None:
    """A step that writes a row of the project's own."""
    Effect.objects.create(name=name)


@pytest.fixture
def second_database(settings: Any) -> None:
    """The engine lives in the database `other`."""
    settings.CANX_FLOW = {"DATABASE": "other"}
    settings.DATABASE_ROUTERS = ["canx_flow.routers.CanxFlowRouter"]


def test_a_run_lives_in_the_database_that_the_settings_name(second_database: None) -> None:
    """Start, replay, timers and status use the second database; the step's own writes go where they always went."""
    run_id = elsewhere.start("x")
    run_until_idle()
    assert elsewhere.status(run_id).state == "sleeping"
    advance(timedelta(hours=1))

    assert elsewhere.status(run_id).result == "x"
    assert WorkflowRun.objects.using("other").filter(id=run_id).exists()
    assert not WorkflowRun.objects.using("default").exists()
    assert StepRecord.objects.using("other").filter(run_id=run_id).count() == 2
    assert Effect.objects.using("default").filter(name="x").count() == 1


def test_a_start_belongs_to_a_transaction_on_its_own_database(second_database: None) -> None:
    """A transaction on another database neither keeps nor undoes a start."""
    with transaction.atomic(using="default"):
        kept = elsewhere.start("kept")
        transaction.set_rollback(True, using="default")
    with transaction.atomic(using="other"):
        undone = elsewhere.start("undone")
        transaction.set_rollback(True, using="other")

    ids = set(WorkflowRun.objects.using("other").values_list("id", flat=True))
    assert kept in ids
    assert undone not in ids


def test_the_router_sends_the_engines_tables_to_one_database_and_says_nothing_of_others(second_database: None) -> None:
    """Only canx_flow's tables are routed, migrations included."""
    router = CanxFlowRouter()

    assert router.db_for_read(WorkflowRun) == router.db_for_write(StepRecord) == "other"
    assert router.db_for_read(Effect) is None
    assert router.allow_migrate("other", "canx_flow") is True
    assert router.allow_migrate("default", "canx_flow") is False
    assert router.allow_migrate("default", "tests") is None
    assert router.allow_relation(WorkflowRun(), StepRecord()) is True
    assert router.allow_relation(WorkflowRun(), Effect()) is False
    assert router.allow_relation(Effect(), Effect()) is None


class Replica:
    """A router of a project that reads from another database than it writes to."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        """Return the replica's alias."""
        return "other"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        """Return the primary's."""
        return "default"


@pytest.mark.parametrize("chosen", ["", "default", "other"])
@pytest.mark.parametrize(("verb", "counted"), [("cancel", "cancelled"), ("retry", "retried")])
def test_bulk_verbs_change_the_runs_where_the_engine_has_them(
    verb: str, counted: str, chosen: str, settings: Any
) -> None:
    """Not in the database that a router reads from, or that a queryset was told to be read from."""
    settings.DATABASE_ROUTERS = [Replica()]
    run_id = elsewhere.start("x")
    state = "failed" if verb == "retry" else "pending"
    WorkflowRun.objects.using("default").filter(id=run_id).update(state=state, ready=verb == "cancel")
    (row,) = WorkflowRun.objects.using("default").filter(id=run_id)
    row.save(using="other", force_insert=True)

    runs = WorkflowRun.objects.using(chosen) if chosen else WorkflowRun.objects
    counts = getattr(runs.filter(id=run_id), verb)()

    assert counts[counted] == 1
    assert WorkflowRun.objects.using("default").get(id=run_id).control == verb
    assert WorkflowRun.objects.using("other").get(id=run_id).state == state


def test_bulk_verbs_find_what_is_not_in_the_replica_yet(settings: Any) -> None:
    """Such as the runs that this transaction has started; whatever is asked of them."""
    settings.DATABASE_ROUTERS = [Replica()]
    run_id = elsewhere.start("x")
    assert WorkflowRun.objects.states("running").cancel() == {"cancelled": 0, "stopping": 0, "unchanged": 0}
    assert WorkflowRun.objects.filter(id=run_id).cancel() == {"cancelled": 1, "stopping": 0, "unchanged": 0}


def test_the_test_databases_are_two(second_database: None) -> None:
    """What these tests say would mean nothing if both aliases were one database."""
    assert connections["default"].settings_dict["NAME"] != connections["other"].settings_dict["NAME"]
