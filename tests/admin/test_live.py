"""Pages that refresh themselves: what the script is answered, what that costs, and that nothing is missed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.staticfiles import finders
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from freezegun import freeze_time

from canx_flow.admin import live
from canx_flow.core import registry
from canx_flow.insight import pulse
from canx_flow.models import Worker, WorkflowRun
from canx_flow.store import timers
from canx_flow.testing import run_until_idle
from tests.processes import WorkerProcess
from tests.waiting import wait_until
from tests.workflows import held

from . import runs
from .conftest import FRESH, VIEW, Person, url
from .runs import anything, at_rest
from .test_payloads import EVERYTHING_ELSE, SECRET, secrets  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALL = {"state": "all"}


@pytest.fixture(autouse=True)
def _as_fresh_as_ever(_looked_at_anew: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the banner says is as old here as it may be for people."""
    monkeypatch.setattr(pulse, "FRESH", FRESH)


@pytest.fixture
def noon() -> Iterator[Any]:
    """A clock that stands until it is moved."""
    with freeze_time(START) as clock:
        yield clock


def ask(client: Client, address: str, tag: str = "") -> Any:
    """Ask as the script does: with the tag of what it has, if it has anything."""
    return client.get(address, headers={live.HEADER: "1", **({"If-None-Match": tag} if tag else {})})


def pages(run_id: UUID) -> dict[str, str]:
    """The pages that refresh themselves; of the index the banner."""
    return {
        "index": url("banner"), "list": f"{url('changelist')}?state=all", "run": url("change", run_id),
        "workers": url("changelist", model="worker"),
    }  # fmt: skip


def tags(client: Client, addresses: dict[str, str]) -> dict[str, str]:
    """What the script has of each page."""
    return {name: ask(client, address)["ETag"] for name, address in addresses.items()}


