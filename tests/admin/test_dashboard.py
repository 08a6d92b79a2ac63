"""The dashboard: a page of its own, and in short on the admin's index."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from freezegun import freeze_time

from canx_flow.admin import dashboard
from canx_flow.insight import alike, throughput
from canx_flow.models import StepRecord, WorkflowRun

from . import runs
from .conftest import RETRY, VIEW, Person, url
from .runs import MAKE, SCRIPT, at_rest, state
from .test_acting import messages
from .test_bulk import confirm
from .test_csp import forbidden

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
INDEX = "/admin/"


@pytest.fixture(autouse=True)
def noon() -> Iterator[Any]:
    """The clock of these tests, which stands until it is moved."""
    with freeze_time(START) as clock:
        yield clock


@pytest.fixture
def observer(person: Person) -> Client:
    """Somebody who sees which runs there are, and nothing of what they hold, and may retry."""
    return person(VIEW, RETRY, name="observer")


def page(client: Client, address: str = "", **query: str) -> str:
    """The page as it was sent."""
    response = client.get(address or url("dashboard"), query)
    assert response.status_code == 200
    return response.content.decode()


def text(content: str) -> str:
    """What can be read of it, titles of bars aside."""
    bare = re.sub(r"<(title|style|script)\b.*?</\1>", "", content, flags=re.DOTALL)
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", bare)))


def rows(content: str) -> list[list[str]]:
    """The table of failures, cell by cell."""
    table = re.search(r'<table class="canx-table canx-alike">.*?</table>', content, re.DOTALL)
    if table is None:
        return []
    return [
        [text(cell).strip() for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
        for row in re.findall(r"<tr\b[^>]*>(.*?)</tr>", table[0].partition("<tbody>")[2], re.DOTALL)
    ]


def tiles(content: str) -> dict[str, str]:
    """The numbers, by what they count."""
    found = re.findall(r'<span class="canx-tile-label">(.*?)</span> <strong>(.*?)</strong>', content, re.DOTALL)
    return {text(label).strip(): number for label, number in found}


def press(client: Client, content: str, label: str) -> Any:
    """Press this button."""
    for form in re.findall(r"<form.*?</form>", content, re.DOTALL):
        if f">{label}</button>" in form:
            action = re.search(r'action="([^"]+)"', form)
            assert action is not None
            fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form))
            return client.post(unescape(action[1]), {name: unescape(value) for name, value in fields.items()})
    raise AssertionError(label)


# -- numbers -----------------------------------------------------------------------------------------


def test_runs_are_counted_by_state(viewer: Client) -> None:
    """Each number leads to these runs; of those that have completed it is the last ones."""
    for make in MAKE.values():
        make()
    content = page(viewer)
    found = tiles(content)
    assert {name: found[name] for name in MAKE} == dict.fromkeys(MAKE, "1")
    for name in MAKE:
        assert f'href="{url("changelist")}?state={name}"' in content
    assert {name: found[name] for name in ("Due", "Live workers", "Silent workers")} == {
        "Due": "1", "Live workers": "2", "Silent workers": "0",
    }  # fmt: skip


def test_what_is_due_and_who_works_is_said(viewer: Client, noon: Any) -> None:
    """Red where no live worker serves what is due; a silent one is no live one."""
    runs.a_worker(name="w-1", queues=["mail"])
    runs.pending()
    noon.tick(60)
    content = page(viewer)
    found = tiles(content)
    assert (found["Due"], found["Oldest due"]) == ("1", "1 min")
    assert (found["Live workers"], found["Silent workers"]) == ("0", "1")
    assert content.count('class="canx-tile-bad"') == 3
    assert url("queues") in content


def test_what_started_and_ended_is_drawn_and_stands_in_a_table(viewer: Client, noon: Any) -> None:
    """The same numbers in both, and in the totals; per minute, hour and day."""
    at_rest(), at_rest(), at_rest("fail", note="x")
    noon.tick(60)
    at_rest()
    for per, labels in (
        ("minute", ("12:00 3 2 1", "12:01 1 1 0")),
        ("hour", ("12:00 4 3 1",)),
        ("day", ("03-01 4 3 1",)),
    ):
        content = page(viewer, per=per)
        said = text(content)
        assert all(label in said for label in labels), per
        assert "4 started" in said, per
        assert "3 completed" in said, per
        assert "1 failed" in said, per
        titles = re.findall(r"<g><title>(.*?)</title>", content)
        assert len(titles) == throughput.SPANS[per]
        assert sum(int(title.split(": ")[1].split(" started")[0]) for title in titles) == 4
    assert "2026-03-01 12:00: 3 started, 2 completed, 1 failed" in page(viewer, per="minute")


def test_bars_are_to_one_scale(viewer: Client) -> None:
    """The highest is as high as the plot; what failed stands on what has completed."""
    at_rest(), at_rest(), at_rest("fail", note="x"), at_rest("sleep")
    content = page(viewer)
    bars = {
        name: (float(y), float(height))
        for name, y, height in re.findall(
            r'<rect class="canx-(\w+)-bar" x="[\d.]+%" y="([\d.]+)" width="[\d.]+%" height="([\d.]+)"', content
        )
    }
    assert bars == {"started": (16.0, 112.0), "completed": (72.0, 56.0), "failed": (44.0, 28.0)}


def test_what_was_not_looked_at_is_said(viewer: Client, noon: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No zero stands where no number is known."""
    at_rest()
    noon.tick(600)
    monkeypatch.setattr(throughput, "MOST_RUNS", 1)
    at_rest()
    said = text(page(viewer))
    assert "Completions are counted of the newest runs, those that started since now ." in said
    assert "12:00 1 \N{EN DASH} 0" in said
    assert "≥1 completed" in said
    assert "canx-gap" in page(viewer)


