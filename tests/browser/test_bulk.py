"""Many runs are cancelled by a filter while others are started."""

from __future__ import annotations

from uuid import UUID

import pytest

from canx_flow.admin import RunAdmin
from canx_flow.models import WorkflowRun

from ..processes import Workers
from ..waiting import wait_until
from ..workflows import waits
from .chromium import Visitor

pytestmark = pytest.mark.browser


def started(number: int) -> list[UUID]:
    """So many runs that the worker has brought to where they wait."""
    ids = waits.start_many([("x",)] * number)
    wait_until(lambda: WorkflowRun.objects.filter(id__in=ids, state="waiting").count() == number, timeout=60)
    return ids


def test_only_what_was_there_when_the_page_asked_is_cancelled(
    operator: Visitor, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that match, in several requests that follow each other by themselves; runs of the same kind come between."""
    monkeypatch.setattr(RunAdmin, "bulk_limit", 50)
    workers.start()
    meant = started(120)
    operator.opens("/admin/canx_flow/workflowrun/")
    operator.clicks("Waiting 120", within=".canx-tabs")
    operator.clicks("tests.waits", within="#changelist-filter")
    operator.do(lambda page: page.locator("#action-toggle").check())
    operator.do(lambda page: page.locator(".actions .question a").click())
    operator.do(lambda page: page.locator(".actions select").select_option("cancel_runs"))
    operator.do(lambda page: page.locator(".actions button").click())
    operator.sees("120 of 120 will be cancelled.")
    came_since = started(5)
    operator.fills("Reason", "a fault in the shop")
    operator.shoots("bulk")
    operator.do(lambda page: page.locator(".canx-confirm input[type=submit]").click())
    operator.sees("120 cancelled", within=".canx-report")
    operator.sees("a fault in the shop", within=".canx-report")

    states = dict(WorkflowRun.objects.values_list("id", "state"))
    assert {states[run_id] for run_id in meant} == {"cancelled"}
    assert {states[run_id] for run_id in came_since} == {"waiting"}
