"""The pages of workers and of events."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from freezegun import freeze_time

from canx_flow import client as flow
from canx_flow import send_event
from canx_flow.admin import events
from canx_flow.models import Event, Worker
from canx_flow.store import host, leases
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
        left = said(operator, url("changelist", model="worker"), state="gone")
    assert "fresh elsewhere:4711 alive now slow mail 0/16 0.1" in text
    assert "quiet elsewhere:4711 silent 1 min ago all 0/16 0.1" in text
    assert " killed " not in text
    assert "gone elsewhere:4711 stopped" in left
    assert "killed elsewhere:4711 dead" in left
    assert " fresh " not in left
    assert text.index("fresh") < text.index("quiet elsewhere")
    assert left.index("killed") < left.index("gone elsewhere")
    assert silent.state == "alive"


@pytest.mark.skipif(not host.identify().boot_id, reason="this system has no /proc to look processes up in")
def test_a_worker_whose_process_has_ended_is_dead_before_its_lease(operator: Client) -> None:
    """As the banner has it: nobody waits for its heartbeat to be late."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    there = asdict(host.identify()) | {"pid": process.pid, "process_started": "1"}
    Worker.objects.create(name="ended", **there)
    assert "ended" in (text := said(operator, url("changelist", model="worker")))
    assert re.search(r"ended \S+ dead", text)


def test_tabs_say_how_many_are_live_silent_and_gone(operator: Client) -> None:
    """Those that are there are shown first; each tab leads to its own."""
    with freeze_time(START) as clock:
        (
            runs.a_worker(),
            runs.a_worker(),
            leases.declare_dead(runs.a_worker().id),
            leases.say_goodbye(runs.a_worker().id),
        )
        clock.tick(60)
        runs.a_worker()
        text = said(operator, url("changelist", model="worker"))
    assert "Live and silent 3 Live 1 Silent 2 Gone 2" in text


def test_the_list_says_how_many_runs_each_has_in_hand(operator: Client) -> None:
    """By the runs themselves, whatever it has reported; of a dead one those that were not taken over yet."""
    with freeze_time(START) as clock:
        run_id = runs.running()
        clock.tick(20)
        leases.beat(Worker.objects.get().id)
        assert "1/16" in said(operator, url("changelist", model="worker"))
        step = {"step": "charge", "since": START.isoformat()}
        leases.beat(Worker.objects.get().id, activity=json.dumps({str(run_id): step}))
        assert "1/16 charge , 20 s" in said(operator, url("changelist", model="worker"))
        Worker.objects.update(state="dead")
        assert "holds 1" in said(operator, url("changelist", model="worker"), state="gone")


def test_the_run_that_a_killed_worker_held_is_linked(operator: Client) -> None:
    """While it is silent, while its runs wait to be taken over, and after that: by what it has said last."""
    with freeze_time(START) as clock:
        run_id = runs.running()
        worker = Worker.objects.get()
        leases.beat(worker.id, activity=json.dumps({str(run_id): {"step": "charge"}}))
        clock.tick(60)
        leases_said = operator.get(url("changelist", model="worker")).content.decode()
        assert url("change", run_id) in leases_said
        leases.declare_dead(worker.id)
        for words in ("holds 1", "held 1"):
            content = operator.get(url("changelist", model="worker"), {"state": "gone"}).content.decode()
            assert words in content
            assert url("change", run_id) in content
            assert "charge" in content
            leases.recover(worker.id)


def test_the_page_of_a_worker_names_the_runs_it_owns(operator: Client) -> None:
    """Also of one that has reported nothing yet."""
    run_id = runs.running()
    text = operator.get(url("change", Worker.objects.get().id, model="worker")).content.decode()
    assert "Runs in hand" in text
    assert url("change", run_id) in text


@pytest.mark.parametrize("chosen", ["alive", "silent", "dead"])
def test_workers_are_filtered_by_what_the_list_calls_them(operator: Client, chosen: str) -> None:
    """One that is alive by its row and silent is not among the live ones."""
    with freeze_time(START) as clock:
        runs.a_worker(name="w-silent"), leases.declare_dead(runs.a_worker(name="w-dead").id)
        clock.tick(60)
        runs.a_worker(name="w-alive")
        text = said(operator, url("changelist", model="worker"), state=chosen)
    assert {name for name in ("w-alive", "w-silent", "w-dead") if f" {name} " in text.partition(" Version")[2]} == {
        f"w-{chosen}"
    }


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
    said(operator, url("changelist", model="worker"))  # The banner looks once in some seconds.
    for number in (2, 20):
        for _ in range(number):
            runs.a_worker()
        with CaptureQueriesContext(connection) as captured:
            said(operator, url("changelist", model="worker"))
        counts.append(len(captured.captured_queries))
    assert counts[0] == counts[1]


def test_a_list_with_tabs_needs_no_script(operator: Client) -> None:
    """Tabs are links; on narrow screens a choice with a button."""
    content = operator.get(url("changelist", model="worker")).content.decode()
    assert 'href="?state=gone"' in content
    assert '<option value="gone">' in content


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


def test_among_very_many_events_the_newest_are_looked_through(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For names and keys: a run's own are all found, read and unread, and so are broadcasts by their names."""
    run_id = at_rest("wait")
    flow.send(run_id, "unheard", "unread")
    flow.send(run_id, "answered", "read by it")
    run_until_idle()
    send_event("ours", key="k-9")
    send_event("newest", key="k-8")
    monkeypatch.setattr(events, "NEWEST", 1)
    finds = {"ours": 1, "newest": 1, "k-8": 1, "k-9": 0, "answered": 0, "unheard": 0, str(run_id): 2}
    found = {term: said(operator, url("changelist", model="event"), q=term) for term in finds}
    assert {term: int(re.findall(r"(\d+) results? ", text)[0]) for term, text in found.items()} == finds
