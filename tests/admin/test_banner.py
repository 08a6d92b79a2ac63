"""The banner: what keeps runs from getting done, on the index, the list, a run's page and a worker's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from freezegun import freeze_time

from canx_flow.core import clock, registry
from canx_flow.insight import health, pulse
from canx_flow.models import Worker, WorkflowRun
from canx_flow.store import leases
from canx_flow.testing import run_until_idle

from . import runs
from .conftest import Person, url
from .runs import anything, at_rest

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def noon() -> Iterator[Any]:
    """The clock of these tests, which stands until it is moved."""
    with freeze_time(START) as clock:
        yield clock


def banners(client: Client, run_id: UUID | None = None) -> dict[str, str]:
    """What the banner says on each kind of page, without its markup; the same on all of them."""
    pulse.forget()
    pages = {"index": reverse("admin:index"), "list": f"{url('changelist')}?state=all"}
    pages |= {"workers": url("changelist", model="worker")}
    pages |= {"run": url("change", run_id)} if run_id is not None else {}
    return {name: _banner(client.get(page).content.decode()) for name, page in pages.items()}


def _banner(content: str) -> str:
    found = re.search(r'<div class="canx-banner".*?</div>', content, re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<button.*?</button>|<[^>]+>", " ", found[0])).strip() if found else ""


def said(client: Client, run_id: UUID | None = None) -> str:
    """What all of them say."""
    found = banners(client, run_id)
    assert len(set(found.values())) == 1, found
    return next(iter(found.values()))


def a_worker(**about: Any) -> Worker:
    """A live worker that knows everything which is registered here."""
    return runs.a_worker(**{"name": "shop-1", "workflows": list(registry.identities()), **about})


def listed(client: Client) -> str:
    """The list without its markup."""
    content = client.get(url("changelist"), {"state": "all"}).content.decode()
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", content))


def page(client: Client, run_id: UUID) -> str:
    """The run's page without its markup."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", client.get(url("change", run_id)).content.decode()))


def test_nothing_is_said_where_all_is_well(operator: Client) -> None:
    """With a live worker, whatever waits."""
    run_id = at_rest("sleep")
    anything.start()
    a_worker()
    assert said(operator, run_id) == ""


def test_no_worker_is_live(operator: Client, noon: Any) -> None:
    """With what is due, since when, and the command that mends it; the list's row and the run's page say it, too."""
    run_id = anything.start()
    anything.start()
    noon.tick(12 * 60)
    alarm = "No live worker serves default : 2 runs are due, the oldest for 12 min. Start one:"
    assert said(operator, run_id) == f"{alarm} manage.py runflowworker --queue default"
    assert "stuck no live worker serves queue default" in listed(operator)
    text = page(operator, run_id)
    assert "no live worker serves queue default" in text
    assert "What you can do: Start a worker: manage.py runflowworker" in text


def test_no_worker_is_live_and_nothing_is_due(operator: Client) -> None:
    """What sleeps would not wake. An empty database needs no worker."""
    assert said(operator) == ""
    run_id = at_rest("sleep")
    assert said(operator, run_id) == (
        "No worker is live: what sleeps or waits does not go on. Start one: manage.py runflowworker"
    )


def test_a_worker_of_another_queue_only(operator: Client) -> None:
    """The queue is named, and in the command, too."""
    run_id = anything.using(queue="billing").start()
    a_worker(queues=["mail"])
    alarm = "No live worker serves billing : 1 run is due, for 0 ms. Start one:"
    assert said(operator, run_id) == f"{alarm} manage.py runflowworker --queue billing"
    assert "no live worker serves queue billing" in listed(operator)
    text = page(operator, run_id)
    assert "no live worker serves queue billing" in text
    assert "manage.py runflowworker --queue billing" in text


