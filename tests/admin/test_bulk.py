"""Cancel and retry of many runs: the selection, the page that asks, what became of each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.contrib.staticfiles import finders
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from canx_flow import client as flow
from canx_flow.admin import RunAdmin, bulk
from canx_flow.core import clock
from canx_flow.models import WorkflowRun
from canx_flow.testing import run_until_idle

from . import runs
from .conftest import CANCEL, LOOK, RETRY, Person, url
from .runs import MAKE, anything, at_rest, state
from .test_acting import broken, messages

pytestmark = pytest.mark.django_db


def choose(client: Client, action: str, *run_ids: UUID, across: bool = False, query: str = "") -> Any:
    """Tick these runs in the list, choose the action, press the button."""
    chosen = {"action": action, "_selected_action": list(map(str, run_ids)), "select_across": str(int(across))}
    return client.post(url("changelist") + query, {**chosen, "index": "0"})


def confirm(client: Client, asked: Any, reason: str = "", query: str = "", **ticks: str) -> Any:
    """Press "yes" on the page that asks: its hidden fields, the reason, and what is ticked."""
    content = asked.content.decode()
    fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', content)
    data: dict[str, Any] = {"reason": reason, **ticks}
    if 'name="undo"' in content:
        data["undo"] = "on"
    for name, value in fields:
        data.setdefault(name, []).append(value)
    return client.post(url("changelist") + query, data)


def test_the_page_that_asks_counts_by_state(operator: Client) -> None:
    """How many are in each state, what will happen to them; and nothing has happened."""
    made = {name: make() for name, make in MAKE.items()}
    asked = choose(operator, "cancel_runs", *made.values())
    content = asked.content.decode()
    assert "Cancel these runs?" in content
    assert "7 of 11 will be cancelled." in content
    for name, run_id in made.items():
        assert f"canx-badge canx-{name}" in content
        assert state(run_id) == name


def test_confirmed_runs_are_cancelled(operator: Client) -> None:
    """Each as it can be; the message counts the outcomes; the log has an entry for each that was tried."""
    made = {name: make() for name, make in MAKE.items()}
    asked = choose(operator, "cancel_runs", *made.values())
    response = confirm(operator, asked, "closing down")
    assert (response.status_code, response["Location"]) == (302, url("changelist"))
    assert messages(response) == ["6 cancelled, 1 is being cancelled, 3 already finished, 1 already stopping"]
    ended = {name: state(run_id) for name, run_id in made.items()}
    assert ended == dict.fromkeys(MAKE, "cancelled") | {
        "running": "stopping", "stopping": "stopping", "completed": "completed", "failed": "failed",
    }  # fmt: skip
    logged = dict(LogEntry.objects.values_list("object_id", "change_message"))
    assert logged == {
        str(made[name]): "Cancelled. Reason: closing down"
        for name in ("pending", "sleeping", "waiting", "retrying", "paused", "parked")
    } | {str(made["running"]): "Cancelled; the step in flight may finish. Reason: closing down"}
    run = WorkflowRun.objects.get(id=made["waiting"])
    assert (run.control_by, run.control_reason) == ("operator", "closing down")


def test_confirmed_runs_are_retried(operator: Client) -> None:
    """Failed and parked ones; the others are counted and left alone."""
    made = {name: make() for name, make in MAKE.items()}
    asked = choose(operator, "retry_runs", *made.values())
    assert "2 of 11 will be retried." in asked.content.decode()
    assert messages(confirm(operator, asked)) == ["2 retried, 9 neither failed nor parked"]
    assert state(made["failed"]) == state(made["parked"]) == "pending"
    assert set(LogEntry.objects.values_list("change_message", flat=True)) == {"Retried."}


def test_nothing_is_asked_where_nothing_can_be_done(operator: Client) -> None:
    """A selection in which no run can be changed leads back to the list, which says why not."""
    response = choose(operator, "cancel_runs", at_rest(), at_rest())
    assert response.status_code == 302
    assert messages(response) == ["Nothing to cancel: 2 runs have already finished."]
    retried = messages(choose(operator, "retry_runs", at_rest()))
    assert retried[-1] == "Nothing to retry: 1 run is neither failed nor parked."
    mixed = choose(operator, "cancel_runs", at_rest(), runs.stopping())
    assert messages(mixed)[-1] == "Nothing to cancel: 1 run has already finished, 1 run is already stopping."
    assert not LogEntry.objects.exists()


def test_all_pages_of_a_filter_can_be_chosen(operator: Client) -> None:
    """ "Select all" means all that matched the filter when the page asked: no run that came since is touched."""
    kept = anything.using(queue="other").start()
    anything.start_many([("sleep",)] * 120)
    some = WorkflowRun.objects.filter(queue="default").values_list("id", flat=True)[:3]
    asked = choose(operator, "cancel_runs", *some, across=True, query="?queue=default")
    content = asked.content.decode()
    assert "120 of 120 will be cancelled." in content
    assert "All that match the list's filters now" in content.replace("&#x27;", "'")
    assert content.count("_selected_action") == 1
    since = anything.start()
    response = confirm(operator, asked, query="?queue=default")
    assert messages(response) == ["120 cancelled"]
    assert response["Location"].endswith("?queue=default")
    assert state(kept) == state(since) == "pending"


def test_only_the_chosen_are_touched(operator: Client) -> None:
    """Beside them the list may be as long as it likes."""
    chosen, other = at_rest("sleep"), at_rest("sleep")
    asked = choose(operator, "cancel_runs", chosen)
    assert messages(confirm(operator, asked)) == ["1 cancelled"]
    assert state(other) == "sleeping"


def test_a_run_that_changed_meanwhile_is_counted_as_it_was_met(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the choice of ids and the update one ended and one was cancelled by somebody else: who is in the log."""
    first, second, third = (at_rest("sleep") for _ in range(3))
    asked = choose(operator, "cancel_runs", first, second, third)
    permitted = bulk.permitted

    def meanwhile(*arguments: Any) -> Any:
        WorkflowRun.objects.filter(id=first).update(state="completed")
        flow.cancel(second, "mine", by="bob")
        return permitted(*arguments)

    monkeypatch.setattr(bulk, "permitted", meanwhile)
    assert messages(confirm(operator, asked)) == ["1 cancelled, 2 already finished"]
    assert dict(LogEntry.objects.values_list("object_id", "change_message")) == {str(third): "Cancelled."}