def test_an_odd_scale_is_the_usual_one(viewer: Client) -> None:
    """Whatever stands in the address."""
    assert "In the last hour" in text(page(viewer, per=SCRIPT))


def test_the_slowest_steps_are_listed(viewer: Client) -> None:
    """With the run in which each took longest."""
    run_id = at_rest()
    StepRecord.objects.filter(name="begin").update(finished_at=START + HOUR)
    content = page(viewer)
    assert "begin admin.any 1 h 1 h 1" in text(content)
    assert url("change", run_id) in content


# -- what fails --------------------------------------------------------------------------------------


def test_failures_are_grouped_by_error(viewer: Client, noon: Any) -> None:
    """Type, what the messages have in common, where, how many, first and last, an example."""
    at_rest("fail", note="17"), at_rest("fail", note="'x'")
    noon.tick(3600)
    last = at_rest("fail", note="18")
    found = rows(page(viewer))
    short = f"{str(last)[:8]}…{str(last)[-4:]}"
    assert found == [
        ["ValueError no …", "admin.any / hopeless", "3", "1 h ago", "now", "", short, "Show"],
    ]  # fmt: skip
    assert "3 in the last 24 hours" in page(viewer)


def test_what_failed_alike_is_listed(viewer: Client) -> None:
    """And nothing else is."""
    alike_ = [at_rest("fail", note=note) for note in ("1", "2")]
    other = at_rest("fail", note="luck")
    content = page(viewer)
    [address] = {unescape(link) for link in re.findall(r'href="([^"]+alike=[^"]+)"', content) if "no …" in content} & {
        f"{url('changelist')}?state=failed&alike={WorkflowRun.objects.get(id=alike_[0]).error_print}"
    }
    listed = page(viewer, address)
    assert all(str(run_id) in listed for run_id in alike_)
    assert str(other) not in listed


def test_those_that_failed_alike_are_retried_after_a_page_that_asks(operator: Client) -> None:
    """That page counts those that were there when the dashboard was drawn; one that failed since is not touched."""
    chosen = [at_rest("fail", note=str(number)) for number in range(3)]
    other = at_rest("fail", note="luck")
    content = page(operator)
    with freeze_time(START + HOUR):
        late = at_rest("fail", note="9")
        asked = press(operator, content, "Retry these 3")
        assert "3 of 3 will be retried." in asked.content.decode()
        assert {state(run_id) for run_id in (*chosen, late)} == {"failed"}
        query = f"?state=failed&alike={WorkflowRun.objects.get(id=late).error_print}"
        assert messages(confirm(operator, asked, "psp is back", query=query)) == ["3 retried"]
    assert {state(run_id) for run_id in chosen} == {"pending"}
    assert {state(run_id) for run_id in (late, other)} == {"failed"}
    assert LogEntry.objects.filter(change_message="Retried. Reason: psp is back").count() == 3


def test_a_single_one_is_called_so(operator: Client) -> None:
    """And the button leads to the page that asks, too."""
    at_rest("fail", note="x")
    assert "1 of 1 will be retried." in press(operator, page(operator), "Retry this one").content.decode()


def test_the_button_is_for_those_who_may_retry(viewer: Client) -> None:
    """A user who only looks has the link alone; what the button posts does nothing for such a user."""
    run_id = at_rest("fail", note="x")
    assert "<button" not in page(viewer).partition("canx-alike")[2].partition("</table>")[0]
    fingerprint = WorkflowRun.objects.get(id=run_id).error_print
    data = {"action": "retry_runs", "select_across": "1", "index": "0", "_selected_action": str(run_id)}
    viewer.post(f"{url('changelist')}?state=failed&alike={fingerprint}", {**data, "confirmed": "yes"})
    assert state(run_id) == "failed"


