"""After a test that commits, the tables are as they were before it."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test import TransactionTestCase

from canx_flow import client
from canx_flow.models import Event, StepRecord, WorkflowRun
from canx_flow.testing import run_until_idle

from . import emptying, workflows

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("large", [10**12, -1], ids=["few rows", "many rows"])
def test_no_row_is_left_but_those_of_migrations(large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs, steps, events and users are gone; content types and permissions are the same rows."""
    monkeypatch.setattr(emptying, "_LARGE", large)
    kept = list(ContentType.objects.order_by("id")), list(Permission.objects.order_by("id"))
    run_id = workflows.two_steps.start("ada")
    client.send(run_id, "hello", 1)
    run_until_idle()
    assert StepRecord.objects.exists()
    User.objects.create_user("ada").user_permissions.set(Permission.objects.all())
    emptying.empty(connection)
    assert not any(model.objects.exists() for model in (WorkflowRun, Event, StepRecord, User))
    assert (list(ContentType.objects.order_by("id")), list(Permission.objects.order_by("id"))) == kept


def test_a_permission_that_a_test_made_is_gone() -> None:
    """The next test finds those of the migrations."""
    before = set(Permission.objects.values_list("codename", flat=True))
    Permission.objects.create(codename="fly", content_type=ContentType.objects.earliest("id"))
    TransactionTestCase()._fixture_teardown()
    assert set(Permission.objects.values_list("codename", flat=True)) == before


def test_nothing_is_known_of_a_table_any_more(tier: str) -> None:
    """PostgreSQL plans by what ANALYZE has counted: the next test's plans go by no rows of this one."""
    if tier != "postgresql":
        pytest.skip("elsewhere no test asks for statistics")
    workflows.two_steps.start("ada")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE canx_flow_workflowrun")
        emptying.empty(connection)
        cursor.execute("SELECT reltuples FROM pg_class WHERE relname = 'canx_flow_workflowrun'")
        assert cursor.fetchone() == (-1,)
