"""*Start a run*: who may, with which input, and what is said of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from canx_flow import Context, workflow
from canx_flow.core import clock
from canx_flow.models import RunHistory, Timer, WorkflowRun

from .conftest import CANCEL, DO, LOOK, RETRY, Person, url
from .runs import SCRIPT
from .test_acting import messages
from .test_csp import forbidden

pytestmark = pytest.mark.django_db


@dataclass(frozen=True)
class Parcel:
    """What the workflow below takes, by its annotation."""

    weight: int


@workflow("admin.startable", queue="parcels", priority=7)
def startable(ctx: Context, order: int, *, parcel: Parcel | None = None, express: bool = False) -> Any:
    """Ship an order."""
    return ctx.step("ship", lambda: [order, express])


@workflow("admin.startable", version="v2", queue="later")
def startable_v2(ctx: Context, order: int, country: str) -> Any:
    """Ship an order abroad."""
    return ctx.step("ship", lambda: [order, country])


START = "admin.startable"
TAG = {"$dataclass": [f"{__name__}:Parcel", {"weight": 3}]}


def form_of(client: Client, name: str = START, **changed: str) -> dict[str, Any]:
    """What the form on the workflow's page would send, with these fields changed."""
    form = client.get(url("workflow", name)).context["form"]
    return {field: form.get_initial_for_field(form.fields[field], field) or "" for field in form.fields} | changed


def start(client: Client, **changed: str) -> Any:
    """Fill in the form and press its button."""
    return client.post(url("start", START), form_of(client, **changed))


def test_a_run_is_started_from_its_workflows_page(operator: Client) -> None:
    """With its input, where and how it is asked for; the answer is the run's page, and links to it."""
    answer = start(
        operator, arguments="[7]", keywords='{"express": true}', key="order-7", queue="fast", priority="-3",
        reason="asked by phone",
    )  # fmt: skip
    run = WorkflowRun.objects.get()
    assert answer["Location"] == url("change", run.id)
    assert (run.arguments, run.key, run.queue, run.priority) == ('[[7],{"express":true}]', "order-7", "fast", -3)
    assert (run.version, run.state, run.control, run.control_by) == ("", "pending", "start", "operator")
    page = operator.get(url("change", run.id)).content.decode()
    assert f'Started: <a href="{url("change", run.id)}">' in page
    assert "asked by phone" in page


def test_who_started_it_and_why_is_kept(operator: Client) -> None:
    """In the run's own history, on its page, and in the admin's log."""
    start(operator, arguments="[7]", reason="asked by phone")
    run = WorkflowRun.objects.get()
    row = RunHistory.objects.get(run=run)
    assert (row.actor, row.by, row.channel, row.verb, row.reason) == (
        "people", "operator", "admin", "start", "asked by phone",
    )  # fmt: skip
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.change_message) == (str(run.id), "Started. Reason: asked by phone")
    told = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", operator.get(url("history", run.id)).content.decode()))
    assert "operator in the admin started asked by phone" in told


def test_what_is_left_empty_is_as_the_workflow_declares(operator: Client) -> None:
    """Queue and priority of the version that is chosen; the key is the one that the form brought along."""
    sent = form_of(operator, arguments="[7]")
    operator.post(url("start", START), sent)
    first = WorkflowRun.objects.get()
    assert (first.queue, first.priority, first.key) == ("parcels", 7, sent["key"])
    operator.post(url("start", START), form_of(operator, version="v2", arguments='[7, "de"]', key=""))
    second = WorkflowRun.objects.exclude(id=first.id).get()
    assert (second.version, second.queue, second.priority, second.key) == ("v2", "later", 0, None)


def test_a_double_click_starts_one_run(operator: Client) -> None:
    """The second one is led to it, and told so; nothing is logged of it."""
    sent = form_of(operator, arguments="[7]")
    first, second = operator.post(url("start", START), sent), operator.post(url("start", START), sent)
    assert second["Location"] == first["Location"]
    assert messages(second)[-1] == "It was started before with this key: no other run was started."
    assert (WorkflowRun.objects.count(), LogEntry.objects.count(), RunHistory.objects.count()) == (1, 1, 1)


def test_a_delayed_run_sleeps_until_then(operator: Client) -> None:
    """A day and a half; it is not claimed before."""
    start(operator, arguments="[7]", delay="1 12:00:00")
    assert WorkflowRun.objects.get().state == "sleeping"
    due = Timer.objects.get().due_at
    assert due is not None
    assert abs((due - clock.now()).total_seconds() - 36 * 3600) < 60


