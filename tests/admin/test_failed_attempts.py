"""The filter for runs of which a step has failed."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test import Client

from canx_flow import Context, Retry, current_step, workflow
from canx_flow.models import StepRecord, WorkflowRun, failing
from canx_flow.testing import run_until_idle

from .conftest import Person, url
from .runs import at_rest

pytestmark = pytest.mark.django_db


@workflow("admin.flaky")
def flaky(ctx: Context, failures: int) -> None:
    """Fails so often, and succeeds then."""

    def attempt() -> None:
        if current_step().attempt <= failures:
            raise ValueError("no luck")

    ctx.step("flaky", attempt, retry=Retry(max_attempts=3, initial=0, jitter=0))


def listed(client: Client, **query: str) -> set[UUID]:
    """The runs of the list."""
    response = client.get(url("changelist"), {"state": "all", **query})
    assert response.status_code == 200
    return {run.id for run in response.context["cl"].result_list}


def flaky_run(failures: int) -> UUID:
    """A run that has ended."""
    run_id = flaky.start(failures)
    run_until_idle()
    return run_id


def test_runs_are_found_of_which_a_step_has_failed(viewer: Client) -> None:
    """Be it that it succeeded then, is tried again, or has ended the run; with other filters, too."""
    recovered, retrying, failed = flaky_run(1), at_rest("retry", note="x"), at_rest("fail", note="x")
    flaky_run(0)
    at_rest("wait")
    assert WorkflowRun.objects.get(id=recovered).state == "completed"
    assert listed(viewer, attempts="failed") == {recovered, retrying, failed}
    assert listed(viewer, attempts="failed", state="completed") == {recovered}
    assert listed(viewer, attempts="failed", state="attention") == {failed}
    assert listed(viewer, attempts="failed", workflow="admin.any") == {retrying, failed}
    assert len(listed(viewer, attempts="nonsense")) == 5
    assert "has failed attempts" in viewer.get(url("changelist"), {"state": "all"}).content.decode()


def test_of_very_many_the_newest_are_found(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many times a step of each has failed."""
    monkeypatch.setattr(failing, "MOST", 2)
    *_older, second, third = flaky_run(2), flaky_run(2), flaky_run(2)
    assert listed(viewer, attempts="failed") == {second, third}


def test_the_filter_is_for_who_may_see_steps(person: Person) -> None:
    """It is not offered to others, and its address tells them nothing."""
    flaky_run(1)
    client = person("view_workflowrun", "view_payloads")
    assert "has failed attempts" not in client.get(url("changelist"), {"state": "all"}).content.decode()
    answer = client.get(url("changelist"), {"state": "all", "attempts": "failed"})
    assert (answer.status_code, answer["Location"]) == (302, f"{url('changelist')}?e=1")


def test_what_has_not_failed_is_in_no_index(tier: str) -> None:
    """An index of the few steps that have; where the database cannot have such, there is none."""
    with connection.cursor() as cursor:
        made: dict[str, Any] = connection.introspection.get_constraints(cursor, StepRecord._meta.db_table)
    assert ("canx_step_failures" in made) == (tier != "mysql")
