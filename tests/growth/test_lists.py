"""What people ask of the runs: lists by every filter, counts, one run."""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connections, transaction
from django.test import Client
from django.urls import reverse

from canx_flow.admin import events, tabs
from canx_flow.admin.counting import CappedPaginator
from canx_flow.admin.search import search
from canx_flow.insight import evidence, health, kept, overdue, paths, pulse, queues
from canx_flow.insight.why import whys
from canx_flow.management import finding
from canx_flow.models import WorkflowRun, failing
from canx_flow.states import ALL, COMPLETED, PENDING, SLEEPING
from canx_flow.store import starts

from .conftest import POSTGRESQL, on_each
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
COMMON = {"sleeping", "completed", "unfinished", "suspended", "order", "default"}


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


def _look_anew() -> None:
    """Fill the banner's cache now: otherwise what a test before has found may grow too old amid this one."""
    kept.forget()
    pulse.recent()


QUERIES = [
    *({"state": state} for state in ALL if state not in (COMPLETED, PENDING, SLEEPING)),
    {"state": "unfinished", "queue": "gone"},
    {"state": "suspended", "queue": "gone"},
    {"workflow": "gone"},
    {"queue": "gone"},
    {"q": "gone"},
    {"q": "0000"},
    {"q": "auth.User 1"},
    {"q": "user 1"},
    {"state": "all", "error_type": "gone"},
    {"state": "all", "attribute": "gone=1"},
    {"state": "all", "created": "hour"},
    {"state": "attention"},
    {"state": "attention", "queue": "gone"},
    {"state": "all", "attempts": "failed"},
    {"state": "failed", "attempts": "failed"},
]


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_a_list_of_the_admin_reads_little(
    query: dict[str, str], admin_client: Client, monkeypatch: pytest.MonkeyPatch, statistics: str, tier: str
) -> None:
    """With every filter and search that finds nothing: what finds much is counted up to a limit, and shown in pages."""
    _need_statistics(statistics, tier, query.values())
    monkeypatch.setattr(tabs, "MOST", 5)
    if tier == "mysql":  # Which looks at so many runs.
        monkeypatch.setattr(failing, "MOST", 20)
    _look_anew()
    with measured() as work:
        assert admin_client.get(reverse("admin:canx_flow_workflowrun_changelist"), query).status_code == 200
    work.assert_little(A_PAGE)


@pytest.mark.parametrize("text", ["gone", str(UUID(int=1))])
def test_a_search_for_events_reads_little(
    text: str, admin_client: Client, monkeypatch: pytest.MonkeyPatch, statistics: str, tier: str
) -> None:
    """By name and key of the newest, by run and name of all, up to a limit: half a table is read from end to end."""
    _need_statistics(statistics, tier, [text])
    monkeypatch.setattr(events, "NEWEST", 20)
    monkeypatch.setattr(events, "_MOST", 20)
    _look_anew()
    with measured() as work:
        assert admin_client.get(reverse("admin:canx_flow_event_changelist"), {"q": text}).status_code == 200
    work.assert_little(A_PAGE)


def test_the_few_that_one_page_holds_are_found_by_an_index(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, statistics: str, tier: str
) -> None:
    """Django sets no limit then: here one run of the last hour."""
    monkeypatch.setattr(tabs, "MOST", 5)
    monkeypatch.setattr(evidence, "MOST_AHEAD", 20)
    _look_anew()
    with transaction.atomic():
        run = WorkflowRun(workflow="order", queue="a0")
        starts.insert("default", run, None)
        with measured() as work:
            page = admin_client.get(
                reverse("admin:canx_flow_workflowrun_changelist"), {"state": "all", "created": "hour"}
            )
            assert str(run.id) in page.content.decode()
        work.assert_little(A_PAGE)
        transaction.set_rollback(True)


