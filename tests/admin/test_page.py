"""The page of one run: where it stands, its values, its steps, escaped, redacted and cut to size."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from freezegun import freeze_time

from canx_flow import Context, StepFailed, send_event, workflow
from canx_flow import client as flow
from canx_flow.core import clock, codec, registry
from canx_flow.core.failures import failure_of
from canx_flow.models import Event, StepRecord, Worker, WorkflowRun
from canx_flow.store import leases
from canx_flow.testing import run_until_idle

from . import runs
from .conftest import Person, url
from .runs import HOUR, MAKE, SCRIPT, anything, at_rest

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def page(client: Client, run_id: UUID, what: str = "change", **query: str) -> str:
    """The run's page as HTML."""
    response = client.get(url(what, run_id), query)
    assert response.status_code == 200
    return response.content.decode()


def said(client: Client, run_id: UUID, what: str = "change", **query: str) -> str:
    """The run's page without its markup."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page(client, run_id, what, **query)))


# -- where it stands ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("pending", "no live worker serves queue default"),
        ("running", "worker elsewhere:4711"),
        ("sleeping", "nap : wakes in 1 h (March 1, 2026, 1 p.m.)"),
        ("waiting", "answer : for event answered , key k-1 , since 0 ms, times out in 2 h (March 1, 2026, 2 p.m.)"),
        ("retrying", "flaky : attempt 2 of 16 in 5 min (March 1, 2026, 12:05 p.m.) — ValueError: no luck"),
        ("paused", "by ada now (March 1, 2026, noon) : lunch ; nap : wakes in 1 h (March 1, 2026, 1 p.m.) , held"),
        ("parked", "UnknownWorkflow"),
        ("stopping", "will be cancelled, once the step in flight has ended"),
        ("completed", "after 0 ms, now (March 1, 2026, noon)"),
        ("failed", "hopeless: ValueError: no luck"),
        ("cancelled", "by ada now (March 1, 2026, noon) : changed her mind"),
    ],
)
def test_the_page_says_where_a_run_stands_and_why(viewer: Client, state: str, sentence: str) -> None:
    """One sentence for each state, with what only this run can say."""
    with freeze_time(START):
        run_id = MAKE[state]()
        text = said(viewer, run_id)
    assert sentence in text
    assert f" {state} " in text


def test_a_run_that_is_undone_says_what_is_left(viewer: Client) -> None:
    """How it will end, how many undo steps are left, and what the next one waits for."""
    with freeze_time(START):
        run_id = runs.at_rest("undo", note="luck")
        anything.cancel(run_id)
        assert "will be cancelled, once what it has done is undone" in said(viewer, run_id)
        run_until_idle()
        text = said(viewer, run_id)
    assert "will be cancelled, 2 undo steps are left" in text
    assert "charge[undo] : attempt 2 of 16 in 5 min" in text


def test_a_run_that_several_steps_ended_names_them_all(viewer: Client) -> None:
    """A group of failures: each of its steps gets fresh attempts when it is retried."""
    failure = failure_of(ExceptionGroup("no", [StepFailed("charge", 1), StepFailed("ship", 1)]))
    run_id = MAKE["failed"]()
    WorkflowRun.objects.filter(id=run_id).update(error=codec.dumps_plain(failure))
    assert "charge, ship: " in said(viewer, run_id)


def test_a_pending_run_waits_for_a_worker_of_its_queue(viewer: Client) -> None:
    """Whether some live worker listens to its queue makes all the difference."""
    run_id = anything.using(queue="slow").start()
    known = list(registry.identities())
    runs.a_worker(queues=["fast"], workflows=known)
    assert "no live worker serves queue slow" in said(viewer, run_id)
    runs.a_worker(queues=["fast", "slow"], workflows=known)
    assert "next free worker of queue slow" in said(viewer, run_id)
    # Killed, and no other worker is there to say so of it.
    Worker.objects.update(beat_at=clock.now() - 2 * HOUR)
    assert "no live worker serves queue slow" in said(viewer, run_id)


def test_a_run_that_was_cut_off_says_so(viewer: Client) -> None:
    """How often, and in which step its worker died, as far as that worker had told."""
    run_id = anything.start()
    WorkflowRun.objects.filter(id=run_id).update(recoveries=1)
    assert "cut off once: its worker died" in said(viewer, run_id)
    dead = Worker.objects.create(host="h", pid=1, activity=json.dumps({str(run_id): {"step": "charge"}}))
    leases.declare_dead(dead.id)
    WorkflowRun.objects.filter(id=run_id).update(recoveries=2)
    assert "cut off 2 times: its worker died in charge" in said(viewer, run_id)


def test_the_page_says_what_can_be_done(viewer: Client, operator: Client) -> None:
    """A button's link for who may press it, a command for who may not."""
    run_id = MAKE["failed"]()
    assert f"let it go on; what is finished stays finished: manage.py flow retry {run_id}" in said(viewer, run_id)
    content = page(operator, run_id)
    assert "let it go on; what is finished stays finished: Retry" in said(operator, run_id)
    assert f'<a href="{url("retry", run_id)}">' in content
    waiting = MAKE["waiting"]()
    assert f"To send what it waits for: manage.py flow send {waiting} answered JSON" in said(viewer, waiting)


