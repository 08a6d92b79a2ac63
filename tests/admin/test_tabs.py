"""The tabs above the list of runs, and the filters beside it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from freezegun import freeze_time

from canx_flow.admin import tabs
from canx_flow.core.columns import Among
from canx_flow.insight import overdue, pulse
from canx_flow.models import WorkflowRun

from . import runs
from .conftest import url
from .runs import MAKE, anything, at_rest
from .test_list import listed, text

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def counts(client: Client, **query: str) -> dict[str, str]:
    """The tabs, each with the number that it says."""
    content = client.get(url("changelist"), {"state": "all", **query}).content.decode()
    found = re.search(r'<nav class="canx-tabs".*?</ul>', content, re.DOTALL)
    assert found is not None
    words = [re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", item)).strip() for item in found[0].split("<li>")[1:]]
    return {
        match[1]: match[2] or ""
        for word in words
        if (match := re.fullmatch(r"(\D+?)(?: ≥?(\d+))?", word.replace("≥", "")))
    }


def test_each_tab_says_how_many_runs_it_has(viewer: Client) -> None:
    """One of each state; a running run's worker is alive."""
    for make in MAKE.values():
        make()
    assert counts(viewer) == {
        "Needs attention": "2", "Not finished": "8", "Running": "1", "Waiting": "3", "Failed": "1", "Parked": "1",
        "Completed": "", "All": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("tab", "wanted"),
    [
        ("attention", {"failed", "parked"}),
        ("unfinished", {*MAKE} - {"completed", "failed", "cancelled"}),
        ("suspended", {"sleeping", "waiting", "retrying"}),
        ("running", {"running"}),
        ("all", {*MAKE}),
    ],
)
def test_a_tab_shows_its_runs(viewer: Client, tab: str, wanted: set[str]) -> None:
    """The newest first, and no other."""
    made = {state: str(make()) for state, make in MAKE.items()}
    assert listed(viewer, state=tab) == sorted((made[state] for state in wanted), reverse=True)


def test_what_is_stuck_needs_attention(viewer: Client) -> None:
    """A run whose worker is silent, one that is due in a queue without a worker, one whose timer is late."""
    with freeze_time(START) as clock:
        held, asleep = runs.running(), at_rest("sleep")
        due = anything.using(queue="billing").start()
        clock.tick(2 * HOUR)
        fresh = anything.using(queue="billing").start()
        pulse.forget()
        assert set(listed(viewer, state="attention")) == {str(held), str(asleep), str(due)}
        runs.a_worker(queues=["billing"])
        pulse.forget()
        assert str(due) in listed(viewer, state="attention"), "its worker does not know the workflow"
        assert counts(viewer)["Needs attention"] == "3"
        assert str(fresh) in listed(viewer, state="unfinished")