def test_without_payloads_there_is_the_type_alone(observer: Client) -> None:
    """Whatever the messages say: no pattern, no filter, and no button, which would need that filter."""
    at_rest("fail", note="1"), at_rest("fail", note="luck")
    content = page(observer)
    [[error, where, number, *_others, do]] = rows(content)
    assert (error, where, number, do) == ("ValueError", "admin.any / hopeless", "2", "")
    assert "alike=" not in content
    response = observer.get(url("changelist"), {"state": "failed", "alike": "x"})
    assert response["Location"] == f"{url('changelist')}?e=1"


def test_where_redact_is_set_there_is_the_type_alone(operator: Client, settings: Any) -> None:
    """Which can be listed and retried; whether a guess of a message is right is told by no filter."""
    run_id = at_rest("fail", note="1")
    at_rest("fail", note="luck")
    settings.CANX_FLOW = {**settings.CANX_FLOW, "REDACT": f"{__name__}.everything"}
    content = page(operator)
    [[error, *_]] = rows(content)
    assert error == "ValueError"
    assert "luck" not in content
    assert "2 of 2 will be retried." in press(operator, content, "Retry these 2").content.decode()
    fingerprint = str(WorkflowRun.objects.get(id=run_id).error_print)
    assert str(run_id) not in page(operator, url("changelist"), state="failed", alike=fingerprint)


def everything(_value: Any, **_names: Any) -> str:
    """Hide it."""
    return "(hidden)"