@pytest.mark.parametrize(("action", "what"), [("cancel_runs", "sleep"), ("retry_runs", "fail")])
def test_of_two_who_confirm_the_same_one_is_logged(person: Person, action: str, what: str) -> None:
    """Or of two requests by one user: each run is changed by one of them, and the log says by which."""
    run_id = at_rest(what, note="x")
    ada, bob = (person(*LOOK, CANCEL, RETRY, name=name) for name in ("ada", "bob"))
    asked = [choose(client, action, run_id) for client in (ada, bob, ada)]
    for client, page in zip((ada, bob, ada), asked, strict=True):
        confirm(client, page)
    assert list(LogEntry.objects.values_list("user__username", "object_id")) == [("ada", str(run_id))]


def test_a_run_that_left_the_filter_meanwhile_is_still_the_one_chosen(operator: Client) -> None:
    """It was ticked among the sleeping ones and woke up before "yes": that is cancelled, and nothing beside it."""
    chosen, other = at_rest("sleep"), at_rest("sleep")
    asked = choose(operator, "cancel_runs", chosen, query="?state=sleeping")
    WorkflowRun.objects.filter(id=chosen).update(state="pending", ready=True)
    response = confirm(operator, asked, query="?state=sleeping")
    assert messages(response) == ["1 cancelled"]
    assert response["Location"].endswith("?state=sleeping")
    assert (state(chosen), state(other)) == ("cancelled", "sleeping")


