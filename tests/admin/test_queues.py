"""The page of queues."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from canx_flow import queues
from canx_flow.admin.filters import DueFilter
from canx_flow.core import clock
from canx_flow.insight import traffic
from canx_flow.models import PausedWorkflow, Queue, Worker, WorkflowRun

from . import runs
from .conftest import VIEW, Person, url
from .runs import HOUR, anything, at_rest
from .test_csp import forbidden
from .test_dashboard import noon, page, text

pytestmark = pytest.mark.django_db

__all__ = ["noon"]


def rows(content: str) -> list[list[str]]:
    """The table, cell by cell, without the command that starts a worker."""
    body = content.partition("<tbody>")[2].partition("</tbody>")[0]
    cells = [re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL) for row in re.findall(r"<tr.*?</tr>", body, re.DOTALL)]
    return [[text(re.sub(r"<button.*?</button>", "", cell)).strip() for cell in row] for row in cells]


def test_each_queue_says_what_is_due_and_who_serves_it(operator: Client, noon: Any) -> None:
    """Due, for how long the oldest, running, the workers; what nobody serves comes first, with the command."""
    runs.running()
    first = anything.using(queue="mail").start()
    noon.tick(125)
    Worker.objects.update(queues='["default"]')
    anything.using(queue="mail").start()
    content = page(operator, url("queues"))
    found = rows(content)
    short = f"{str(first)[:8]}…{str(first)[-4:]}"
    [default] = [row for row in found if row[0] == "default"]
    assert default[3] == "1"
    assert found[0][:4] == ["mail", "2", f"2 min 5 s {short}", "0"]
    assert found[0][6].startswith("No live worker serves it. manage.py runflowworker --queue mail")
    assert url("change", first) in content
    assert "canx-queue-bad" in content


def test_each_queue_says_what_sleeps_there_and_what_has_finished(operator: Client, noon: Any) -> None:
    """What sleeps, waits or retries leads to these runs; of what ended in the last minute it is said what failed."""
    for state, queue in (("sleep", "mail"), ("wait", "mail"), ("retry", "mail"), ("sleep", "slow"), ("", "mail")):
        WorkflowRun.objects.filter(id=at_rest(state)).update(queue=queue)
    WorkflowRun.objects.filter(id=runs.MAKE["failed"]()).update(queue="mail")
    content = page(operator, url("queues"))
    found = {row[0]: row[4:6] for row in rows(content)}
    assert found["mail"] == ["3", "2 (1 failed)"]
    assert found["slow"] == ["1", "0"]
    assert found["default"] == ["0", "0"]
    [link] = re.findall(r'<a href="([^"]+)">3</a>', content)
    assert operator.get(unescape(link)).context["cl"].result_count == 3
    noon.tick(61)
    assert {row[0]: row[5] for row in rows(page(operator, url("queues")))}["mail"] == "0"


def test_what_was_counted_up_to_a_limit_says_so(operator: Client, monkeypatch: pytest.MonkeyPatch, noon: Any) -> None:
    """By the sign before the number; and by a line, where there are older runs than were asked for their ends."""
    monkeypatch.setattr(traffic, "MOST_SUSPENDED", 1)
    monkeypatch.setattr(traffic, "MOST_STARTED", 2)
    for _ in range(2):
        WorkflowRun.objects.filter(id=at_rest("sleep")).update(queue="mail")
    said = "What has finished is counted of the newest runs, those that started since"
    content = page(operator, url("queues"))
    assert {row[0]: row[4:6] for row in rows(content)}["mail"] == ["≥1", "≥0"]
    assert said in content
    noon.tick(61)
    assert {row[0]: row[5] for row in rows(page(operator, url("queues")))}["mail"] == "0"


def test_workers_are_linked_and_silent_ones_said_so(operator: Client, noon: Any) -> None:
    """By those who may see workers."""
    worker = runs.a_worker(name="w-1", queues=["mail"])
    noon.tick(60)
    live = runs.a_worker(name="w-2", queues=["mail"])
    content = page(operator, url("queues"))
    [mail] = [row for row in rows(content) if row[0] == "mail"]
    assert mail == ["mail", "0", "", "0", "0", "0", "w-2 , w-1 silent", "Change"]
    assert url("change", worker.pk, model="worker") in content
    assert url("change", live.pk, model="worker") in content


def test_it_is_for_those_who_may_see_runs(person: Person) -> None:
    """Of workers the names alone are shown to those who may not see workers."""
    worker = runs.a_worker(name="w-1")
    assert person("view_worker", name="other").get(url("queues")).status_code == 403
    content = page(person(VIEW), url("queues"))
    assert "w-1" in content
    assert url("change", worker.pk, model="worker") not in content
    assert url("changelist", model="worker") not in content


def test_a_queue_leads_to_its_runs(operator: Client) -> None:
    """However it is called."""
    anything.using(queue="a&b=c").start()
    content = page(operator, url("queues"))
    assert f"{url('changelist')}?state=unfinished&amp;queue=a%26b%3Dc" in content
    assert forbidden(content) == []


def test_the_number_of_due_runs_leads_to_these(operator: Client) -> None:
    """In the list, of this queue, and no other that has not finished."""
    WorkflowRun.objects.filter(id=at_rest("sleep")).update(queue="mail")
    due = {str(anything.using(queue="mail").start()) for _ in range(2)}
    anything.start()
    content = page(operator, url("queues"))
    [link] = re.findall(r'<a href="([^"]+)">2</a>', content)
    listed = operator.get(unescape(link))
    assert {str(run.id) for run in listed.context["cl"].result_list} == due
    assert listed.context["cl"].result_count == 2
    everywhere = operator.get(url("changelist"), {"state": "all", "due": "now"})
    assert everywhere.context["cl"].result_count == 3
    assert "due now" in everywhere.content.decode()


def test_of_very_many_due_runs_those_that_come_first_are_listed(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as a list counts; by priority, then by age."""
    monkeypatch.setattr(DueFilter, "most", 2)
    first, _second = anything.start(), anything.start()
    urgent = anything.using(priority=1).start()
    listed = operator.get(url("changelist"), {"state": "all", "due": "now", "queue": "default"})
    assert [run.id for run in listed.context["cl"].result_list] == [urgent, first]


