"""Who may do what: looking is one permission, each verb another, and rows are changed by nobody by hand."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.filters import AllValuesFieldListFilter
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client

from canx_flow.admin import RunAdmin
from canx_flow.models import Event, Queue, Schedule, StepRecord, Timer, Worker, WorkflowRun

from . import runs
from .conftest import CANCEL, DO, RETRY, VIEW, Person, url
from .runs import at_rest, state
from .test_acting import messages

pytestmark = pytest.mark.django_db


@pytest.fixture
def asleep() -> UUID:
    """A run that could be cancelled."""
    return at_rest("sleep")


@pytest.fixture
def failed() -> UUID:
    """A run that could be retried."""
    return at_rest("fail", note="x")


def attempts(client: Client, asleep: UUID, failed: UUID) -> list[Any]:
    """Every way to act there is: by address and by POST, one and many, asked for and confirmed at once."""
    answers = []
    for verb, run_id in (("cancel", asleep), ("retry", failed)):
        answers += [client.get(url(verb, run_id)), client.post(url(verb, run_id), {"reason": "x"})]
        for across in ("0", "1"):
            chosen = {"action": f"{verb}_runs", "_selected_action": [str(run_id)], "select_across": across}
            for more in ({"index": "0"}, {"confirmed": "yes", "reason": "x"}, {"post": "yes"}):
                answers.append(client.post(url("changelist"), {**chosen, **more}))
    return answers


def nothing_happened(asleep: UUID, failed: UUID) -> bool:
    """Both runs are as they were, and nobody is said to have done anything."""
    untouched = WorkflowRun.objects.filter(control="", id__in=[asleep, failed]).count() == 2
    return untouched and state(asleep) == "sleeping" and state(failed) == "failed" and not LogEntry.objects.exists()


def test_a_viewer_can_run_no_action(viewer: Client, asleep: UUID, failed: UUID) -> None:
    """Neither by URL nor by POST, neither one nor many."""
    answers = attempts(viewer, asleep, failed)
    assert [answer.status_code for answer in answers if answer.request["PATH_INFO"] != url("changelist")] == [403] * 4
    assert nothing_happened(asleep, failed)


def test_a_permission_for_one_verb_is_none_for_the_other(person: Person, asleep: UUID, failed: UUID) -> None:
    """Who may retry cannot cancel by any way, and the other way round."""
    attempts(person(VIEW, RETRY, name="retrier"), asleep, failed)
    assert state(asleep) == "sleeping"
    assert state(failed) == "pending"
    attempts(person(VIEW, CANCEL, name="canceller"), asleep, failed)
    assert state(asleep) == "cancelled"
    assert not LogEntry.objects.filter(user__username="retrier", change_message__contains="ancel").exists()


def test_acting_needs_looking(person: Person, asleep: UUID, failed: UUID) -> None:
    """The two verbs alone, without the permission to view, open nothing."""
    answers = attempts(person(CANCEL, RETRY), asleep, failed)
    assert {answer.status_code for answer in answers} == {403}
    assert nothing_happened(asleep, failed)


def test_nobody_but_staff_comes_in(person: Person, asleep: UUID, failed: UUID) -> None:
    """Anonymous people, and those who are not staff whatever they may do, are led to the login."""
    for client in (Client(), person(VIEW, CANCEL, RETRY, staff=False)):
        answers = [
            *attempts(client, asleep, failed),
            client.get(url("changelist"), {"state": "all"}),
            client.get(url("change", asleep)),
        ]
        assert {answer["Location"].partition("?")[0] for answer in answers} == {"/admin/login/"}
    assert nothing_happened(asleep, failed)


def test_staff_without_permissions_sees_nothing(person: Person, asleep: UUID) -> None:
    """No list, no page, no entry on the index."""
    client = person()
    for what in ("changelist", "change", "history"):
        assert client.get(url(what, *([asleep] if what != "changelist" else []))).status_code == 403
    assert "canx_flow" not in client.get("/admin/").content.decode()


def test_a_post_needs_its_token(asleep: UUID, operator: Client) -> None:
    """Another site cannot have somebody's browser cancel a run."""
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = operator.cookies
    assert strict.post(url("cancel", asleep)).status_code == 403
    assert strict.post(url("changelist"), {"action": "cancel_runs", "_selected_action": [asleep]}).status_code == 403
    assert state(asleep) == "sleeping"


