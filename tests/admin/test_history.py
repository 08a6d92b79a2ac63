"""The history of a run in the admin: on its page and on Django's History page, who did what, and why."""

from __future__ import annotations

import pytest
from django.test import Client

from canx_flow import client as flow
from canx_flow.models import Worker
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
