"""What people ask of the runs: lists by every filter, counts, one run."""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from django.urls import reverse

from canx_flow.admin.counting import CappedPaginator
from canx_flow.insight import health, overdue
from canx_flow.management import finding
from canx_flow.models import WorkflowRun
from canx_flow.states import ALL, COMPLETED, PENDING, SLEEPING
from canx_flow.store import starts

from .work import measured

#: A page of twenty runs, each with its wait and its row.
A_PAGE = 250
FILTERS = [
    (),
    *(("--state", state) for state in ALL),
    ("--state", "failed", "--state", "parked"),
    ("--workflow", "order"),
    ("--workflow", "gone"),
    ("--queue", "default"),
    ("--queue", "gone"),
    ("--queue", "gone", "--state", "failed"),
    ("--key", "gone"),
    ("--subject", "auth.User:1"),
    ("--since", "0"),
    ("--since", "2h"),
]


#: What very many runs have: without statistics PostgreSQL takes these for few, and sorts them, until there are more.
COMMON = {"sleeping", "completed", "unfinished", "order", "default"}


def _need_statistics(statistics: str, tier: str, words: Iterable[str]) -> None:
    if statistics == "fresh" and tier == "postgresql" and COMMON & {*words}:
        pytest.skip("without statistics it takes common values for rare ones, in a table of this size")


@pytest.mark.parametrize("words", FILTERS, ids=" ".join)
def test_a_list_reads_little(words: tuple[str, ...], statistics: str, tier: str) -> None:
    """`flow list`, whichever filter it has, and whether any run is found."""
    _need_statistics(statistics, tier, words)
    with measured() as work:
        call_command("flow", "list", *words, stdout=StringIO(), stderr=StringIO())
    work.assert_little(A_PAGE)


QUERIES = [
    *({"state": state} for state in ALL if state not in (COMPLETED, PENDING, SLEEPING)),
    {"state": "unfinished", "queue": "gone"},
    {"workflow": "gone"},
    {"queue": "gone"},
    {"q": "gone"},
    {"q": "0000"},
    {"q": "auth.User 1"},
]


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_a_list_of_the_admin_reads_little(
    query: dict[str, str], admin_client: Client, statistics: str, tier: str
) -> None:
    """With every filter and search that finds nothing: what finds much is counted up to a limit, and shown in pages."""
    _need_statistics(statistics, tier, query.values())
    with measured() as work:
        assert admin_client.get(reverse("admin:canx_flow_workflowrun_changelist"), query).status_code == 200
    work.assert_little(A_PAGE)


def test_a_list_of_what_has_not_finished_reads_as_many_as_it_counts_and_shows(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, statistics: str, tier: str
) -> None:
    """Of each state the newest; here there are ten thousand that sleep."""
    _need_statistics(statistics, tier, COMMON)
    monkeypatch.setattr(CappedPaginator, "limit", 20)
    with measured() as work:
        page = admin_client.get(reverse("admin:canx_flow_workflowrun_changelist"), {"state": "unfinished"})
        assert "≥20 workflow runs" in page.content.decode()
    work.assert_little(2 * A_PAGE)


@pytest.mark.parametrize("workflow", ["", "order"])
def test_attributes_are_looked_for_by_an_index(workflow: str, statistics: str, tier: str) -> None:
    """Found or not, by one attribute and by several, beside runs that have others; of all workflows and of one."""
    _need_statistics(statistics, tier, [workflow])
    runs = WorkflowRun.objects.filter(workflow=workflow) if workflow else WorkflowRun.objects.all()
    with transaction.atomic():
        made = [WorkflowRun(workflow="order", attributes={"customer": number, "plan": "pro"}) for number in range(200)]
        for run in made:
            starts.insert("default", run, None)
        with measured() as work:
            assert runs.with_attributes(customer=7).get().id == made[7].id
            assert runs.with_attributes(customer=8, plan="pro").get().id == made[8].id
            assert not runs.with_attributes(plan="free", country="DE").exists()
            assert list(runs.with_attributes(country="DE").order_by("-id")[:20]) == []
        work.assert_little(A_PAGE)
        transaction.set_rollback(True)


def test_versions_read_no_more_of_a_state_than_they_count(
    monkeypatch: pytest.MonkeyPatch, statistics: str, tier: str
) -> None:
    """Here twenty of each."""
    _need_statistics(statistics, tier, COMMON)
    monkeypatch.setattr(finding, "MOST_COUNTED", 20)
    with measured() as work:
        call_command("flow", "versions", stdout=StringIO())
    work.assert_little(2 * A_PAGE)


def test_health_reads_little(statistics: str, tier: str) -> None:
    """The runs that wait are counted up to a limit; of others there is a look at the first ones."""
    _need_statistics(statistics, tier, COMMON)
    with measured() as work:
        health.examine(confirm=False)
    work.assert_little(20 * overdue.MOST)
