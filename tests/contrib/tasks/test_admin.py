"""What a person on call sees of a task in the admin."""

from __future__ import annotations

from types import ModuleType

import pytest
from django.test import Client
from django.urls import reverse

from canx_flow.testing import run_until_idle

pytestmark = [pytest.mark.django_db, pytest.mark.once]


def test_a_task_has_the_pages_of_a_workflow(work: ModuleType, admin_client: Client) -> None:
    """Named after its path, with its docstring, its step, and the worker of an attempt that failed."""
    failed = work.fail.enqueue("no ink")
    run_until_idle()
    run = admin_client.get(reverse("admin:canx_flow_workflowrun_change", args=[failed.id])).content.decode()
    assert "task:tests.contrib.tasks.work.fail" in run
    assert "no ink" in run
    name = "task:tests.contrib.tasks.work.fail"
    page = admin_client.get(reverse("admin:canx_flow_workflowrun_workflow", args=[name])).content.decode()
    assert "Raise." in page
    failed.refresh()
    assert f"[worker {failed.worker_ids[0]}]" in run