def test_a_class_that_the_function_names_may_be_typed(operator: Client) -> None:
    """By its annotation, as it is stored."""
    start(operator, arguments="[7]", keywords=json.dumps({"parcel": TAG}))
    run = WorkflowRun.objects.get()
    assert f"{__name__}:Parcel" in run.arguments


@pytest.mark.parametrize(
    ("field", "typed", "said"),
    [
        ("arguments", "[1,", "This is no JSON"),
        ("arguments", "{}", "must be a JSON list"),
        ("keywords", "[]", "must be a JSON object"),
        ("arguments", "[]", "do not fit workflow"),
        ("keywords", '{"colour": 1}', "do not fit workflow"),
        ("arguments", '[{"$dataclass": ["os:environ", {}]}]', "name no os:environ"),
        ("arguments", '[{"$enum": ["http:HTTPStatus", "OK"]}]', "name no http:HTTPStatus"),
        ("arguments", '[{"$nothing": 1}]', "unknown type tag"),
        ("arguments", '["%s"]' % ("x" * 1_000_001), "the limit is 1000000"),
        ("version", "v9", "v9"),
        ("key", " ", "key"),
        ("key", "a\x07b", "key"),
        ("key", "x" * 256, "255"),
        ("queue", "a\x07b", "queue"),
        ("priority", "101", "100"),
        ("priority", "high", "whole number"),
        ("delay", "-5", "delay"),
        ("delay", "soon", "valid duration"),
        ("delay", "999999999 00:00:00", "delay"),
    ],
)
def test_what_does_not_fit_is_said_at_its_field(operator: Client, field: str, typed: str, said: str) -> None:
    """And nothing is started or noted."""
    answer = start(operator, **{"arguments": "[7]", field: typed})
    assert answer.status_code == 200
    errors = answer.context["form"].errors
    where = errors.get(field) or errors.get("arguments") or []
    assert said in " ".join(map(str, where))
    assert not WorkflowRun.objects.exists()
    assert not LogEntry.objects.exists()
    assert not RunHistory.objects.exists()


def test_hostile_text_stays_text(operator: Client) -> None:
    """What was typed comes back in its field, escaped; nothing is inline."""
    content = start(operator, arguments=SCRIPT, key=SCRIPT, queue=SCRIPT, delay=SCRIPT).content.decode()
    assert SCRIPT not in content
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in content
    assert forbidden(content) == []
    assert forbidden(operator.get(url("workflow", START)).content.decode()) == []


def test_the_form_says_what_the_workflow_takes(operator: Client) -> None:
    """Its parameters without the context, and its own queue and priority; the version that `start` would take."""
    content = operator.get(url("workflow", START)).content.decode()
    assert "It takes (order, *, parcel=None, express=False)." in content
    assert "Empty: as the workflow says, which is parcels." in content
    assert f'action="{url("start", START)}"' in content
    assert "autofocus" not in content


def test_only_who_may_start_runs_is_shown_the_form(person: Person) -> None:
    """By the page, by its address and by POST."""
    everything = [*LOOK, CANCEL, RETRY, *DO]
    kinds = {
        "anonymous": Client(),
        "no staff": person(*everything, staff=False, name="customer"),
        "without permissions": person(name="clerk"),
        "may look only": person(*LOOK, "view_worker", name="looker"),
        "may do all but this": person(*(each for each in everything if each != "start_run"), name="other"),
        "may do it, but not look": person(*DO, name="blind"),
    }
    for kind, client in kinds.items():
        for answer in (client.get(url("start", START)), client.post(url("start", START), {"arguments": "[7]"})):
            if kind in ("anonymous", "no staff"):
                assert answer["Location"].startswith("/admin/login/"), kind
            else:
                assert answer.status_code == 403, kind
        if kind in ("may look only", "may do all but this"):
            assert url("start", START) not in client.get(url("workflow", START)).content.decode(), kind
    assert not WorkflowRun.objects.exists()
    assert person("view_workflowrun", "start_run", name="starter").post(
        url("start", START), {"arguments": "[7]"}
    ).status_code == 302  # fmt: skip
    assert WorkflowRun.objects.count() == 1


def test_what_the_code_does_not_know_cannot_be_started(operator: Client) -> None:
    """Its page has no form; its address is none; no other method starts anything."""
    startable.start(7)
    WorkflowRun.objects.update(workflow="admin.removed")
    assert "form" not in operator.get(url("workflow", "admin.removed")).context
    assert operator.post(url("start", "admin.removed"), {}).status_code == 404
    assert operator.put(url("start", START)).status_code == 405
