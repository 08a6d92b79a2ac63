"""The admin of schedules: what it shows, who may do what, and what is done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from canx_flow import Context, schedule, schedules, workflow
from canx_flow.admin.schedule_forms import ScheduleForm
from canx_flow.core import clock
from canx_flow.core import schedules as declarations
from canx_flow.models import Schedule, WorkflowRun
from canx_flow.testing import advance, run_until_idle

from .conftest import Person, url

pytestmark = [pytest.mark.django_db, pytest.mark.once]

BEGIN = datetime(2026, 3, 28, 12, tzinfo=UTC)


@workflow("adminschedules.long")
def long(ctx: Context, label: str = "a") -> None:
    """Wait until it is told to end."""
    ctx.wait_for("end", "end")


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    clock.shift(BEGIN - clock.now())
    schedule("nightly", long, cron="30 2 * * *", tz="Europe/Berlin")
    schedule("poll", long, every=timedelta(hours=1))
    run_until_idle()
    yield
    for name in ("nightly", "poll"):
        declarations.forget(name)


@pytest.fixture
def manager(person: Person) -> Client:
    """Somebody who may look at schedules and runs, and manage schedules."""
    return person("view_schedule", "manage_schedule", "view_workflowrun", "view_payloads", name="manager")


def _row(name: str = "nightly") -> Schedule:
    return Schedule.objects.get(name=name)


def _page(client: Client, what: str, *arguments: object) -> str:
    answer = client.get(url(what, *arguments, model="schedule"))
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_list_says_what_was_skipped_and_why(manager: Client) -> None:
    """With the run in the way, the last run and its state."""
    advance(timedelta(hours=3))
    page = _page(manager, "changelist")
    assert "every 1 h" in page
    assert f"2 ticks were skipped: run {_row('poll').last_run_id} has not ended." in page
    assert re.search(r"has not ended\. The first: <time [^>]*>[^<]+ ago</time>\.", page)
    assert "canx-waiting" in page


def test_a_page_shows_the_next_ten_moments_in_both_zones(manager: Client) -> None:
    """In the schedule's zone and in the reader's, with what the clocks do."""
    page = _page(manager, "change", _row().pk)
    assert "2026-03-29 03:00:00 CEST" in page
    assert "(2026-03-29 01:00:00 UTC)" in page
    assert "The clocks skip the time right before this." in page
    assert page.count(" CEST") >= 10


@pytest.mark.parametrize("verb", ["pause", "trigger", "backfill"])
def test_nobody_does_anything_without_the_permission(person: Person, verb: str) -> None:
    """Neither by the page that asks nor by a POST; who may look sees no buttons."""
    looker = person("view_schedule", name="looker")
    assert f"/{verb}/" not in _page(looker, "change", _row().pk)
    for method in (looker.get, looker.post):
        assert method(url(verb, _row().pk, model="schedule")).status_code == 403
    assert looker.post(url("new", model="schedule")).status_code == 403


def test_pause_and_resume_are_asked_for_and_logged(manager: Client) -> None:
    """The note is shown with who has paused it; a GET changes nothing."""
    pause, resume = (url(verb, _row().pk, model="schedule") for verb in ("pause", "resume"))
    assert "Pause this schedule?" in manager.get(pause).content.decode()
    assert not _row().paused
    assert manager.post(pause, {"reason": "month's end"}).status_code == 302
    assert (_row().paused, _row().paused_by, _row().note) == (True, "manager", "month's end")
    page = _page(manager, "change", _row().pk)
    assert "month&#x27;s end" in page
    assert "Paused by" in page
    assert "Paused by" not in _page(manager, "change", _row("poll").pk)
    manager.post(resume, {"reason": ""})
    assert not _row().paused
    assert [entry.change_message for entry in LogEntry.objects.order_by("id")] == [
        "Paused. Reason: month's end",
        "Resumed.",
    ]


def test_the_second_of_two_who_do_the_same_is_told_so(manager: Client) -> None:
    """And has no entry in the log, whether they pause it or resume it."""
    for verb in ("pause", "resume"):
        for expected in ("SUCCESS", "WARNING"):
            answer = manager.post(url(verb, _row().pk, model="schedule"), {"reason": expected}, follow=True)
            assert [said.level_tag.upper() for said in answer.context["messages"]] == [expected], verb
    assert [entry.change_message for entry in LogEntry.objects.order_by("id")] == [
        "Paused. Reason: SUCCESS",
        "Resumed. Reason: SUCCESS",
    ]


def test_a_double_click_triggers_one_run(manager: Client) -> None:
    """Both answers lead to it; opened anew, the page starts another."""
    address = url("trigger", _row().pk, model="schedule")
    for number in (1, 2):
        form = manager.get(address).context["form"]
        given = {"reason": "", "once": str(form["once"].value())}
        for _click in range(2):
            assert "Started:" in manager.post(address, given, follow=True).content.decode()
        assert WorkflowRun.objects.count() == LogEntry.objects.count() == number


def test_one_that_is_not_there_is_named_as_missing(manager: Client) -> None:
    """Instead of a list without a word."""
    answer = manager.get(url("pause", 4711, model="schedule"), follow=True)
    assert "There is no such schedule." in answer.content.decode()


def test_the_list_reads_last_runs_at_once_and_nothing_of_what_they_were_given(manager: Client) -> None:
    """However many schedules there are: a page of them has as many queries, and no value of a run is read."""
    counts = []
    for number in (1, 10):
        for n in range(number):
            schedule(f"more {number} {n}", long, every=timedelta(hours=1))
        run_until_idle()
        advance(timedelta(hours=1))
        _page(manager, "changelist")  # What its banner says is kept for the next one.
        with CaptureQueriesContext(connection) as captured:
            _page(manager, "changelist")
        counts.append(len(captured))
    assert counts[0] == counts[1]
    runs = WorkflowRun._meta.db_table
    read = [query["sql"] for query in captured if runs in query["sql"]]
    assert [sql for sql in read if "result" in sql or "first_attributes" in sql] == []
    for number in (1, 10):
        for n in range(number):
            declarations.forget(f"more {number} {n}")


def test_a_note_is_for_those_who_may_view_payloads(person: Person) -> None:
    """As the reasons of all calls are. What is hostile in it is shown."""
    schedules.pause("nightly", "s3cr3t \u202e", by="ada")
    manager, seer = person("view_schedule", name="blind"), person("view_schedule", "view_payloads", name="seer")
    assert "ada" in _page(manager, "change", _row().pk)
    assert "s3cr3t" not in _page(manager, "change", _row().pk)
    assert "s3cr3t" in _page(seer, "change", _row().pk)
    assert "\u202e" not in _page(seer, "change", _row().pk)


def test_trigger_starts_a_run(manager: Client) -> None:
    """It says which, and who did it is stored with the run."""
    answer = manager.post(url("trigger", _row().pk, model="schedule"), {"reason": "to see"}, follow=True)
    run = WorkflowRun.objects.get()
    assert str(run.id) in answer.content.decode()
    assert (run.control_by, run.control_reason) == ("manager", "to see")


def test_backfill_counts_first(manager: Client) -> None:
    """The first POST says how many runs that would be, and only a second one, sure of that number, starts them."""
    address = url("backfill", _row().pk, model="schedule")
    given = {
        "start": "2026-03-20T00:00", "end": "2026-03-25T00:00:00", "priority": "-9", "reason": "", "sure": "",
    }  # fmt: skip
    page = manager.post(address, given).content.decode()
    assert "5 ticks have no run." in page
    assert 'name="sure" value="5"' in page
    assert not WorkflowRun.objects.exists()
    manager.post(address, {**given, "sure": "4"})
    assert not WorkflowRun.objects.exists()
    page = manager.post(address, {**given, "sure": "5"}, follow=True).content.decode()
    assert "5 runs were started." in page
    assert {run.priority for run in WorkflowRun.objects.all()} == {-9}
    assert "0 ticks have no run." in manager.post(address, {**given, "sure": "0"}).content.decode()
    late = {**given, "end": "2027-01-01T00:00"}
    assert "end must not be in the future" in manager.post(address, late).content.decode()


def test_a_schedule_is_made_here(manager: Client) -> None:
    """Its arguments are checked against the signature, its rule as one in code; it ticks though nobody declares it."""
    address = url("new", model="schedule")
    given = {
        "name": "mine", "workflow": "adminschedules.long", "cron": "0 * * * *", "every": "", "tz": "UTC",
        "arguments": '["b"]', "overlap": "allow_all", "catch_up": "one",
    }  # fmt: skip
    wrong = {
        "name": "poll", "arguments": '["b", "c"]', "cron": "61 * * * *", "tz": "Mars/Phobos", "overlap": "both",
        "every": "1:00:00", "workflow": "none",
    }  # fmt: skip
    for field, value in wrong.items():
        page = manager.post(address, {**given, field: value}).content.decode()
        assert "errorlist" in page, field
    schedule("unwritten", long, every=60)
    assert "There is a schedule of this name." in manager.post(address, {**given, "name": "unwritten"}).content.decode()
    declarations.forget("unwritten")
    assert Schedule.objects.count() == 2
    assert manager.post(address, given).status_code == 302
    assert _row("mine").origin == Schedule.ADMIN
    advance(timedelta(hours=2))
    runs = WorkflowRun.objects.filter(key__startswith="mine@")
    assert [run.arguments for run in runs] == ['[["b"],{}]'] * 2
    assert [entry.change_message for entry in LogEntry.objects.all()] == ["Added."]
    assert schedules.upcoming("mine", 1) == [BEGIN + timedelta(hours=3)]


def test_of_two_who_add_the_same_name_the_second_is_told_so(manager: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although it was free when it was checked: theirs is not said to be added, nor logged."""
    given = {
        "name": "mine", "workflow": "adminschedules.long", "cron": "0 * * * *", "every": "", "tz": "UTC",
        "arguments": '["b"]', "overlap": "allow_all", "catch_up": "one",
    }  # fmt: skip
    assert manager.post(url("new", model="schedule"), given).status_code == 302
    monkeypatch.setattr(ScheduleForm, "clean_name", lambda form: form.cleaned_data["name"])
    page = manager.post(url("new", model="schedule"), {**given, "cron": "5 * * * *"}).content.decode()
    assert "There is a schedule of this name." in page
    assert LogEntry.objects.count() == 1
    assert "0 * * * *" in _row("mine").spec


def test_the_page_that_fills_in_needs_no_script(manager: Client) -> None:
    """Django's own fields for moments want a catalogue that no page that asks has; the time zone is said."""
    page = manager.get(url("backfill", _row().pk, model="schedule")).content.decode()
    assert page.count('type="datetime-local"') == 2
    assert "In the time zone UTC." in page
    assert "DateTimeShortcuts" not in page