def _levels(content: str) -> dict[str, str]:
    """What is wrong with each queue, by the row that says it."""
    found = re.findall(r'<tr data-canx-key="([^"]*)"(?: class="canx-queue-(\w+)")?>', content)
    return dict(found)


def test_a_queue_in_which_nothing_is_left_is_no_reason_to_warn(operator: Client) -> None:
    """Nobody declares it any more, and all that was started there has ended; else it needs a worker."""
    for queue in ("gone", "asleep", "declared"):
        WorkflowRun.objects.filter(id=at_rest()).update(queue=queue)
    WorkflowRun.objects.filter(id=at_rest("sleep")).update(queue="asleep")
    runs.a_worker(name="w-1", queues=["default"])
    silent = runs.a_worker(name="w-2", queues=["declared"])
    Worker.objects.filter(id=silent.id).update(beat_at=clock.now() - HOUR)
    found = _levels(page(operator, url("queues")))
    assert {name: found[name] for name in ("asleep", "declared", "default", "gone")} == {
        "asleep": "warn", "declared": "warn", "default": "", "gone": "",
    }  # fmt: skip
    said = text(operator.get(url("changelist"), {"state": "all"}).content.decode())
    assert "asleep (no worker)" in said
    assert "gone (no worker)" not in said
    assert " gone " in said


def test_the_number_of_queries_does_not_grow(operator: Client) -> None:
    """With queues, runs or workers."""
    counts = []
    for names in ("a", "bcdefg"):
        for name in names:
            anything.using(queue=name).start()
            runs.a_worker(name=name, queues=[name])
        page(operator, url("queues"))
        with CaptureQueriesContext(connection) as captured:
            page(operator, url("queues"))
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 24