def test_where_more_are_stuck_than_were_looked_for_it_says_at_least(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the tab and above the list."""
    monkeypatch.setattr(overdue, "MOST", 2)
    with freeze_time(START) as clock:
        for wanted in ("1", "≥2"):
            anything.using(queue="billing").start()
            clock.tick(2 * HOUR)
            pulse.forget()
            said = text(viewer, state="attention")
            assert f"Needs attention {wanted}" in said
            assert f"{wanted} workflow run" in said


def test_however_many_are_stuck_a_statement_has_one_value_for_them(tier: str) -> None:
    """Thousands take the database longer to read than to look up. MySQL and MariaDB take no list as one."""
    asked = [anything.start() for _ in range(3)]
    found = WorkflowRun.objects.filter(Among("id", frozenset(asked[:2])))
    assert {*found.values_list("id", flat=True)} == {*asked[:2]}
    assert found.exclude(id=asked[0]).get().id == asked[1]
    assert WorkflowRun.objects.exclude(Among("id", frozenset(asked[:2]))).get().id == asked[2]
    _sql, values = found.query.sql_with_params()
    assert len(values) == (2 if tier == "mysql" else 1)


def test_the_list_begins_with_what_needs_attention(viewer: Client) -> None:
    """If anything does; else with what has not finished. The address says so."""
    at_rest()
    assert viewer.get(url("changelist")).headers["Location"] == "?state=unfinished"
    at_rest("fail")
    assert viewer.get(url("changelist")).headers["Location"] == "?state=attention"
    assert "Workflow runs" in text(viewer, state="attention")


def test_counts_end_at_a_limit(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of pages do."""
    monkeypatch.setattr(tabs, "MOST", 2)
    anything.start_many([()] * 3)
    assert "≥2" in text(viewer, state="unfinished")


def test_another_filter_leaves_the_tabs_without_counts(viewer: Client) -> None:
    """They would be those of all runs. The tabs keep that filter."""
    at_rest("fail")
    assert set(counts(viewer, workflow="admin.any").values()) == {""}
    content = viewer.get(url("changelist"), {"state": "all", "workflow": "admin.any"}).content.decode()
    assert 'href="?state=failed&amp;workflow=admin.any"' in content


# -- filters -----------------------------------------------------------------------------------------


def test_filters_offer_what_is_stuck(viewer: Client) -> None:
    """Workflows that runs have and the code has not, queues with runs and without a worker."""
    run_id = anything.using(queue="gpu").start()
    WorkflowRun.objects.filter(id=run_id).update(workflow="zoo.removed")
    runs.a_worker(queues=["mail"])
    said = text(viewer, state="all")
    assert "zoo.removed (no code)" in said
    assert "gpu (no worker)" in said
    assert "mail " in said
    assert "mail (no worker)" not in said
    runs.a_worker()
    assert "gpu (no worker)" not in text(viewer, state="all")


def test_runs_are_found_by_the_type_of_their_error(viewer: Client) -> None:
    """That of the step's last attempt."""
    failed = at_rest("fail", note="luck")
    at_rest(), runs.out_of_time()
    assert listed(viewer, state="all", error_type="ValueError") == [str(failed)]
    said = text(viewer, state="all")
    assert "ValueError" in said
    assert "canx_flow.exceptions.RunTimedOut" in said


def test_runs_are_found_by_when_they_were_created(viewer: Client) -> None:
    """In the last hour, day or week."""
    with freeze_time(START) as clock:
        old = anything.start()
        clock.tick(2 * HOUR)
        new = anything.start()
        assert listed(viewer, state="all", created="hour") == [str(new)]
        assert listed(viewer, state="all", created="day") == [str(new), str(old)]


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("2026-03-01..2026-03-01", "old"), ("2026-03-02..", "new"), ("..2026-03-02 11:00", "old"), ("..", "old new"),
        (" 2026-03-01 .. 2026-03-02 ", "old new"), ("2026-03-01T12:30:00Z..2026-03-01T12:40Z", ""), ("soon", ""),
        ("2026-02-31..", ""), ("..9999-12-31", ""),
    ],
)  # fmt: skip
def test_runs_are_found_by_a_period(viewer: Client, typed: str, found: str) -> None:
    """Dates and moments in the reader's time zone; what is neither finds nothing."""
    made = {}
    with freeze_time(START) as clock:
        made["old"] = anything.start()
        clock.tick(24 * HOUR)
        made["new"] = anything.start()
    assert set(listed(viewer, state="all", between=typed)) == {str(made[name]) for name in found.split()}


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("plan=gold", True),
        ("seats=3", True),
        (' plan = "gold" ', True),
        ("seats=03", False),
        ("plan", True),
        ("=", False),
    ],
)
def test_runs_are_found_by_an_attribute(viewer: Client, typed: str, found: bool) -> None:
    """As typed: a number is a number, a text needs no quotes. Without a value nothing is asked for."""
    run_id = anything.using(attributes={"plan": "gold", "seats": 3}).start()
    assert listed(viewer, state="all", attribute=typed) == ([str(run_id)] if found else [])


def test_the_attribute_keeps_the_other_filters(viewer: Client) -> None:
    """Its form hands them on."""
    content = viewer.get(url("changelist"), {"state": "all", "queue": "default"}).content.decode()
    form = re.search(r'<form class="canx-typed".*?</form>', content, re.DOTALL)
    assert form is not None
    assert '<input type="hidden" name="queue" value="default">' in form[0]