def test_a_workflow_that_no_worker_knows(operator: Client) -> None:
    """Of runs that are due, and of those that were parked for it."""
    run_id = anything.start()
    WorkflowRun.objects.update(version="gone")
    a_worker()
    alarm = "No live worker knows admin.any@gone : 1 run waits. Start one with the code that has it."
    assert said(operator, run_id) == alarm
    assert "no live worker of queue default knows workflow admin.any@gone" in listed(operator)
    assert "no live worker of queue default knows workflow admin.any@gone" in page(operator, run_id)
    run_until_idle()
    assert WorkflowRun.objects.get().state == "parked"
    assert said(operator, run_id) == alarm
    assert "UnknownWorkflow" in listed(operator)
    assert "Start a worker of queue default anew with the code that has admin.any@gone." in page(operator, run_id)


def test_a_silent_worker(operator: Client, noon: Any) -> None:
    """And the run that it holds is stuck."""
    run_id = runs.running()
    noon.tick(14 * 60)
    a_worker()
    assert said(operator, run_id) == "1 worker is silent: elsewhere:4711 for 14 min."
    assert "stuck worker elsewhere:4711 silent for 14 min: taken over when another worker runs" in listed(operator)
    assert "silent for 14 min" in page(operator, run_id)


def test_timers_that_no_worker_fires(operator: Client, noon: Any) -> None:
    """Though one is live."""
    run_id = at_rest("sleep")
    noon.tick(2 * HOUR)
    a_worker()
    assert said(operator, run_id) == "1 timer is due and not acted on, for 1 h."


def test_the_banner_has_a_button_that_copies_the_command(operator: Client) -> None:
    """Hidden without JavaScript; its script is a file of its own, and the pages say nothing inline."""
    anything.start()
    for address in (reverse("admin:index"), f"{url('changelist')}?state=all"):
        content = operator.get(address).content.decode()
        assert 'hidden data-canx-copy="manage.py runflowworker --queue default"' in content
        assert "canx_flow/admin.js" in content
        assert "canx_flow/admin.css" in content


def test_who_may_not_see_runs_sees_no_banner(person: Person) -> None:
    """Not even on the index, which every member of staff sees."""
    anything.start()
    pulse.forget()
    assert "canx-banner" not in person().get(reverse("admin:index")).content.decode()


def test_it_is_looked_at_once_in_two_seconds(operator: Client, noon: Any) -> None:
    """However many pages are asked for; then anew."""
    pulse.forget()
    with CaptureQueriesContext(connection) as first:
        pulse.recent()
    anything.start()
    with CaptureQueriesContext(connection) as again:
        assert not pulse.recent().unserved  # type: ignore[union-attr]
    assert len(first) > len(again) == 0
    noon.tick(pulse.FRESH + 1)
    assert set(pulse.recent().unserved) == {"default"}  # type: ignore[union-attr]


def test_a_page_is_shown_though_nothing_could_be_looked_at(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a banner."""

    def fail(*_arguments: Any, **_keywords: Any) -> None:
        raise DatabaseError("away")

    anything.start()
    monkeypatch.setattr(health, "examine", fail)
    assert said(operator) == ""


def test_the_command_for_a_queue_of_any_name_is_safe_in_a_shell(operator: Client) -> None:
    """It is copied from a page."""
    anything.using(queue="a; rm -rf b").start()
    a_worker(queues=["mail"])
    assert "runflowworker --queue &#x27;a; rm -rf b&#x27;" in said(operator)


def test_flowhealth_says_the_same(capsys: pytest.CaptureFixture[str], noon: Any) -> None:
    """Why the oldest run is not claimed."""
    anything.start()
    noon.tick(12 * 60)
    with pytest.raises(SystemExit):
        call_command("flowhealth", json=False)
    assert "no live worker serves queue default" in capsys.readouterr().out


def test_a_dead_worker_is_no_silent_one(operator: Client) -> None:
    """It has been declared dead, and its runs were taken over."""
    leases.declare_dead(a_worker().id)
    a_worker()
    assert clock.now() == START
    assert said(operator) == ""
