"""In other projects: people of another kind, a site of their own, and django-unfold's clothes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.processes import ROOT, environment

pytestmark = pytest.mark.once

#: Pages of ours that a walk over the links of a site comes to.
PAGES = {
    *(f"canx_flow_workflowrun_{name}" for name in ("changelist", "change", "history", "workflows", "workflow", "send")),
    *(f"canx_flow_workflowrun_{name}" for name in ("queues", "queue", "pause_workflow", "resume_workflow")),
    *(f"canx_flow_schedule_{name}" for name in ("changelist", "change", "pause", "resume", "trigger", "backfill")),
    *(f"canx_flow_event_{name}" for name in ("changelist", "change", "history", "send")),
    *(f"canx_flow_worker_{name}" for name in ("changelist", "change", "history")),
}  # fmt: skip


def walked(settings: str, *sites: str) -> dict[str, Any]:
    """What is found in the admin of another project, in a process of its own."""
    command = [sys.executable, "-W", "error", "-m", "tests.sites", f"tests.sites.{settings}", *sites]
    more = {"DJANGO_SETTINGS_MODULE": f"tests.sites.{settings}", "PYTHONPATH": f"{ROOT}:{ROOT / 'testproject'}"}
    done = subprocess.run(
        command, env=environment(**more, DATABASE_URL="sqlite:///x"), cwd=ROOT, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.mark.django_db
def test_people_may_be_of_any_kind_and_sites_of_any_name() -> None:
    """A user model with a UUID and without a user name, and a second site of a class of the project's own.

    Every page can be looked at on both, no link leads from one to the other, and everything can be done.
    """
    said = walked("people_settings", "admin=/admin/", "desk=/staff/desk/")
    for name, site in said["sites"].items():
        assert {f"{name}:{page}" for page in PAGES} <= site["pages"].keys(), name
        assert site["strays"] == [], name
    became = said["sites"]["desk"]["became"]
    assert all(where.startswith("/staff/desk/canx_flow/") for where in became.values())
    assert said["logged"] >= len(became)
    assert "<root@example.com>" in said["by"]


@pytest.mark.django_db
def test_with_unfold_there_is_every_page_and_everything_can_be_done() -> None:
    """Runs, workers and events are on its ModelAdmin without a word of the project's, and so are its own orders."""
    pytest.importorskip("unfold", reason="make env installs django-unfold")
    site = walked("unfold_settings")["sites"]["admin"]
    assert {f"admin:{page}" for page in PAGES} <= site["pages"].keys()
    assert "admin:shop_order_changelist" in site["pages"]
    assert {
        "cancel", "fork", "start", "broadcast", "bulk", "trigger a schedule", "limit a queue",
    } <= site["became"].keys()  # fmt: skip