def test_a_parked_run_says_its_reason_once(viewer: Client) -> None:
    """In its sentence; the error beside it is only its traceback."""
    run_id = runs.parked()
    reason = WorkflowRun.objects.get(id=run_id).reason
    error = {
        "type": "canx_flow.exceptions.UnknownWorkflow",
        "message": reason.partition(": ")[2],
        "traceback": "frames",
    }
    WorkflowRun.objects.filter(id=run_id).update(error=json.dumps(error))
    text = said(viewer, run_id).partition("Done by:")[0]
    assert text.count("It goes on when a worker starts that does.") == 1
    assert "frames" in text


def test_a_completed_run_shows_no_progress(viewer: Client) -> None:
    """What it said on its way is over."""
    run_id = at_rest()
    WorkflowRun.objects.filter(id=run_id).update(progress='{"done": 3, "total": 10, "message": ""}')
    assert "3 of 10" not in said(viewer, run_id)


def test_a_run_that_has_gone_on_with_other_code_says_so(viewer: Client) -> None:
    """In words, among the facts; one that has not says nothing of its code."""
    run_id = MAKE["completed"]()
    assert " Code " not in said(viewer, run_id)
    WorkflowRun.objects.filter(id=run_id).update(code_changed=True)
    assert "Code changed since the start; it has gone on with the new code" in said(viewer, run_id)


def test_a_delayed_start_and_a_late_timer_are_told(viewer: Client) -> None:
    """What is to come; and that it is late because nobody serves the queue."""
    with freeze_time(START) as clock:
        run_id = anything.using(delay=HOUR).start()
        assert "starts in 1 h" in said(viewer, run_id)
        clock.tick(2 * HOUR)
        assert "starts now, due 1 h ago" in said(viewer, run_id)
        assert "no live worker serves queue default" in said(viewer, run_id)


def test_a_run_that_failed_at_its_deadline_says_so(viewer: Client) -> None:
    """The reason stands where no step is to blame."""
    with freeze_time(START):
        run_id = runs.out_of_time()
        assert "RunTimedOut" in said(viewer, run_id)


def test_a_silent_worker_is_told_of(viewer: Client) -> None:
    """A running run whose worker was not heard of for longer than its lease."""
    with freeze_time(START) as clock:
        run_id = runs.running()
        clock.tick(60)
        assert "worker elsewhere:4711 silent for 1 min" in said(viewer, run_id)
        Worker.objects.update(state="dead")
        assert "its worker is gone" in said(viewer, run_id)


def test_facts_about_a_run_are_listed(operator: Client) -> None:
    """Queue, key, subject, priority, worker, deadline; the last call from outside, unless the sentence has it."""
    user = User.objects.create(username="<b>bob</b>")
    run_id = anything.using(key="k-17", queue="slow", priority=5, subject=user, timeout=HOUR).start("sleep")
    runs.owned(run_id)
    flow.pause(run_id, "holiday", by="ada")
    text = said(operator, run_id)
    for fact in ("k-17", "slow", "5", "elsewhere:4711", f"user {user.pk}"):
        assert fact in text, fact
    assert re.search(r"paused by ada now .*: holiday", text)
    assert "Last call" not in text
    anything.resume(run_id, by="ada")
    assert "Last call resume now by ada" in said(operator, run_id)
    assert str(run_id) in text


def test_a_subject_says_its_name_to_those_who_may_see_it(person: Person) -> None:
    """Its own words are shown with the permission to view it; its kind and key always."""
    user = User.objects.create(username="secret-name")
    run_id = anything.using(subject=user).start()
    client = person("view_workflowrun")
    assert f"user {user.pk}" in said(client, run_id)
    assert "secret-name" not in said(client, run_id)
    User.objects.get(username="grace").user_permissions.add(Permission.objects.get(codename="view_user"))
    assert "secret-name" in said(client, run_id)
    user.delete()
    assert "no longer there" in said(client, run_id)


