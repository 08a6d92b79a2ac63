"""The history of a run in the admin: on its page and on Django's History page, who did what, and why."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.test import Client

from canx_flow import client as flow
from canx_flow.models import Event, Schedule, Worker
from canx_flow.store import leases

from . import runs
from .conftest import Person, url
from .runs import at_rest
from .test_page import said

pytestmark = pytest.mark.django_db


def test_calls_from_everywhere_are_told_in_both_places(operator: Client) -> None:
    """From the admin and from code, each once: where the state says it, it stands alone. Neither has no history."""
    run_id = at_rest("sleep")
    flow.pause(run_id, "lunch", by="ada")
    operator.post(url("cancel", run_id), {"reason": "customer asked twice"})
    for text in (said(operator, run_id), said(operator, run_id, what="history")):
        assert "ada by code paused lunch" in text
        assert "operator in the admin cancelled customer asked twice" in text
    assert "probably wasn" not in said(operator, run_id, what="history")


def test_people_and_engine_are_told_apart(viewer: Client) -> None:
    """Either alone, by the address."""
    run_id = runs.running()
    worker = Worker.objects.get()
    leases.declare_dead(worker.id)
    leases.recover(worker.id)
    flow.pause(run_id, "lunch", by="ada")
    assert "worker elsewhere:4711 worker died: recovery 1" in said(viewer, run_id)
    assert "recovery 1" not in said(viewer, run_id, who="people")
    assert "ada by code pause" in said(viewer, run_id, who="people")
    assert "ada by code pause" not in said(viewer, run_id, who="engine")
    assert "recovery 1" in said(viewer, run_id, what="history", who="engine")


def test_the_history_is_for_those_who_may_see_the_run(person: Person) -> None:
    """By its own address, too."""
    run_id = at_rest()
    assert person("view_worker").get(url("history", run_id)).status_code == 403


@pytest.mark.parametrize("may_know", [True, False])
def test_why_it_was_done_is_for_those_who_may_see_payloads(operator: Client, person: Person, may_know: bool) -> None:
    """In Django's own log, too, of whatever has a page there; what was done is for all who may view it."""
    runs.steered()
    run_id, poll, why = at_rest("sleep"), Schedule.objects.get(name="poll"), {"reason": "s3cret"}
    operator.post(url("cancel", run_id), why)
    operator.post(url("pause", poll.pk, model="schedule"), why)
    operator.post(url("send", model="event"), {"event": "go", "payload": "1", **why})
    assert LogEntry.objects.filter(change_message__endswith=" Reason: s3cret").count() == 3
    event = Event.objects.get(name="go")
    further = ("view_payloads",) if may_know else ()
    for model, thing, done in (
        ("workflowrun", run_id, "Cancelled."), ("schedule", poll.pk, "Paused."), ("event", event.pk, "Broadcast."),
    ):  # fmt: skip
        reader = person(f"view_{model}", *further, name=f"reader of {model}")
        content = reader.get(url("history", thing, model=model)).content.decode()
        assert done in content
        assert ("s3cret" in content) is may_know, model


def test_what_django_logs_itself_is_shown_as_ever(person: Person) -> None:
    """It is JSON, and says something of the object: for a text after which nothing is shown, too."""
    runs.steered()
    poll = Schedule.objects.get(name="poll")
    reader = person("view_schedule")
    user = User.objects.get()
    changed = [{"changed": {"name": "note", "object": "A Reason: B", "fields": ["text"]}}]
    LogEntry.objects.log_actions(user.pk, [poll], CHANGE, changed)
    content = reader.get(url("history", poll.pk, model="schedule")).content.decode()
    assert "Changed text for note “A Reason: B”." in content