def test_it_says_that_there_may_be_more(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of failed runs and of kinds."""
    from canx_flow.admin import dashboard

    monkeypatch.setattr(alike, "MOST_RUNS", 3)
    monkeypatch.setattr(alike, "MOST_COUNTED", 2)
    monkeypatch.setattr(dashboard, "MOST_FAILURES", 1)
    for note in ("luck", "1", "2", "3"):
        at_rest("fail", note=note)
    content = page(viewer)
    [[_error, _where, number, *_]] = rows(content)
    assert number == "≥2"
    assert "Only the 3 failed runs that started last were looked at." in text(content)
    at_rest("fail", note="luck")
    assert "1 other error is not shown." in text(page(viewer))


def test_what_is_not_known_any_more_has_no_button(operator: Client) -> None:
    """Of an error that was damaged no index knows the type."""
    run_id = at_rest("fail", note="x")
    WorkflowRun.objects.filter(id=run_id).update(error="{", error_type=None, error_print=None)
    [[error, *_others, do]] = rows(page(operator))
    assert (error, do) == ("unknown", "")


def test_hostile_text_is_text(operator: Client) -> None:
    """In types, messages, names of workflows, steps and queues."""
    run_id = at_rest("fail", note=SCRIPT)
    error = WorkflowRun.objects.get(id=run_id).error
    assert error is not None
    WorkflowRun.objects.filter(id=run_id).update(
        error_type=SCRIPT, workflow=SCRIPT, error=error.replace("hopeless", SCRIPT)
    )
    WorkflowRun.objects.create(workflow=SCRIPT, queue=SCRIPT)
    StepRecord.objects.filter(run_id=run_id, name="begin").update(name=SCRIPT, finished_at=START)
    for address in (url("dashboard"), INDEX, url("queues")):
        content = page(operator, address)
        assert SCRIPT not in content
        assert "&lt;script&gt;" in content
        assert forbidden(content) == []


# -- who, where, and at what cost --------------------------------------------------------------------


def test_it_is_for_those_who_may_see_runs(person: Person) -> None:
    """The page is refused, and the index has no block of it, without the permission."""
    client = person("view_worker")
    at_rest("fail", note="x")
    assert client.get(url("dashboard")).status_code == 403
    content = page(client, INDEX)
    assert "canx-dashboard" not in content
    assert "hopeless" not in content


def test_the_index_has_it_in_short(viewer: Client) -> None:
    """Numbers, bars and what fails; the rest is a link away."""
    at_rest("fail", note="x")
    content = page(viewer, INDEX)
    assert tiles(content)["failed"] == "1"
    assert [row[0] for row in rows(content)] == ["ValueError no x"]
    assert url("dashboard") in content
    assert "Slowest steps" not in content


def _of_runs(client: Client) -> list[str]:
    """What the index asks of runs, once permissions and the banner are known."""
    with CaptureQueriesContext(connection) as captured:
        page(client, INDEX)
    return [query["sql"] for query in captured.captured_queries if "canx_flow_" in query["sql"]]


def test_the_index_shows_for_some_seconds_what_was_read(viewer: Client, noon: Any) -> None:
    """It is where everybody begins: however many do, runs are asked for once."""
    runs.pending()
    assert tiles(page(viewer, INDEX))["pending"] == "1"
    runs.pending()
    assert _of_runs(viewer) == []
    assert tiles(page(viewer, INDEX))["pending"] == "1"
    noon.tick(dashboard.FRESH)
    assert tiles(page(viewer, INDEX))["pending"] == "2"


def test_who_may_not_know_what_errors_say_is_not_shown_what_another_has_read(
    viewer: Client, observer: Client, settings: Any
) -> None:
    """Nor where `REDACT` hides it from everybody."""
    at_rest("fail", note="x")
    assert [row[0] for row in rows(page(viewer, INDEX))] == ["ValueError no x"]
    assert [row[0] for row in rows(page(observer, INDEX))] == ["ValueError"]
    settings.CANX_FLOW = {**settings.CANX_FLOW, "REDACT": "tests.admin.test_payloads.hide"}
    assert [row[0] for row in rows(page(viewer, INDEX))] == ["ValueError"]


@pytest.mark.urls("tests.admin.urls")
def test_it_is_on_any_site(admin_client: Client) -> None:
    """Its links stay there, and its button posts there; an admin of the project's own has it, too."""
    at_rest("fail", note="x")
    for site in ("office", "annex"):
        address = reverse("admin:canx_flow_workflowrun_dashboard", current_app=site)
        for where in (address, reverse("admin:canx_flow_workflowrun_queues", current_app=site)):
            links = re.findall(r'(?:href|action)="(/[^"]*)"', page(admin_client, where))
            assert links
            assert all(link.startswith((f"/{site}/", "/static/")) or link == "/" for link in links)
        assert press(admin_client, page(admin_client, address), "Retry this one").status_code == 200


@pytest.mark.urls("tests.admin.urls")
def test_the_tag_shows_it_on_the_index_of_any_site(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """`{% canx_dashboard %}` in a template of the site's own."""
    from .urls import office

    monkeypatch.setattr(office, "index_template", "admin/canx_flow/index.html")
    content = page(admin_client, "/office/")
    assert "/office/canx_flow/workflowrun/dashboard/" in content
    assert "/admin/canx_flow/workflowrun" not in content


@pytest.mark.parametrize("address", ["dashboard", "index"])
def test_the_number_of_queries_does_not_grow(operator: Client, address: str) -> None:
    """With runs, kinds of failures, queues, workers, steps."""
    at = INDEX if address == "index" else url("dashboard")
    WorkflowRun.objects.filter(id=at_rest()).update(queue="of old")
    counts = []
    for names in ("a", "bcdef"):
        for name in names:
            at_rest("fail", note=name), at_rest(), at_rest("sleep")
            runs.anything.using(queue=name).start()
            runs.a_worker(name=name)
        page(operator, at)  # The banner looks once in some seconds, and permissions are read once.
        dashboard.forget()
        with CaptureQueriesContext(connection) as captured:
            page(operator, at)
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 30


def test_it_needs_no_script(operator: Client) -> None:
    """Scales are links, the button is a form with its token; nothing is inline."""
    at_rest("fail", note="x")
    for address in (url("dashboard"), INDEX):
        content = page(operator, address)
        assert forbidden(content) == []
        form = re.search(r'<form method="post" action="[^"]*alike=.*?</form>', content, re.DOTALL)
        assert form is not None
        assert "csrfmiddlewaretoken" in form[0]
    assert '<a href="?per=day">' in page(operator)


def test_an_empty_database_has_a_dashboard(viewer: Client) -> None:
    """Where nothing has happened it says so."""
    said = text(page(viewer))
    assert "No run is failed." in said
    assert "None yet." in said
    assert tiles(page(viewer))["completed"] == "0"


@pytest.mark.django_db(databases=["default", "other"])
def test_it_is_of_the_database_of_the_runs(admin_client: Client, settings: Any) -> None:
    """No query of its own goes to another one."""
    at_rest("fail", note="x")
    settings.CANX_FLOW = {**settings.CANX_FLOW, "DATABASE": "other"}
    assert rows(page(admin_client)) == []
    at_rest("fail", note="y")
    with CaptureQueriesContext(connection) as captured:
        assert [row[0] for row in rows(page(admin_client))] == ["ValueError no y"]
        assert page(admin_client, url("queues"))
    assert not [query for query in captured.captured_queries if "canx_flow_" in query["sql"]]