def test_a_queue_is_paused_limited_and_resumed_from_its_page(operator: Client, noon: Any) -> None:
    """By a form and a POST, with a reason, logged; what an operator has set stands in the list."""
    anything.using(queue="mail").start()
    assert url("queue", "mail") in page(operator, url("queues"))
    given = {"paused": "on", "reason": "the provider is down", "concurrency": "3", "rate": "none"}
    assert operator.post(url("queue", "mail"), given).status_code == 302
    row = Queue.objects.get(name="mail")
    assert (row.paused, row.paused_reason, row.limits.concurrency) == (True, "the provider is down", 3)
    [mail] = [found for found in rows(page(operator, url("queues"))) if found[0] == "mail"]
    assert mail[7].startswith("paused by")
    assert ": the provider is down concurrency 3, rate none Change" in mail[7]
    assert LogEntry.objects.get().change_message == (
        "Paused. Limits: concurrency 3, rate none. Reason: the provider is down"
    )
    content = page(operator, url("queue", "mail"))
    assert 'value="3"' in content
    assert "the provider is down" in content
    saved(operator, shown(operator, "mail"), paused="", concurrency="")
    row.refresh_from_db()
    assert (row.paused, row.limits.concurrency, row.apart) == (False, None, False)
    assert LogEntry.objects.latest("id").change_message == "Resumed. Limits: concurrency settings."


def shown(client: Client, queue: str) -> dict[str, str]:
    """What the form of a queue's page would send as it stands."""
    return {"": url("queue", queue), **fields(page(client, url("queue", queue)))}


def fields(content: str) -> dict[str, str]:
    """What the form of a page would send as it stands."""
    form = content[content.index("canx-confirm") :]
    found = {}
    for tag in re.findall(r"<input[^>]* name=[^>]*>", form):
        about = dict(re.findall(r' (name|value|type)="([^"]*)"', tag))
        if about.get("type") != "checkbox" or " checked" in tag:
            found[about["name"]] = about.get("value", "on" if about.get("type") == "checkbox" else "")
    return found


def saved(client: Client, form: dict[str, str], **changed: str) -> list[str]:
    """Send a form with these changes; what the next page says to the person."""
    given = {name: value for name, value in {**form, **changed}.items() if name and (name != "paused" or value)}
    return [str(said) for said in client.post(form[""], given, follow=True).context["messages"]]


def test_who_saves_a_queue_undoes_nothing_that_another_did_meanwhile(operator: Client) -> None:
    """Neither a pause nor a limit: what the page had shown is not what this person has changed."""
    before = shown(operator, "mail")
    saved(operator, before, paused="on", reason="the provider is down", concurrency="5")
    saved(operator, before, rate="5/s")
    row = Queue.objects.get(name="mail")
    assert (row.paused, row.limits.concurrency, str(row.limits.rate)) == (True, 5, "5/s")
    assert LogEntry.objects.latest("id").change_message == "Limits: rate 5/s."
    after = shown(operator, "mail")
    assert saved(operator, after) == ["Nothing was changed: it stood so before."]


def test_the_second_of_two_who_pause_a_queue_is_told_so(operator: Client) -> None:
    """And nothing is logged of it: the reason that stands there is the first one's."""
    before = shown(operator, "mail")
    assert saved(operator, before, paused="on", reason="first") == ["Queue mail was changed."]
    assert saved(operator, before, paused="on", reason="second") == ["Nothing was changed: it stood so before."]
    assert Queue.objects.get(name="mail").paused_reason == "first"
    assert LogEntry.objects.get().change_message == "Paused. Reason: first"


def test_reasons_are_for_those_who_may_view_payloads(person: Person, operator: Client) -> None:
    """Of queues and of workflows, also on the pages that change them; who paused them is for all."""
    queues.pause("mail", "s3cr3t", by="ada")
    queues.pause_workflow(anything.name, "s3cr3t", by="ada")
    anything.start()
    other = person(VIEW, "manage_queue", name="other")
    for address in (url("queues"), url("queue", "mail"), url("workflow", anything.name)):
        assert "by ada: s3cr3t" in text(page(operator, address)), address
        assert "by ada" in page(other, address), address
        assert "s3cr3t" not in page(other, address), address


