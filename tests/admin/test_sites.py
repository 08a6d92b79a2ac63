"""Anywhere: on another AdminSite, with an admin of the project's own, in a second database."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from canx_flow.models import WorkflowRun
from canx_flow.testing import run_until_idle

from .conftest import url
from .runs import anything, at_rest, running, state
from .test_acting import messages
from .test_bulk import confirm

ROOT = "tests.admin.urls"


def _links(content: str) -> set[str]:
    return set(re.findall(r'(?:href|action)="(/[^"]*)"', content))


# -- another site ------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.urls(ROOT)
def test_every_link_stays_on_its_site(admin_client: Client) -> None:
    """List, page, question, answer and bulk: no link of ours leads to the default site."""
    parent = anything.using(subject=User.objects.get()).start("wait")
    run_until_idle()
    child = at_rest("fail", note="x")
    WorkflowRun.objects.filter(id=child).update(parent_id=parent)
    pages = [
        url("changelist", site="office"), url("change", parent, site="office"), url("change", child, site="office"),
        url("cancel", parent, site="office"), url("retry", child, site="office"),
        url("changelist", model="worker", site="office"), url("changelist", model="event", site="office"),
    ]  # fmt: skip
    assert pages[0] == "/office/canx_flow/workflowrun/"
    for page in pages:
        content = admin_client.get(page).content.decode()
        assert not {link for link in _links(content) if link.startswith(("/admin/", "/annex/"))}, page
    assert admin_client.post(pages[3])["Location"] == pages[1]
    data = {"action": "retry_runs", "_selected_action": [str(child)], "index": "0"}
    asked = admin_client.post(pages[0], data)
    assert not {link for link in _links(asked.content.decode()) if link.startswith("/admin/")}
    assert state(parent) == "cancelled"


@pytest.mark.django_db
@pytest.mark.urls(ROOT)
def test_what_is_not_registered_is_not_linked(admin_client: Client) -> None:
    """A site with runs alone shows subjects and workers as text."""
    run_id = running()
    WorkflowRun.objects.filter(id=run_id).update(subject_type="auth.User", subject_id="1")
    content = admin_client.get(url("change", run_id, site="annex")).content.decode()
    assert "elsewhere:4711" in content
    assert "user 1" in content
    assert all(link.startswith(("/annex/", "/static/")) or link == "/" for link in _links(content))


@pytest.mark.django_db
@pytest.mark.urls(ROOT)
def test_an_admin_of_the_projects_own_replaces_ours(admin_client: Client) -> None:
    """Columns, actions and verbs are the subclass's; a verb it leaves out has no address either."""
    run_id = at_rest("fail", note="x")
    listed = admin_client.get(url("changelist", site="annex"), {"state": "all"}).content.decode()
    assert "ADMIN.ANY" in listed
    assert "Cancel selected" not in listed
    page = admin_client.get(url("change", run_id, site="annex")).content.decode()
    assert url("retry", run_id, site="annex") in page
    answer = admin_client.get(f"/annex/canx_flow/workflowrun/{run_id}/cancel/")
    assert answer.status_code == 302  # Django's own: it is no object's id.


# -- a second database -------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(settings: Any) -> UUID:
    """A sleeping run in the database `other`; no router is installed."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "DATABASE": "other"}
    run_id = anything.using(key="k").start("sleep")
    anything.start("fail", note="x")
    run_until_idle()
    return run_id


@pytest.mark.django_db(databases=["default", "other"])
def test_runs_are_found_in_their_own_database(elsewhere: UUID, admin_client: Client) -> None:
    """Every page asks that database for runs and the default one for people and the log, without a router."""
    pages = [
        f"{url('changelist')}?state=all", f"{url('changelist')}?q=k&state=sleeping&workflow=admin.any&queue=default",
        url("change", elsewhere), url("history", elsewhere), url("cancel", elsewhere),
        url("changelist", model="worker"), url("changelist", model="event"),
    ]  # fmt: skip
    with CaptureQueriesContext(connections["default"]) as asked:
        for page in pages:
            response = admin_client.get(page)
            assert response.status_code == 200
    assert not [
        query["sql"] for query in asked.captured_queries if "FROM " in query["sql"] and "canx_flow_" in query["sql"]
    ]
    assert str(elsewhere) in admin_client.get(pages[1]).content.decode()


@pytest.mark.django_db(databases=["default", "other"])
def test_runs_are_cancelled_in_their_own_database(elsewhere: UUID, admin_client: Client) -> None:
    """One and many; the log stays where the admin keeps it."""
    response = admin_client.post(url("cancel", elsewhere), {"reason": "moved"})
    assert messages(response) == ["The run is cancelled."]
    every = WorkflowRun.objects.using("other")
    failed = every.get(state="failed").id
    data = {"action": "retry_runs", "_selected_action": [str(failed)], "index": "0"}
    assert messages(confirm(admin_client, admin_client.post(url("changelist"), data))) == ["1 retried"]
    assert dict(every.values_list("id", "state")) == {elsewhere: "cancelled", failed: "pending"}
    logged = dict(LogEntry.objects.using("default").values_list("object_id", "change_message"))
    assert logged == {str(elsewhere): "Cancelled. Reason: moved", str(failed): "Retried."}
    assert not LogEntry.objects.using("other").exists()


@pytest.mark.django_db(databases=["default", "other"])
def test_the_router_changes_nothing(elsewhere: UUID, admin_client: Client, settings: Any) -> None:
    """With the shipped router installed the same works."""
    settings.DATABASE_ROUTERS = ["canx_flow.routers.CanxFlowRouter"]
    assert admin_client.get(url("changelist"), {"state": "all"}).status_code == 200
    assert admin_client.get(url("change", elsewhere)).status_code == 200
    assert messages(admin_client.post(url("cancel", elsewhere))) == ["The run is cancelled."]