def test_a_subclass_may_ask_for_more(
    operator: Client, asleep: UUID, failed: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`has_cancel_permission` decides for buttons, pages, actions and POSTs alike; it may look at the run."""

    def not_this_one(self: RunAdmin, request: Any, obj: WorkflowRun | None = None) -> bool:
        return obj is None or obj.id != asleep

    monkeypatch.setattr(RunAdmin, "has_cancel_permission", not_this_one)
    assert operator.get(url("cancel", asleep)).status_code == 403
    assert operator.post(url("cancel", asleep)).status_code == 403
    assert url("cancel", asleep) not in operator.get(url("change", asleep)).content.decode()
    also = runs.at_rest("sleep")
    data = {"action": "cancel_runs", "_selected_action": [asleep, also], "confirmed": "yes", "reason": ""}
    said = messages(operator.post(url("changelist"), data))
    assert said == ["1 cancelled, 1 that you may not change"]
    assert (state(asleep), state(also)) == ("sleeping", "cancelled")
    assert list(LogEntry.objects.values_list("object_id", flat=True)) == [str(also)]


@pytest.mark.parametrize(
    ("model", "lookups"),
    [
        ("workflowrun", ("arguments", "result__contains", "error", "attributes__plan", "control_by__contains", "key",
                         "state__contains", "pk__contains", "owner_id", "children__key", "records__name")),
        ("event", ("payload__startswith", "name__contains", "run__control_by", "run_id")),
        ("worker", ("activity", "host__contains", "runs__key")),
        ("schedule", ("note", "paused_by__contains")),
    ],
)  # fmt: skip
def test_no_column_is_asked_for_but_by_a_filter(operator: Client, model: str, lookups: tuple[str, ...]) -> None:
    """`?arguments__contains=…` would tell what is hidden by the number of rows, and reads the whole table, as most."""
    for lookup in lookups:
        assert operator.get(url("changelist", model=model), {lookup: "a"}).status_code == 400, lookup


def test_a_projects_own_filters_ask_for_their_columns(
    operator: Client, person: Person, asleep: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so does a field that may refer to some runs only, as `Watch.run`; none asks for what is hidden."""
    own = ("version", ("forked_at", AllValuesFieldListFilter), "control_reason", "arguments")
    monkeypatch.setattr(RunAdmin, "list_filter", (*RunAdmin.list_filter, *own))
    for lookup in ("version", "version__exact", "forked_at__isnull", "workflow__startswith", "control_reason"):
        assert operator.get(url("changelist"), {lookup: "1", "state": "all"}).status_code == 200, lookup
    for lookup in ("workflow__contains", "workflow__startswithout", "arguments"):
        assert operator.get(url("changelist"), {lookup: "1", "state": "all"}).status_code == 400, lookup
    assert person(VIEW).get(url("changelist"), {"control_reason": "1", "state": "all"}).status_code == 400


# -- by hand -----------------------------------------------------------------------------------------


@pytest.fixture
def rows(asleep: UUID) -> dict[str, Any]:
    """One of each model that is registered."""
    event = Event.objects.create(name="go", run_id=asleep)
    return {"workflowrun": asleep, "worker": runs.a_worker().pk, "event": event.pk}


@pytest.mark.parametrize("model", ["workflowrun", "worker", "event"])
def test_rows_are_changed_by_nobody_by_hand(admin_client: Client, rows: dict[str, Any], model: str) -> None:
    """Not even a superuser adds, changes or deletes one."""
    key = rows[model]
    assert admin_client.get(url("add", model=model)).status_code == 403
    assert admin_client.post(url("add", model=model), {}).status_code == 403
    assert admin_client.post(url("change", key, model=model), {"state": "completed"}).status_code == 403
    assert admin_client.get(url("delete", key, model=model)).status_code == 403
    assert admin_client.post(url("delete", key, model=model), {"post": "yes"}).status_code == 403
    data = {"action": "delete_selected", "_selected_action": [str(key)], "post": "yes"}
    admin_client.post(url("changelist", model=model), data)
    page = admin_client.get(url("change", key, model=model)).content.decode()
    assert 'name="_save"' not in page
    assert "<select" not in page
    assert {"workflowrun": WorkflowRun, "worker": Worker, "event": Event}[model].objects.filter(pk=key).exists()


def test_permissions_that_mean_nothing_are_not_there(db: None) -> None:
    """Each model can be viewed; to each thing that can be done there is one. Nothing else can be granted."""
    granted = Permission.objects.filter(content_type__app_label="canx_flow").values_list("codename", flat=True)
    models = (WorkflowRun, StepRecord, Timer, Event, Worker, Queue, Schedule)
    viewable = {f"view_{model._meta.model_name}" for model in models}
    assert set(granted) == viewable | {"view_payloads", "manage_schedule", CANCEL, RETRY, *DO}