def text(answer: Any) -> str:
    """An answer without its markup."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


# -- what has not changed ----------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["sleeping", "waiting", "retrying", "running", "failed", "completed", "parked"])
def test_a_page_that_has_not_changed_is_not_drawn(operator: Client, noon: Any, state: str) -> None:
    """It is answered with nothing but that."""
    run_id = runs.MAKE[state]()
    addresses = pages(run_id)
    for name, tag in tags(operator, addresses).items():
        noon.tick(0.5)
        answer = ask(operator, addresses[name], tag)
        assert (answer.status_code, answer.content) == (304, b""), name


def test_a_tag_that_was_weakened_on_its_way_is_known(operator: Client, noon: Any) -> None:
    """What compresses answers says of a tag that it is weak, and may quote several."""
    address = url("change", at_rest("sleep"))
    tag = ask(operator, address)["ETag"]
    assert tag.startswith('W/"')
    assert ask(operator, address, f'"x", {tag}').status_code == 304


def test_after_ten_seconds_it_is_drawn_all_the_same(operator: Client, noon: Any) -> None:
    """A wait may be over by then that no row tells of. Of a run that has ended, after a minute."""
    sleeping, ended = url("change", at_rest("sleep")), url("change", at_rest())
    before = {address: ask(operator, address)["ETag"] for address in (sleeping, ended)}
    noon.tick(10)
    assert ask(operator, sleeping, before[sleeping]).status_code == 200
    assert ask(operator, ended, before[ended]).status_code == 304
    noon.tick(60)
    assert ask(operator, ended, before[ended]).status_code == 200


@pytest.mark.parametrize("name", ["dashboard", "queues"])
def test_a_page_about_all_runs_is_drawn_anew_after_some_seconds(operator: Client, noon: Any, name: str) -> None:
    """Before that it is answered without a query about runs; by then it shows what has become of them."""
    address = url(name)
    tag = ask(operator, address)["ETag"]
    with CaptureQueriesContext(connection) as queries:
        assert ask(operator, address, tag).status_code == 304
    assert not [query["sql"] for query in queries if "canx_flow_workflowrun" in query["sql"]]
    run_until_idle()
    runs.MAKE["pending"]()
    noon.tick(live.OVERVIEW)
    answer = ask(operator, address, tag)
    assert answer.status_code == 200
    assert answer["ETag"] != tag
    assert 'data-canx-live="parts"' in answer.content.decode()


def test_people_are_given_the_page_whatever_their_browser_has(operator: Client, noon: Any) -> None:
    """Only the script says which answer it can use."""
    address = url("change", at_rest("sleep"))
    tag = ask(operator, address)["ETag"]
    answer = operator.get(address, headers={"If-None-Match": tag})
    assert answer.status_code == 200
    assert not answer.has_header("ETag")


# -- what has changed --------------------------------------------------------------------------------


def _activity(run_id: UUID) -> None:
    Worker.objects.update(activity=json.dumps({str(run_id): {"step": "charge", "attempt": 1}}))


def _silence(_run_id: UUID) -> None:
    Worker.objects.update(beat_at=START - timedelta(hours=1))


def _sent(run_id: UUID) -> None:
    anything.send(run_id, "unheard", 1)


def _answered(run_id: UUID) -> None:
    anything.send(run_id, "answered", 1)
    run_until_idle()


CHANGES: dict[str, tuple[Callable[[], UUID], Callable[[UUID], Any], str]] = {
    "paused": (lambda: at_rest("sleep"), lambda run_id: anything.pause(run_id, "lunch"), "lunch"),
    "woken": (lambda: at_rest("sleep"), lambda run_id: (anything.wake(run_id), run_until_idle()), "✓ completed"),
    "retried": (lambda: at_rest("fail", note="luck"), anything.retry, "pending"),
    "sent an event": (lambda: at_rest("wait"), _sent, "unheard"),
    "given what it waits for": (lambda: at_rest("wait"), _answered, "✓ completed"),
    "forked": (lambda: at_rest("sleep"), lambda run_id: anything.fork(run_id, "nap"), "fork as"),
    "in a step": (runs.running, _activity, "charge"),
    "with a worker that is silent": (runs.running, _silence, "silent for"),
    "with a name": (at_rest, lambda run_id: WorkflowRun.objects.filter(id=run_id).update(key="k-9"), "k-9"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_page_that_has_changed_is_drawn_at_once(operator: Client, noon: Any, change: str) -> None:
    """Whatever has changed of the run, and whoever has changed it."""
    make, act, said = CHANGES[change]
    run_id = make()
    address = url("change", run_id)
    first = ask(operator, address)
    assert said not in text(first)
    act(run_id)
    again = ask(operator, address, first["ETag"])
    assert again.status_code == 200
    assert said in text(again)
    assert again["ETag"] != first["ETag"]


def test_a_list_shows_what_has_become_of_its_runs(operator: Client, noon: Any) -> None:
    """A run that goes on, and one that comes."""
    run_id = at_rest("sleep")
    address = f"{url('changelist')}?state=all"
    tag = ask(operator, address)["ETag"]
    anything.pause(run_id, "lunch")
    paused = ask(operator, address, tag)
    assert "lunch" in text(paused)
    new = anything.start()
    assert str(new) in ask(operator, address, paused["ETag"]).content.decode()


def test_a_list_of_workers_shows_their_heartbeats(operator: Client, noon: Any) -> None:
    """Which are what it is looked at for."""
    runs.a_worker()
    address = url("changelist", model="worker")
    tag = ask(operator, address)["ETag"]
    noon.tick(1)
    assert ask(operator, address, tag).status_code == 304
    Worker.objects.update(beat_at=datetime.now(UTC))
    assert ask(operator, address, tag).status_code == 200


# -- what it costs -----------------------------------------------------------------------------------


def queries(client: Client, address: str, tag: str = "") -> int:
    """How many statements the answer takes."""
    with CaptureQueriesContext(connection) as captured:
        ask(client, address, tag)
    return len(captured)


def test_what_has_not_changed_is_told_by_a_fixed_number_of_queries(operator: Client, noon: Any) -> None:
    """Fewer than drawing it takes, for three steps and for sixty, for three runs and for forty."""
    counted: list[list[int]] = []
    for number in (3, 60):
        run_id = runs.many_steps.start(number)
        run_until_idle()
        for _ in range(number // 3):
            at_rest("retry", note="luck")
        addresses = pages(run_id)
        found = tags(operator, addresses)
        drawn = {name: queries(operator, address) for name, address in addresses.items()}
        unchanged = {name: queries(operator, address, found[name]) for name, address in addresses.items()}
        assert unchanged["run"] < drawn["run"]
        assert unchanged["list"] < drawn["list"]
        counted.append([*drawn.values(), *unchanged.values()])
    assert counted[0] == counted[1]


def test_of_a_run_that_nobody_has_in_hand_no_record_is_asked_for(operator: Client, noon: Any) -> None:
    """However many there are: they change with the run. Of one that a worker has, they are counted."""
    for make, counted in ((lambda: at_rest("sleep"), 0), (at_rest, 0), (runs.running, 1)):
        address = url("change", make())
        tag = ask(operator, address)["ETag"]
        with CaptureQueriesContext(connection) as captured:
            assert ask(operator, address, tag).status_code == 304
        asked = [query["sql"] for query in captured if "canx_flow_steprecord" in query["sql"]]
        assert len(asked) == counted


def test_what_may_be_megabytes_is_not_read_to_tell_that_nothing_has_changed(operator: Client, noon: Any) -> None:
    """Arguments and results; the page itself shows them."""
    address = url("change", at_rest(note="zebra"))
    first = ask(operator, address)
    assert "zebra" in text(first)
    with CaptureQueriesContext(connection) as captured:
        assert ask(operator, address, first["ETag"]).status_code == 304
    said = " ".join(query["sql"] for query in captured)
    assert "canx_flow_workflowrun" in said
    assert not re.search(r"[`\".](arguments|result)[`\"]", said)


# -- whom it answers ---------------------------------------------------------------------------------


def test_who_may_not_look_is_told_nothing(person: Person, operator: Client, noon: Any) -> None:
    """Not even that nothing has changed."""
    run_id = at_rest("sleep")
    addresses = pages(run_id)
    found = tags(operator, addresses)
    for name, address in addresses.items():
        assert ask(person(name=f"nobody-{name}"), address, found[name]).status_code == 403, name
        assert ask(Client(), address, found[name]).status_code == 302, name


def test_a_permission_that_is_taken_away_counts_at_once(operator: Client, noon: Any) -> None:
    """Though the page has not changed."""
    from django.contrib.auth.models import User

    address = url("change", at_rest("sleep"))
    tag = ask(operator, address)["ETag"]
    User.objects.get(username="operator").user_permissions.clear()
    assert ask(operator, address, tag).status_code == 403


def test_the_tag_of_one_person_is_not_that_of_another(person: Person, operator: Client, noon: Any) -> None:
    """They may see different things."""
    address = url("change", at_rest("sleep"))
    tag = ask(operator, address)["ETag"]
    assert ask(person(VIEW, name="other"), address, tag).status_code == 200


def test_a_tag_cannot_be_made_without_the_projects_secret(operator: Client, rf: Any, settings: Any) -> None:
    """It depends on what its reader may not see, and could be guessed until it is the same."""
    request = rf.get("/admin/")
    request.user = operator.get(url("changelist")).wsgi_request.user
    found = []
    for settings.SECRET_KEY in ("one", "one", "another"):
        found.append(live._tag(request, ["hidden"]))
    assert found[0] == found[1] != found[2]


def test_nobody_finds_in_an_answer_what_the_page_hides(person: Person, secrets: list[UUID]) -> None:  # noqa: F811
    """A user without the permission to view payloads, on every page that refreshes itself."""
    client = person(*EVERYTHING_ELSE)
    for run_id in secrets:
        for name, address in pages(run_id).items():
            answer = ask(client, address)
            assert answer.status_code == 200
            assert SECRET not in answer.content.decode(), name
            assert SECRET not in str(answer.headers), name


def test_what_the_site_has_to_say_is_kept_for_its_reader(operator: Client) -> None:
    """The script does not read it away in another tab."""
    run_id = at_rest("sleep")
    operator.post(url("pause", run_id), {"reason": "lunch"})
    for address in pages(run_id).values():
        assert "messagelist" not in ask(operator, address).content.decode()
    assert "messagelist" in operator.get(url("change", run_id)).content.decode()


# -- the pages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["index", "list", "run", "workers"])
def test_a_page_can_be_loaded_anew_without_a_script(operator: Client, page: str) -> None:
    """By a link. What needs the script is hidden until there is one, which is a file of this site."""
    addresses = {**pages(at_rest("sleep")), "index": reverse("admin:index")}
    content = operator.get(addresses[page]).content.decode()
    [link] = re.findall(r'<a class="canx-refresh" href="([^"]+)">', content)
    assert operator.get(link.replace("&amp;", "&")).status_code == 200
    assert re.search(r'<button type="button" class="canx-toggle" [^>]*hidden', content)
    for name in ("admin", "morph", "live"):
        assert f"canx_flow/{name}.js" in content
        assert finders.find(f"canx_flow/{name}.js")


def test_a_run_is_asked_for_more_often_than_a_list_and_one_that_has_ended(operator: Client) -> None:
    """Every two seconds, five and ten."""
    addresses = [url("change", at_rest("sleep")), f"{url('changelist')}?state=all", url("change", at_rest())]
    found = [re.findall(r'data-canx-every="(\d+)"', operator.get(address).content.decode()) for address in addresses]
    assert found == [["2"], ["5"], ["10"]]


def test_only_what_may_change_is_named_and_each_part_once(operator: Client) -> None:
    """By these names the script finds on the page what it was answered."""
    content = operator.get(url("change", at_rest("sleep"))).content.decode()
    names = re.findall(r'data-canx-live="(\w+)"', content)
    assert sorted(names) == sorted(set(names))
    assert {"banner", "tools", "head", "parts"} <= set(names)


def test_on_the_index_it_is_the_banner_that_is_asked_for(operator: Client, person: Person) -> None:
    """The rest of that page is not ours. Who may not see runs has no switch there."""
    content = operator.get(reverse("admin:index")).content.decode()
    assert f'data-canx-url="{url("banner")}"' in content
    assert "data-canx-every" not in person().get(reverse("admin:index")).content.decode()


# -- each page says what is wrong within one poll ----------------------------------------------------


def polled(client: Client, addresses: dict[str, str], found: dict[str, str]) -> dict[str, str]:
    """What the next poll of each page says."""
    answers = {name: ask(client, address, found[name]) for name, address in addresses.items()}
    assert {answer.status_code for answer in answers.values()} == {200}
    return {name: text(answer) for name, answer in answers.items()}


def test_within_one_poll_a_worker_of_another_queue_only(operator: Client, noon: Any) -> None:
    """Index, list, run page and workers, as soon as a run is due that the worker does not serve."""
    runs.a_worker(queues=["mail"], workflows=list(registry.identities()))
    run_id = anything.using(queue="billing", delay=3600).start()
    addresses = pages(run_id)
    found = tags(operator, addresses)
    anything.wake(run_id)
    timers.fire("default")
    noon.tick(pulse.FRESH)
    for name, said in polled(operator, addresses, found).items():
        assert "No live worker serves billing : 1 run is due" in said, name


def test_within_one_poll_an_unknown_workflow(operator: Client, noon: Any) -> None:
    """As soon as one is due that no worker knows."""
    runs.a_worker(workflows=list(registry.identities()))
    run_id = anything.start()
    addresses = pages(run_id)
    found = tags(operator, addresses)
    WorkflowRun.objects.update(version="gone")
    noon.tick(pulse.FRESH)
    for name, said in polled(operator, addresses, found).items():
        assert "No live worker knows admin.any@gone : 1 run waits." in said, name


def test_within_one_poll_a_silent_worker(operator: Client, noon: Any) -> None:
    """As soon as its lease has run out."""
    run_id = runs.running()
    addresses = pages(run_id)
    found = tags(operator, addresses)
    noon.tick(timedelta(seconds=4))
    for name, said in polled(operator, addresses, found).items():
        assert "1 worker is silent: elsewhere:4711 for 4.0 s." in said, name
    assert "silent for 4.0 s" in text(ask(operator, addresses["run"]))


def test_within_one_poll_the_worker_is_killed(operator: Client, worker: WorkerProcess) -> None:
    """A real one, which has no time to say so, with a run in its hands and another due."""
    run_id = held.start("one")
    worker.start()
    wait_until(lambda: held.status(run_id).state == "running")
    addresses = pages(run_id)
    tags(operator, addresses)
    for name, address in addresses.items():
        assert "No live worker" not in text(ask(operator, address)), name
    worker.kill()
    held.start("two")
    for name, address in addresses.items():
        wait_until(
            lambda page=address: "No live worker serves default : 1 run is due" in text(ask(operator, page)),
            timeout=live.LIST, message=name,
        )  # fmt: skip
    assert "taken over when another worker runs" in text(ask(operator, addresses["run"]))
    assert "stuck" in text(ask(operator, addresses["list"]))
