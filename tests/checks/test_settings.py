"""The checks of CANX_FLOW and of USE_TZ, as `manage.py check` shows them."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from pytest_django import Settings

from ..processes import manage

pytestmark = pytest.mark.once

CASES: list[tuple[str, dict[str, Any]]] = [
    ("canx_flow.E001", {"CANX_FLOW": "LEASE_SECONDS=30"}),
    ("canx_flow.E002", {"CANX_FLOW": {"LEASE": 30}}),
    ("canx_flow.E003", {"CANX_FLOW": {"LEASE_SECONDS": "30"}}),
    ("canx_flow.E004", {"CANX_FLOW": {"LEASE_SECONDS": 0}}),
    ("canx_flow.E005", {"CANX_FLOW": {"RETRY": {"max_attempts": 0}}}),
    ("canx_flow.E006", {"CANX_FLOW": {"DATABASE": "nowhere"}}),
    ("canx_flow.E007", {"CANX_FLOW": {"REDACT": "no.such.function"}}),
    ("canx_flow.E016", {"CANX_FLOW": {"ADMIN_URL": "/admin/"}}),
    ("canx_flow.E017", {"CANX_FLOW": {"LIMITS": {"stripe": {"rate": "many"}}}}),
    ("canx_flow.E018", {"CANX_FLOW": {"QUEUES": {"mail": {"concurrency": 0}}}}),
    ("canx_flow.E019", {"TASKS": {"jobs": {"BACKEND": "canx_flow.contrib.tasks.DurableBackend"}}}),
    ("canx_flow.E008", {"USE_TZ": False}),
]


@pytest.mark.django_db(transaction=True)
def test_a_project_in_order_has_nothing_to_report() -> None:
    """The suite's own settings and workflows, the shop's among them, pass every check."""
    checked = manage("check", "--database", "default", "--fail-level", "WARNING")
    assert checked.returncode == 0, checked.stderr
    assert "no issues" in checked.stdout


@pytest.mark.parametrize(("id_", "changed"), CASES)
def test_each_mistake_is_an_error(settings: Settings, id_: str, changed: dict[str, Any]) -> None:
    """Every mistake is an error under its own id, and `manage.py check` fails with it."""
    for name, value in changed.items():
        setattr(settings, name, value)
    assert [message.id for message in run_checks(tags=["canx_flow"])] == [id_]
    with pytest.raises(SystemCheckError, match=re.escape(id_)):
        call_command("check", tags=["canx_flow"], stderr=StringIO())


def test_hints_are_shown(settings: Settings) -> None:
    """A hint is part of the error where there is one, and absent where there is none."""
    settings.CANX_FLOW = {"LEASE_SECOND": 30, "POLL_SECONDS": "1"}
    unknown, wrong = run_checks(tags=["canx_flow"])
    assert unknown.hint == "Did you mean 'LEASE_SECONDS'?"
    assert wrong.hint is None