def test_of_a_queue_in_which_all_has_ended_no_more_runs_are_read_than_are_asked(
    monkeypatch: pytest.MonkeyPatch, tier: str
) -> None:
    """Here the last twenty of each of seven, of some 285; where the last one goes on, this one."""
    monkeypatch.setattr(queues, "_LAST", 20)
    names = [f"a{number}" for number in range(7)]
    with measured() as work:
        assert queues.with_work_left("default", names) == {*names}
    work.assert_little(A_PAGE // 2)
    with transaction.atomic():
        WorkflowRun.objects.filter(queue__in=names).update(state=COMPLETED, ready=False)
        with measured() as work:
            assert queues.with_work_left("default", names) == set()
        # PostgreSQL looks at what each was before, too, and MySQL counts what it reads of a subquery.
        work.assert_little((1 if tier == "sqlite" else 2) * A_PAGE)
        transaction.set_rollback(True)


def test_a_list_of_what_has_not_finished_reads_as_many_as_it_counts_and_shows(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, statistics: str, tier: str
) -> None:
    """Of each state the newest; here there are ten thousand that sleep."""
    _need_statistics(statistics, tier, COMMON)
    monkeypatch.setattr(CappedPaginator, "limit", 20)
    monkeypatch.setattr(tabs, "MOST", 5)
    monkeypatch.setattr(evidence, "MOST_AHEAD", 20)
    _look_anew()
    with measured() as work:
        page = admin_client.get(reverse("admin:canx_flow_workflowrun_changelist"), {"state": "unfinished"})
        assert "≥20 workflow runs" in page.content.decode()
    work.assert_little((3 if tier == "mysql" else 2) * A_PAGE)  # MySQL counts each entry of an index that it skips.


def test_postgresql_takes_few_for_few_though_it_knows_only_how_many_there_are_in_all(
    statistics: str, tier: str
) -> None:
    """Of ten million runs, without statistics: those that run are found by their owners, children by their parent, and
    the only one of its key by an index."""
    if (statistics, tier) != ("fresh", "postgresql"):
        pytest.skip("others know more, or go by other rules")
    run_id = WorkflowRun.objects.states(COMPLETED).order_by("id").values_list("id", flat=True)[0]
    WorkflowRun.objects.filter(id=run_id).update(key="the only one")
    on_each(
        POSTGRESQL,
        "UPDATE pg_class SET reltuples = 10000000, relpages = pg_relation_size(oid) / 8192 "
        "WHERE oid = '{table}'::regclass AND relname = 'canx_flow_workflowrun'",
    )
    connections["default"].close()  # It may have planned already.
    with measured() as work:
        call_command("flow", "show", str(run_id), stdout=StringIO())
        call_command("flow", "list", "--state", "running", stdout=StringIO(), stderr=StringIO())
        assert [run.id for run in search(WorkflowRun.objects.all(), "the only one").order_by("-id")[:100]] == [run_id]
    work.assert_little(A_PAGE)


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


def test_why_runs_wait_is_read_by_indexes(monkeypatch: pytest.MonkeyPatch, statistics: str, tier: str) -> None:
    """Of a page of twenty: of each that is due its place in the queue, up to a limit; of others their waits."""
    _need_statistics(statistics, tier, COMMON)
    monkeypatch.setattr(evidence, "MOST_AHEAD", 20)
    for state in (PENDING, SLEEPING):
        page = list(WorkflowRun.objects.states(state).order_by("-id")[:20])
        with measured() as work:
            found = whys("default", page)
        assert all(found[run.id].reasons for run in page)
        work.assert_little(2 * A_PAGE)


def test_the_banner_reads_little(monkeypatch: pytest.MonkeyPatch, statistics: str, tier: str) -> None:
    """As `health` does."""
    _need_statistics(statistics, tier, COMMON)
    if tier == "postgresql":  # So few that an index is better than a table of this size.
        monkeypatch.setattr(overdue, "MOST", 50)
    pulse.forget()
    with measured() as work:
        pulse.recent()
    work.assert_little(40 * overdue.MOST)


def test_a_graph_reads_no_more_records_than_it_wants(
    monkeypatch: pytest.MonkeyPatch, statistics: str, tier: str
) -> None:
    """Run by run: nothing is sorted, be there statistics or not."""
    monkeypatch.setattr(paths, "MOST_RECORDS", 30)
    monkeypatch.setattr(paths, "MOST_RUNS", 50)
    newest = paths.newest("order")
    with measured() as work:
        assert paths.of_workflow("order", newest).runs == 29
    work.assert_little((3 if tier == "mysql" else 1) * A_PAGE)