def test_a_log_that_cannot_be_written_undoes_its_batch(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for one run: nothing is done of which the log knows nothing."""
    run_id = at_rest("sleep")
    asked = choose(operator, "cancel_runs", run_id)
    monkeypatch.setattr(LogEntry.objects, "log_actions", broken)
    operator.raise_request_exception = False
    assert confirm(operator, asked).status_code == 500
    assert state(run_id) == "sleeping"


def to_the_end(client: Client, answer: Any, query: str = "") -> tuple[int, Any]:
    """Press "Continue" as often as there is one; how many requests that took, and the last answer."""
    requests = 1
    while answer.status_code == 200:
        assert "data-canx-continue" in answer.content.decode()
        answer = confirm(client, answer, query=query)
        requests += 1
    return requests, answer


def test_what_is_more_than_one_request_takes_goes_on_page_by_page(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest first; between two pages others may start runs, which are not touched; the report links to each."""
    monkeypatch.setattr(RunAdmin, "bulk_limit", 2)
    ended = at_rest()
    ids = anything.start_many([()] * 5)
    asked = choose(operator, "cancel_runs", ids[0], across=True)
    page = confirm(operator, asked, "spring cleaning")
    assert [state(run_id) for run_id in ids] == ["cancelled"] * 2 + ["pending"] * 3
    content = page.content.decode()
    assert "2 of 5 so far." in content
    assert "canx_flow/bulk.js" in content
    script = Path(finders.find("canx_flow/bulk.js") or "").read_text()
    assert "DOMContentLoaded" in script  # It stands in the head: the form is not there yet when it is read.
    since = anything.start()
    _requests, answer = to_the_end(operator, page)
    assert [state(run_id) for run_id in (*ids, ended, since)] == ["cancelled"] * 5 + ["completed", "pending"]
    report = operator.get(answer["Location"]).content.decode()
    assert "5 cancelled" in report
    assert "1 already finished" in report
    assert "spring cleaning" in report
    assert all(url("change", run_id) in report for run_id in ids)
    assert url("change", since) not in report
    assert set(LogEntry.objects.values_list("object_id", flat=True)) == set(map(str, ids))


def test_the_pin_of_another_user_is_none(operator: Client, admin_client: Client) -> None:
    """Nor is one that was changed: the page asks again, and the report is not shown."""
    run_id = at_rest("sleep")
    asked = choose(admin_client, "cancel_runs", run_id, across=True)
    assert "Cancel these runs?" in confirm(operator, asked).content.decode()
    assert state(run_id) == "sleeping"
    report = confirm(admin_client, asked)
    (link,) = re.findall(r'href="([^"]+report/[^"]+)"', str(next(iter(get_messages(report.wsgi_request)))))
    assert admin_client.get(link).status_code == 200
    assert operator.get(link).status_code == 302
    assert operator.get(f"{link}x").status_code == 302


def test_a_run_that_ended_anew_since_is_not_retried(operator: Client) -> None:
    """It was not among those that had failed when the page asked: its failure is another one."""
    before = at_rest("fail", note="x")
    again = at_rest("sleep")
    asked = choose(operator, "retry_runs", before, across=True, query="?state=failed")
    WorkflowRun.objects.filter(id=again).update(state="failed", finished_at=clock.now())
    assert messages(confirm(operator, asked, query="?state=failed")) == ["1 retried"]
    assert (state(before), state(again)) == ("pending", "failed")


def killer() -> UUID:
    """A run that is parked because its workers die with it."""
    run_id = runs.parked()
    WorkflowRun.objects.filter(id=run_id).update(
        version="", reason="TooManyRecoveries: its worker died 13 times", recoveries=13
    )
    return run_id


def test_runs_that_kill_their_workers_are_left_out_unless_ticked(operator: Client) -> None:
    """Many are retried without them; with the tick, with them."""
    failed, kills = at_rest("fail", note="x"), killer()
    asked = choose(operator, "retry_runs", failed, kills)
    assert "Also the 1 run that has killed its workers: it may kill up to 13 more" in asked.content.decode()
    assert messages(confirm(operator, asked)) == ["1 retried, 1 that has killed its workers"]
    assert (state(failed), state(kills)) == ("pending", "parked")
    asked = choose(operator, "retry_runs", kills)
    assert messages(confirm(operator, asked, kills="on")) == ["1 retried"]
    assert state(kills) == "pending"


def test_many_are_paused_woken_and_resumed(operator: Client) -> None:
    """As one is, each counted as what became of it."""
    asleep, ended = at_rest("sleep"), at_rest()
    for action, said, then in (
        ("pause_runs", "1 paused, 1 ending or finished", "paused"),
        ("resume_runs", "1 resumed, 1 not paused", "pending"),
    ):
        assert messages(confirm(operator, choose(operator, action, asleep, ended))) == [said]
        assert state(asleep) == then
    other = at_rest("sleep")
    assert messages(confirm(operator, choose(operator, "wake_runs", other, ended))) == [
        "1 woken, 1 without an open timer"
    ]
    run_until_idle()
    assert state(other) == "completed"


def test_ten_thousand_are_cancelled_in_bounded_requests(operator: Client) -> None:
    """Five hundred at a time, in some queries each, with an entry in the log for every one."""
    anything.start_many([("sleep",)] * 10_000)
    one = WorkflowRun.objects.values_list("id", flat=True)[0]
    asked = choose(operator, "cancel_runs", one, across=True)
    assert "10,000 of 10,000 will be cancelled." in asked.content.decode()
    with CaptureQueriesContext(connection) as captured:
        page = confirm(operator, asked, "spring cleaning")
    assert "500 of 10,000 so far." in page.content.decode()
    assert len(captured.captured_queries) < 60
    requests, answer = to_the_end(operator, page)
    assert requests == 21
    assert "10,000 cancelled" in operator.get(answer["Location"]).content.decode()
    assert WorkflowRun.objects.filter(state="cancelled", control_by="operator").count() == 10_000
    assert LogEntry.objects.filter(change_message="Cancelled. Reason: spring cleaning").count() == 10_000


def test_each_action_has_a_permission_of_its_own(person: Person) -> None:
    """The list offers what somebody may do."""
    anything.start()
    content = person("view_workflowrun", "retry_run").get(url("changelist"), {"state": "all"}).content.decode()
    assert "Retry selected workflow runs" in content
    assert "Cancel selected" not in content
    assert "Delete selected" not in content


@pytest.mark.parametrize("across", [False, True])
def test_a_reason_too_long_is_asked_for_again(operator: Client, across: bool) -> None:
    """The selection is still there, and nothing has happened."""
    run_id = at_rest("sleep")
    asked = confirm(operator, choose(operator, "cancel_runs", run_id, across=across), "x" * 501)
    assert "at most 500 characters" in asked.content.decode()
    assert state(run_id) == "sleeping"
    assert messages(confirm(operator, asked, "short")) == ["1 cancelled"]


def test_an_id_that_is_none_is_no_run(operator: Client) -> None:
    """A forged selection reaches nothing."""
    run_id = at_rest("sleep")
    forged = "01900000-0000-7000-8000-000000000000"
    data = {"action": "cancel_runs", "_selected_action": [forged], "confirmed": "yes", "reason": ""}
    assert messages(operator.post(url("changelist"), data)) == [
        "Nothing to cancel: the chosen runs are no longer there."
    ]
    assert state(run_id) == "sleeping"
    assert not LogEntry.objects.exists()


def test_an_owned_run_may_be_among_them(operator: Client) -> None:
    """Its worker is told to stop; the message says that this one is not over yet."""
    run_id = runs.running()
    asked = choose(operator, "cancel_runs", run_id)
    assert "The step in flight may finish" in asked.content.decode()
    assert messages(confirm(operator, asked)) == ["1 is being cancelled"]