def test_the_subjects_own_admin_decides_who_may_see_which(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked about the object itself: its words are not shown to who may see others of its kind alone."""
    user = User.objects.create(username="secret-name")
    run_id = anything.using(subject=user).start()
    monkeypatch.setattr(UserAdmin, "has_view_permission", lambda _admin, _request, obj=None: obj is None)
    text = page(viewer, run_id)
    assert f"user {user.pk}" in text
    assert "secret-name" not in text
    assert reverse("admin:auth_user_change", args=[user.pk]) not in text


@pytest.mark.parametrize(("label", "key"), [("gone.Model", "7"), ("auth.User", "no number"), ("auth.User", "[1]")])
def test_a_subject_that_cannot_be_found_breaks_nothing(viewer: Client, label: str, key: str) -> None:
    """A model or a key that is none any more is shown as it was stored."""
    run_id = at_rest()
    WorkflowRun.objects.filter(id=run_id).update(subject_type=label, subject_id=key)
    assert key in said(viewer, run_id)
    assert viewer.get(url("changelist"), {"state": "all"}).status_code == 200


def test_parent_and_children_are_linked(viewer: Client) -> None:
    """Both ways."""
    parent, child = at_rest("sleep"), at_rest()
    WorkflowRun.objects.filter(id=child).update(parent_id=parent)
    assert url("change", parent) in page(viewer, child)
    with CaptureQueriesContext(connection) as captured:
        assert url("change", child) in page(viewer, parent)
    born = next(query["sql"] for query in captured if " DESC LIMIT 21" in query["sql"] and "parent_id" in query["sql"])
    assert "arguments" not in born, "what children hold may be large, and is not shown"


def test_c091_a_fork_and_the_run_that_it_is_of_are_linked(viewer: Client) -> None:
    """C091: both ways, and the fork's page names the step from which it has run by itself."""
    run_id = anything.start("sleep")
    run_until_idle()
    step = StepRecord.objects.filter(run_id=run_id).latest("seq").name
    first, second = flow.fork(run_id, step), flow.fork(run_id, step)
    forked, origin = page(viewer, first), page(viewer, run_id)
    assert "Forked from" in forked
    assert url("change", run_id) in forked
    assert step in said(viewer, first)
    assert "Forked from" not in origin
    assert url("change", first) in origin
    assert url("change", second) in origin


def test_a_generation_is_told_with_its_beginning(viewer: Client) -> None:
    """Of a run that has continued as new; nothing is said of the first one."""
    run_id = at_rest()
    assert "Generation" not in said(viewer, run_id)
    with freeze_time(START):
        WorkflowRun.objects.filter(id=run_id).update(generation=7, continued_at=clock.now() - HOUR)
        assert "Generation 7, since 1 h ago" in said(viewer, run_id)


# -- values ------------------------------------------------------------------------------------------


def test_values_are_readable(viewer: Client) -> None:
    """Arguments as a call, the result, what the run has published."""
    run_id = anything.using(attributes={"plan": "gold"}).start("", note={"total": 3, "when": START})
    run_until_idle()
    text = said(viewer, run_id)
    assert "(&quot;&quot;, note={&quot;total&quot;: 3, &quot;when&quot;: 2026-03-01 12:00:00+00:00})" in text
    assert "{&quot;plan&quot;: &quot;gold&quot;}" in text
    assert text.count("{&quot;total&quot;: 3, &quot;when&quot;: 2026-03-01 12:00:00+00:00}") == 3


def test_nothing_from_a_run_is_markup(viewer: Client, operator: Client) -> None:
    """Arguments, step names, results, errors, keys, reasons, events and attributes are shown as text."""
    user = User.objects.create(username=SCRIPT)
    run_id = anything.using(key=SCRIPT, attributes={"a": SCRIPT}, subject=user).start("wait", note=SCRIPT)
    run_until_idle()
    flow.send(run_id, SCRIPT, SCRIPT)
    failed = at_rest("fail", note=SCRIPT)
    flow.pause(run_id, SCRIPT, by=SCRIPT)
    WorkflowRun.objects.filter(id=failed).update(workflow=SCRIPT, queue=SCRIPT, version=SCRIPT, reason=SCRIPT)
    for client in (viewer, operator):
        for address in (
            url("change", run_id), url("change", failed), url("changelist"), url("cancel", run_id),
            url("retry", failed), url("changelist", model="event"),
            url("change", Event.objects.get().pk, model="event"),
        ):  # fmt: skip
            content = client.get(address, follow=True).content.decode()
            assert "<script>alert" not in content, address
    assert "&lt;script&gt;" in page(viewer, run_id)


def test_a_step_name_from_a_workflow_is_no_markup(viewer: Client) -> None:
    """Names may hold anything but a few characters; brackets of HTML are not among those."""

    @workflow("admin.odd-names")
    def odd(ctx: Context) -> None:
        ctx.step("<b onclick=x>", lambda: SCRIPT)
        ctx.sleep("<img src=x>", HOUR)

    try:
        run_id = odd.start()
        run_until_idle()
    finally:
        registry.forget("admin.odd-names")
    content = page(viewer, run_id) + viewer.get(url("changelist"), {"state": "all"}).content.decode()
    assert "<b onclick" not in content
    assert "<img src=x" not in content
    assert "&lt;b onclick=x&gt;" in content


def test_what_no_longer_decodes_is_shown_as_it_is(viewer: Client) -> None:
    """The page of a run whose values are damaged is the page one needs most."""
    run_id = at_rest()
    damage = {"arguments": '{"$nonsense": 1}', "result": "{", "error": "{", "progress": "{"}
    WorkflowRun.objects.filter(id=run_id).update(**damage, state="failed")
    assert "$nonsense" in said(viewer, run_id)


def hide(value: Any, **names: Any) -> Any:
    """Takes the text `luck` out of whatever it is shown."""
    if isinstance(value, dict):
        return {key: hide(item, **names) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [hide(item, **names) for item in value]
    return value.replace("luck", "***") if isinstance(value, str) else value


def test_values_pass_through_redact(viewer: Client, settings: Any) -> None:
    """Arguments, results, errors, tracebacks and payloads are shown as the project's function leaves them."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "REDACT": f"{__name__}.hide"}
    failed, waiting = at_rest("fail", note="luck"), at_rest("wait", note="luck")
    flow.send(waiting, "unheard", {"say": "luck"})
    for run_id in (failed, waiting):
        text = said(viewer, run_id)
        assert "***" in text
        assert "luck" not in text
    event = viewer_of_events(viewer, Event.objects.get().pk)
    assert "***" in event
    assert "luck" not in event


def viewer_of_events(viewer: Client, key: int) -> str:
    """An event's page, for somebody who may see events too."""
    User.objects.get(username="viewer").user_permissions.add(Permission.objects.get(codename="view_event"))
    return viewer.get(url("change", key, model="event")).content.decode()


# -- steps, events, timers ---------------------------------------------------------------------------


def test_each_attempt_of_a_step_is_shown_with_its_error(viewer: Client) -> None:
    """A row for the step, and under it each failed attempt with its traceback."""
    with freeze_time(START):
        text = said(viewer, at_rest("fail", note="luck"))
    assert text.count("ValueError: no luck") >= 4  # each attempt's summary and traceback
    assert "hopeless step failed 2" in text
    assert "begin step completed 1 &quot;luck&quot; now" in text


def test_timers_and_events_are_listed(viewer: Client) -> None:
    """Open timers with their moments; events read and unread, sent to the run or to all."""
    with freeze_time(START):
        run_id = anything.using(timeout=24 * HOUR).start("wait")
        run_until_idle()
        flow.send(run_id, "unheard", {"n": 1})
        text = said(viewer, run_id)
        assert "wait answer answered k-1 in 2 h" in text
        assert "deadline in 1 d" in text
        assert "unheard {&quot;n&quot;: 1} now unread" in text
        send_event("answered", "yes", key="k-1")
        run_until_idle()
        assert "answered broadcast k-1 &quot;yes&quot; now answer now" in said(viewer, run_id)


def more_records(run_id: UUID, number: int) -> None:
    """As if it had made so many records; inside one transaction, as here, the engine itself takes half a minute."""
    record = StepRecord.objects.get(run_id=run_id, name="item#3")
    seqs = range(record.seq + 2, number + 1)
    rows = [StepRecord(**{**row_of(record), "seq": seq, "name": f"item#{seq}"}) for seq in seqs]
    StepRecord.objects.bulk_create(rows, batch_size=1000)


def row_of(record: StepRecord) -> dict[str, Any]:
    """A record's columns, without its id."""
    return {field.attname: getattr(record, field.attname) for field in StepRecord._meta.fields if not field.primary_key}


def test_long_values_are_cut_and_say_so(viewer: Client) -> None:
    """A value of a megabyte neither fills the page nor hides that it was cut."""
    content = page(viewer, at_rest(note="x" * 500_000))
    assert len(content) < 100_000
    assert "Show all, 488.3" in content


# -- what else there is ------------------------------------------------------------------------------


def test_an_unknown_run_leads_back_with_a_message(viewer: Client) -> None:
    """As everywhere in the admin."""
    response = viewer.get(url("change", "01900000-0000-7000-8000-000000000000"), follow=True)
    assert "Perhaps it was deleted?" in response.content.decode()
    assert viewer.get(url("change", "nonsense")).status_code == 302


def test_looking_changes_nothing(viewer: Client) -> None:
    """Every page is a GET that leaves each row as it was."""
    run_id = at_rest("wait")
    before = WorkflowRun.objects.values().get(id=run_id)
    for what in ("change", "history"):
        assert viewer.get(url(what, run_id)).status_code == 200
    viewer.get(url("changelist"), {"state": "all"})
    assert WorkflowRun.objects.values().get(id=run_id) == before
