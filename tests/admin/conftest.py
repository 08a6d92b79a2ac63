"""People who look at the admin: what each may do, and the browsers they do it with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from canx_flow.insight import kept, pulse

Person = Callable[..., Client]
#: For how long the banner is kept where no test counts queries.
FRESH = pulse.FRESH

VIEW, CANCEL, RETRY = "view_workflowrun", "cancel_run", "retry_run"
#: Everything that there is on a run's page.
LOOK = (VIEW, "view_payloads", "view_steprecord", "view_timer", "view_event")
#: What may be done to runs, beside cancel and retry.
DO = ("rerun_run", "fork_run", "pause_run", "resume_run", "wake_run", "send_event", "start_run", "manage_queue")


@pytest.fixture(autouse=True)
def _looked_at_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the banner says, graphs of workflows and the index's numbers are kept for some seconds: another test's.

    Within a test, all of it is counted.
    """
    kept.forget()
    monkeypatch.setattr(pulse, "FRESH", 60.0)


@pytest.fixture
def person(db: None) -> Person:
    """`person("view_workflowrun", …)`: the browser of somebody with these permissions, logged in."""

    def make(*permissions: str, staff: bool = True, name: str = "grace") -> Client:
        user = User.objects.create_user(name, is_staff=staff)
        granted = Permission.objects.filter(codename__in=permissions, content_type__app_label="canx_flow")
        assert {permission.codename for permission in granted} == set(permissions)
        user.user_permissions.set(granted)
        client = Client()
        client.force_login(user)
        return client

    return make


@pytest.fixture
def viewer(person: Person) -> Client:
    """Somebody who may look at runs and all that is in them, and no more."""
    return person(*LOOK, name="viewer")


@pytest.fixture
def operator(person: Person) -> Client:
    """Somebody who may look, and do everything."""
    return person(*LOOK, CANCEL, RETRY, *DO, "view_worker", "view_schedule", "manage_schedule", name="operator")


def url(what: str, *arguments: Any, model: str = "workflowrun", site: str = "admin") -> str:
    """The address of a page of ours: `changelist`, `change`, `cancel` …"""
    return reverse(f"admin:canx_flow_{model}_{what}", args=arguments, current_app=site)
