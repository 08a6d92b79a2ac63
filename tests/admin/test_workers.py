"""The pages of workers and of events."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from freezegun import freeze_time

from canx_flow import client as flow
from canx_flow import send_event
from canx_flow.models import Event, Worker
from canx_flow.store import leases
from canx_flow.testing import run_until_idle

from . import runs
from .conftest import url
from .runs import SCRIPT, at_rest

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def said(client: Client, address: str, **query: str) -> str:
    """A page without its markup."""
    response = client.get(address, query)
    assert response.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


# -- workers -----------------------------------------------------------------------------------------


def test_the_list_says_which_workers_are_alive(operator: Client) -> None:
    """Alive, silent for longer than its lease, stopped, dead; and when each was last heard of."""
    with freeze_time(START) as clock:
        silent, gone, dead = (runs.a_worker(name=name) for name in ("quiet", "gone", "killed"))
        leases.say_goodbye(gone.id)
        leases.declare_dead(dead.id)
        clock.tick(60)
        runs.a_worker(name="fresh", queues=["slow", "mail"])
        text = said(operator, url("changelist", model="worker"))
    assert "fresh alive now elsewhere:4711 slow mail 16 0 0.1" in text
    assert "quiet silent 1 min ago elsewhere:4711 all 16 0 0.1" in text
    assert "gone stopped" in text
    assert "killed dead" in text
    assert text.index("fresh") < text.index("quiet") < text.index("killed") < text.index("gone")
    assert silent.state == "alive"


def test_a_worker_without_a_name_is_listed_by_its_host_once(operator: Client) -> None:
    """Its host and process are its name, which need not be said twice; its page has both."""
    worker = runs.a_worker()
    assert said(operator, url("changelist", model="worker")).count("elsewhere:4711") == 1
    assert said(operator, url("change", worker.id, model="worker")).count("Host: elsewhere:4711") == 1


def test_the_page_of_a_worker_says_what_it_does(operator: Client) -> None:
    """The runs it has, each with its step, linked; the workflows that it knows."""
    run_id = runs.running()
    worker = Worker.objects.get()
    leases.beat(worker.id, activity=json.dumps({str(run_id): {"step": SCRIPT}}))
    Worker.objects.update(workflows='[["order", "2"], ["plain", ""]]')
    content = operator.get(url("change", worker.id, model="worker")).content.decode()
    assert url("change", run_id) in content
    assert "&lt;script&gt;" in content
    assert SCRIPT not in content
    assert "order@2" in content


def test_the_number_of_queries_does_not_grow_with_the_workers(operator: Client) -> None:
    """Ten times as many cost no more."""
    counts = []
    for number in (2, 20):
        for _ in range(number):
            runs.a_worker()
        with CaptureQueriesContext(connection) as captured:
            said(operator, url("changelist", model="worker"))
        counts.append(len(captured.captured_queries))
    assert counts[0] == counts[1]


# -- events ------------------------------------------------------------------------------------------


def test_events_are_listed_with_who_read_them(operator: Client) -> None:
    """Sent to one run or to all; read, unread, or known to the reading runs alone."""
    run_id = at_rest("wait")
    flow.send(run_id, "unheard", {"n": 1})
    send_event("answered", "yes", key="k-1")
    flow.send(run_id, "answered", "direct")
    run_until_idle()
    text = said(operator, url("changelist", model="event"))
    short = f"{str(run_id)[:8]}…{str(run_id)[-4:]}"
    assert f"unheard {short} now unread" in text
    assert "answered k-1 all that wait for it now" in text
    assert text.count(short) == 2


def test_the_list_of_events_reads_no_payload(operator: Client) -> None:
    """A hundred of them may hold a megabyte each, and no column shows it."""
    send_event("big", "x" * 1000)
    with CaptureQueriesContext(connection) as captured:
        operator.get(url("changelist", model="event"))
    assert not [query for query in captured if "payload" in query["sql"]]


def test_the_page_of_an_event_shows_its_payload(operator: Client) -> None:
    """Readable and escaped, with the run that it was sent to."""
    run_id = at_rest("wait")
    flow.send(run_id, "unheard", {"html": SCRIPT}, dedup_id="d-1")
    content = operator.get(url("change", Event.objects.get().pk, model="event")).content.decode()
    assert "&lt;script&gt;" in content
    assert SCRIPT not in content
    assert url("change", run_id) in content
    assert "d-1" in content


def test_events_are_found_by_name_key_and_run(operator: Client) -> None:
    """And by nothing else: the table may be large."""
    run_id = at_rest("wait")
    flow.send(run_id, "mine")
    send_event("ours", key="k-9")
    for term, there in (("mine", "mine"), (str(run_id), "mine"), ("ours", "ours"), ("k-9", "ours")):
        text = said(operator, url("changelist", model="event"), q=term)
        assert "1 result " in text
        assert there in text
    assert "0 results" in said(operator, url("changelist", model="event"), q="nothing")