def test_a_workflow_is_paused_and_resumed(operator: Client) -> None:
    """From its page, and from the page of queues, which lists it; with a reason, and logged once."""
    anything.start()
    asked, about = url("pause_workflow", anything.name), url("workflow", anything.name)
    assert asked in page(operator, about)
    assert "Pause this workflow?" in page(operator, asked)
    assert not PausedWorkflow.objects.exists()
    for reason in ("a bad release", "again"):
        assert operator.post(asked, {"reason": reason}).status_code == 302
    assert PausedWorkflow.objects.get().reason == "a bad release"
    resume = url("resume_workflow", anything.name)
    assert resume in page(operator, about)
    content = page(operator, url("queues"))
    assert f"Paused workflow: {anything.name} by operator: a bad release" in text(content)
    assert resume in content
    assert operator.post(resume, {"reason": ""}).status_code == 302
    assert not PausedWorkflow.objects.exists()
    operator.post(resume)
    entries = LogEntry.objects.order_by("id").values_list("object_id", "change_message")
    assert list(entries) == [(anything.name, "Paused. Reason: a bad release"), (anything.name, "Resumed.")]


def test_the_page_of_a_run_says_what_can_be_done_about_a_pause(operator: Client) -> None:
    """Of its queue and of its workflow: the command that has its runs claimed again."""
    run_id = anything.using(queue="a mail").start()
    queues.pause("a mail")
    queues.pause_workflow(anything.name)
    said = text(page(operator, url("change", run_id)))
    assert "To have its runs claimed again: manage.py flow queue resume 'a mail'" in said
    assert f"manage.py flow queue resume {anything.name} --workflow" in said


def test_a_workflow_leads_to_its_runs_whatever_it_is_called(operator: Client) -> None:
    """An ampersand in its name is no end of the address."""
    WorkflowRun.objects.filter(id=anything.start()).update(workflow="a&b=c")
    content = page(operator, url("workflow", "a&b=c"))
    assert f"{url('changelist')}?state=all&amp;workflow=a%26b%3Dc" in content


def test_a_workflow_is_paused_by_who_may_manage_queues_alone(person: Person) -> None:
    """Neither by the page that asks nor by a POST; who may look sees no way there."""
    client = person(VIEW)
    anything.start()
    assert url("pause_workflow", anything.name) not in page(client, url("workflow", anything.name))
    for verb in ("pause_workflow", "resume_workflow"):
        assert client.get(url(verb, anything.name)).status_code == 403
        assert client.post(url(verb, anything.name)).status_code == 403
    assert not PausedWorkflow.objects.exists()


def test_limits_of_steps_are_read_by_as_many_queries_however_many_there_are(operator: Client, settings: Any) -> None:
    """The page says of each what it allows."""
    counts = []
    for number in (1, 9):
        limits = {f"provider {n}": {"concurrency": 2, "rate": "5/s"} for n in range(number)}
        settings.CANX_FLOW = {**settings.CANX_FLOW, "LIMITS": limits}
        page(operator, url("queues"))
        with CaptureQueriesContext(connection) as captured:
            assert f"provider {number - 1}" in page(operator, url("queues"))
        counts.append(len(captured))
    assert counts[0] == counts[1]


def test_a_bad_limit_is_refused_at_its_field(operator: Client) -> None:
    """Nothing is changed."""
    answer = operator.post(url("queue", "mail"), {"concurrency": "many", "rate": "fast"})
    assert answer.status_code == 200
    content = answer.content.decode()
    assert "concurrency must be an int or None, not str" in content
    assert "rate must be like" in content
    assert not Queue.objects.exists()


def test_only_those_who_may_manage_queues_change_them(person: Person) -> None:
    """Who may see runs alone sees no link, and is refused."""
    client = person(VIEW)
    anything.using(queue="mail").start()
    assert url("queue", "mail") not in page(client, url("queues"))
    assert client.get(url("queue", "mail")).status_code == 403
    assert client.post(url("queue", "mail"), {"paused": "on"}).status_code == 403
    assert not Queue.objects.exists()
