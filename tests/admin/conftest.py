"""People who look at the admin: what each may do, and the browsers they do it with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

Person = Callable[..., Client]

VIEW, CANCEL, RETRY = "view_workflowrun", "cancel_run", "retry_run"


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
    """Somebody who may look at runs, and no more."""
    return person(VIEW, name="viewer")


@pytest.fixture
def operator(person: Person) -> Client:
    """Somebody who may look, cancel and retry."""
    return person(VIEW, CANCEL, RETRY, "view_worker", "view_event", name="operator")


def url(what: str, *arguments: Any, model: str = "workflowrun", site: str = "admin") -> str:
    """The address of a page of ours: `changelist`, `change`, `cancel` …"""
    return reverse(f"admin:canx_flow_{model}_{what}", args=arguments, current_app=site)
