"""What the dashboard and the page of queues ask, in a database that has stored much."""

from __future__ import annotations

from uuid import UUID

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse

from canx_flow.admin import dashboard, tabs
from canx_flow.core import clock
from canx_flow.core.identity import uuid7
from canx_flow.insight import alike, overdue, queues, slowest, throughput, traffic
from canx_flow.insight.throughput import DAY, HOUR, MINUTE
from canx_flow.models import WorkflowRun

from .test_lists import A_PAGE, _look_anew
from .work import measured

#: Runs that are stored as failed, each of a kind that has as many.
FAILED, KINDS = 3_000, 3


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at so few that an index is better than a table of this size."""
    for module, name, value in (
        (tabs, "MOST", 20), (alike, "MOST_RUNS", 20), (alike, "MOST_COUNTED", 20), (slowest, "MOST_RECORDS", 20),
        (throughput, "MOST_RUNS", 20), (dashboard, "FEW_RUNS", 20), (overdue, "MOST", 20), (queues, "MOST_OWNED", 20),
        (traffic, "MOST_SUSPENDED", 20), (traffic, "MOST_STARTED", 20),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    for per in (MINUTE, HOUR, DAY):
        monkeypatch.setitem(throughput.MOST_STARTED, per, 5)


def _fail() -> list[UUID]:
    """Have many runs that failed, in this transaction."""
    now = clock.now()
    runs = [
        WorkflowRun(
            id=uuid7(), workflow="order", state="failed", ready=False, finished_at=now, error="{}",
            error_type=f"Error{number % KINDS}", error_print=f"{number % KINDS:016x}",
        )
        for number in range(FAILED)
    ]  # fmt: skip
    WorkflowRun.objects.bulk_create(runs, 500)
    return [run.id for run in runs]


@pytest.mark.parametrize("per", [MINUTE, HOUR, DAY])
def test_the_dashboard_reads_little(admin_client: Client, per: str) -> None:
    """Of whatever length its spans are."""
    _look_anew()
    with measured() as work:
        page = admin_client.get(reverse("admin:canx_flow_workflowrun_dashboard"), {"per": per})
        assert "Slowest steps" in page.content.decode()
    work.assert_little(8 * A_PAGE)


def test_the_block_of_the_index_reads_little(admin_client: Client) -> None:
    """The same, without steps."""
    _look_anew()
    with measured() as work:
        assert "canx-dashboard" in admin_client.get("/admin/").content.decode()
    work.assert_little(8 * A_PAGE)


def test_the_page_of_queues_reads_little(admin_client: Client) -> None:
    """Seven queues, in which more runs are due than are counted."""
    _look_anew()
    with measured() as work:
        page = admin_client.get(reverse("admin:canx_flow_workflowrun_queues")).content.decode()
        assert all(f">a{number}<" in page for number in range(7))
    work.assert_little(8 * A_PAGE)


def test_what_failed_alike_is_found_among_many() -> None:
    """Kinds are counted up to a limit, each by an index; that of another kind is not read."""
    with transaction.atomic():
        _fail()
        with measured() as work:
            found = alike.groups("default", alike.newest("default"), 10, by_type=False, concealed=False)
        assert [group.number for group in found] == [21] * KINDS
        work.assert_little(2 * A_PAGE)
        transaction.set_rollback(True)


def test_a_list_of_what_failed_alike_reads_little(admin_client: Client) -> None:
    """Where the dashboard leads; of a kind of which there is none."""
    _look_anew()
    with measured() as work:
        query = {"state": "failed", "alike": "gone"}
        assert admin_client.get(reverse("admin:canx_flow_workflowrun_changelist"), query).status_code == 200
    work.assert_little(A_PAGE)
