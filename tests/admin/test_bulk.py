"""Cancel and retry of many runs: the selection, the page that asks, what became of each."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from canx_flow import client as flow
from canx_flow.admin import RunAdmin
from canx_flow.models import WorkflowRun

from . import runs
from .conftest import Person, url
from .runs import MAKE, anything, at_rest, state
from .test_acting import broken, messages

pytestmark = pytest.mark.django_db


def choose(client: Client, action: str, *run_ids: UUID, across: bool = False, query: str = "") -> Any:
    """Tick these runs in the list, choose the action, press the button."""
    chosen = {"action": action, "_selected_action": list(map(str, run_ids)), "select_across": str(int(across))}
    return client.post(url("changelist") + query, {**chosen, "index": "0"})


def confirm(client: Client, asked: Any, reason: str = "", query: str = "") -> Any:
    """Press "yes" on the page that asks: its hidden fields, and the reason."""
    fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', asked.content.decode())
    data: dict[str, Any] = {"reason": reason}
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
    assert messages(confirm(operator, asked)) == ["2 go on, 9 neither failed nor parked"]
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
    """ "Select all" means all that match the filter, when it is confirmed; no other run is touched."""
    kept = anything.using(queue="other").start()
    anything.start_many([("sleep",)] * 120)
    some = WorkflowRun.objects.filter(queue="default").values_list("id", flat=True)[:3]
    asked = choose(operator, "cancel_runs", *some, across=True, query="?queue=default")
    content = asked.content.decode()
    assert "120 of 120 will be cancelled." in content
    assert "All that match the list's filters when you confirm" in content
    assert content.count("_selected_action") == 1
    anything.start()
    response = confirm(operator, asked, query="?queue=default")
    assert messages(response) == ["121 cancelled"]
    assert response["Location"].endswith("?queue=default")
    assert state(kept) == "pending"


def test_only_the_chosen_are_touched(operator: Client) -> None:
    """Beside them the list may be as long as it likes."""
    chosen, other = at_rest("sleep"), at_rest("sleep")
    asked = choose(operator, "cancel_runs", chosen)
    assert messages(confirm(operator, asked)) == ["1 cancelled"]
    assert state(other) == "sleeping"


def test_a_run_that_changed_meanwhile_is_counted_as_it_was_met(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the choice of ids and the update one ended and one was cancelled by somebody else."""
    first, second, third = (at_rest("sleep") for _ in range(3))
    asked = choose(operator, "cancel_runs", first, second, third)
    bulk_cancel = flow.bulk_cancel

    def meanwhile(*arguments: Any, **keywords: Any) -> dict[str, int]:
        WorkflowRun.objects.filter(id=first).update(state="completed")
        flow.cancel(second, "mine", by="bob")
        return bulk_cancel(*arguments, **keywords)

    monkeypatch.setattr(flow, "bulk_cancel", meanwhile)
    assert messages(confirm(operator, asked)) == ["1 cancelled, 2 already finished"]
    logged = dict(LogEntry.objects.values_list("object_id", "change_message"))
    assert logged[str(first)] == "Cancel changed nothing: the run was completed."
    assert logged[str(second)] == "Cancel changed nothing: the run was cancelled."
    assert logged[str(third)] == "Cancelled."


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


def test_an_action_takes_so_many_and_says_what_is_left(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest first; done again it goes on with the rest."""
    monkeypatch.setattr(RunAdmin, "bulk_limit", 2)
    ids = anything.start_many([()] * 3)
    asked = choose(operator, "cancel_runs", *ids)
    assert "At most 2 at once: do it again for the rest." in asked.content.decode()
    assert messages(confirm(operator, asked)) == [
        "2 cancelled", "Left: 1, as at most 2 are taken at once. Do it again for the rest.",
    ]  # fmt: skip
    assert [state(run_id) for run_id in ids] == ["cancelled", "cancelled", "pending"]
    assert messages(confirm(operator, choose(operator, "cancel_runs", *ids)))[-1] == "1 cancelled, 2 already finished"


def test_ten_thousand_are_cancelled_in_batches(operator: Client) -> None:
    """In some queries for each five hundred, with an entry in the log for every one."""
    anything.start_many([("sleep",)] * 10_000)
    one = WorkflowRun.objects.values_list("id", flat=True)[0]
    asked = choose(operator, "cancel_runs", one, across=True)
    assert "10000 of 10000 will be cancelled." in asked.content.decode()
    with CaptureQueriesContext(connection) as captured:
        response = confirm(operator, asked, "spring cleaning")
    assert messages(response) == ["10000 cancelled"]
    assert WorkflowRun.objects.filter(state="cancelled", control_by="operator").count() == 10_000
    assert LogEntry.objects.filter(change_message="Cancelled. Reason: spring cleaning").count() == 10_000
    assert len(captured.captured_queries) < 20 * 30


def test_each_action_has_a_permission_of_its_own(person: Person) -> None:
    """The list offers what somebody may do."""
    anything.start()
    content = person("view_workflowrun", "retry_run").get(url("changelist")).content.decode()
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
