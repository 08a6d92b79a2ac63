"""Cancel and retry of one run: the button, the page that asks, the POST, what it leaves behind."""

from __future__ import annotations

import json
import re
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.test import Client

from canx_flow import client as flow
from canx_flow.models import Worker, WorkflowRun
from canx_flow.testing import run_until_idle

from . import runs
from .conftest import VIEW, Person, url
from .runs import MAKE, anything, at_rest, state

pytestmark = pytest.mark.django_db

CANCELLABLE = {"pending", "running", "sleeping", "waiting", "retrying", "paused", "parked"}
RETRYABLE = {"failed", "parked"}


def messages(response: Any) -> list[str]:
    """What the person is told, without the link to a report."""
    told = [str(message) for message in get_messages(response.wsgi_request)]
    return [re.sub(r" <a [^>]*>Which\?</a>$", "", message) for message in told]


def entries() -> list[tuple[str, str, str]]:
    """The admin's log: who, which run, what."""
    rows = LogEntry.objects.order_by("id").values_list("user__username", "object_id", "change_message")
    return [(user, str(run), message) for user, run, message in rows]


# -- buttons -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKE)
def test_buttons_are_there_where_the_verb_applies(operator: Client, viewer: Client, name: str) -> None:
    """Cancel until it ends, retry once it failed or is parked; to somebody who may only look, neither."""
    run_id = MAKE[name]()
    content = operator.get(url("change", run_id)).content.decode()
    assert (f'href="{url("cancel", run_id)}"' in content) == (name in CANCELLABLE)
    assert (f'href="{url("retry", run_id)}"' in content) == (name in RETRYABLE)
    content = viewer.get(url("change", run_id)).content.decode()
    assert url("cancel", run_id) not in content
    assert url("retry", run_id) not in content


def test_each_button_has_a_permission_of_its_own(person: Person) -> None:
    """Who may retry need not be allowed to cancel."""
    run_id = runs.parked()
    content = person("view_workflowrun", "retry_run").get(url("change", run_id)).content.decode()
    assert url("retry", run_id) in content
    assert url("cancel", run_id) not in content


# -- the page that asks ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(CANCELLABLE))
def test_the_page_says_what_cancel_will_do(operator: Client, name: str) -> None:
    """One that is running may finish its step; the others end at once. A GET changes nothing."""
    run_id = MAKE[name]()
    before = WorkflowRun.objects.values().get(id=run_id)
    content = operator.get(url("cancel", run_id)).content.decode()
    assert "Cancel this run?" in content
    assert ("The step in flight may finish" in content) == (name == "running")
    assert "can be neither resumed nor retried" in content
    assert 'name="reason"' in content
    assert WorkflowRun.objects.values().get(id=run_id) == before


@pytest.mark.parametrize("name", sorted(RETRYABLE))
def test_the_page_says_what_retry_will_do(operator: Client, name: str) -> None:
    """A failed run goes on where it failed; a parked one is looked at again."""
    run_id = MAKE[name]()
    content = operator.get(url("retry", run_id)).content.decode()
    assert ("finished steps keep their results" in content) == (name == "failed")
    assert ("parks again" in content) == (name == "parked")
    assert state(run_id) == name


@pytest.mark.parametrize(("verb", "name"), [("cancel", "completed"), ("cancel", "stopping"), ("retry", "sleeping")])
def test_there_is_nothing_to_ask_where_the_verb_does_not_apply(operator: Client, verb: str, name: str) -> None:
    """The page leads back to the run, and says why."""
    run_id = MAKE[name]()
    response = operator.get(url(verb, run_id), follow=True)
    assert response.redirect_chain == [(url("change", run_id), 302)]
    assert "nothing was changed" in response.content.decode()


@pytest.mark.parametrize("key", ["01900000-0000-7000-8000-000000000000", "nonsense"])
def test_an_unknown_run_leads_to_the_list(operator: Client, key: str) -> None:
    """Whatever is in the address."""
    response = operator.post(url("cancel", key))
    assert (response.status_code, response["Location"]) == (302, url("changelist"))
    assert messages(response) == ["There is no such run."]


@pytest.mark.parametrize("method", ["put", "patch", "delete", "options"])
def test_only_get_and_post_are_answered(operator: Client, method: str) -> None:
    """Anything else is refused before anything is looked at."""
    run_id = at_rest("sleep")
    assert getattr(operator, method)(url("cancel", run_id)).status_code == 405
    assert state(run_id) == "sleeping"


# -- cancel ------------------------------------------------------------------------------------------


def test_a_confirmed_cancel_ends_the_run(operator: Client) -> None:
    """The run keeps who and why, the log has an entry, the person is told and sees the run again."""
    run_id = at_rest("sleep")
    response = operator.post(url("cancel", run_id), {"reason": "ordered twice"})
    assert (response.status_code, response["Location"]) == (302, url("change", run_id))
    assert messages(response) == ["The run is cancelled."]
    run = WorkflowRun.objects.get(id=run_id)
    assert (run.state, run.reason, run.control_by, run.control_reason) == (
        "cancelled", "ordered twice", "operator", "ordered twice",
    )  # fmt: skip
    assert entries() == [("operator", str(run_id), "Cancelled. Reason: ordered twice")]


def test_a_running_run_is_said_to_be_stopping(operator: Client) -> None:
    """Its worker ends it."""
    run_id = runs.running()
    response = operator.post(url("cancel", run_id))
    assert messages(response) == [
        "The run is being cancelled: the step in flight may finish, and what has an undo is undone."
    ]
    assert state(run_id) == "stopping"
    assert entries() == [("operator", str(run_id), "Cancelled; the step in flight may finish.")]


def test_a_run_that_ended_meanwhile_is_left_alone(operator: Client) -> None:
    """Between the page that asked and the answer the run completed: said, logged, nothing changed."""
    run_id = at_rest()
    response = operator.post(url("cancel", run_id), {"reason": "late"})
    assert messages(response) == ["The run has already ended: nothing was changed."]
    assert state(run_id) == "completed"
    assert entries() == [
        ("operator", str(run_id), "Cancel changed nothing: the run was completed. Reason: late"),
    ]


# -- retry -------------------------------------------------------------------------------------------


def test_a_confirmed_retry_lets_the_run_go_on(operator: Client) -> None:
    """The failed step gets its attempts anew, and what was finished is kept."""
    run_id = at_rest("fail", note="luck")
    response = operator.post(url("retry", run_id), {"reason": "provider is back"}, follow=True)
    assert "The run goes on." in response.content.decode()
    run = WorkflowRun.objects.get(id=run_id)
    assert (run.state, run.control, run.control_by) == ("pending", "retry", "operator")
    assert entries() == [("operator", str(run_id), "Retried. Reason: provider is back")]
    run_until_idle()
    steps = dict(run.records.values_list("name", "attempts"))
    assert steps == {"begin": 1, "hopeless": 2}
    assert state(run_id) == "failed"


def test_a_run_that_may_not_be_retried_says_why(operator: Client) -> None:
    """What was not done becomes a message, and an entry in the log."""
    run_id = at_rest("sleep")
    response = operator.post(url("retry", run_id))
    (message,) = messages(response)
    assert message == "The run is neither failed nor parked: nothing was changed."
    assert state(run_id) == "sleeping"
    ((_user, _run, logged),) = entries()
    assert logged.startswith("Retry changed nothing: ")


# -- what comes along --------------------------------------------------------------------------------


def test_a_reason_too_long_is_asked_for_again(operator: Client) -> None:
    """Nothing happens before the form is right."""
    run_id = at_rest("sleep")
    response = operator.post(url("cancel", run_id), {"reason": "x" * 501})
    assert response.status_code == 200
    assert "at most 500 characters" in response.content.decode()
    assert state(run_id) == "sleeping"


def test_a_reason_is_for_those_who_may_see_payloads(operator: Client, person: Person) -> None:
    """It may come from code; on the run's page it stands beside the last call, and in its history."""
    run_id = at_rest("sleep")
    operator.post(url("pause", run_id), {"reason": "for the auditor"})
    assert "for the auditor" in operator.get(url("change", run_id)).content.decode()
    looker = person(VIEW, name="looker")
    for address in (url("change", run_id), url("changelist"), f"{url('changelist')}?state=all"):
        assert "for the auditor" not in looker.get(address).content.decode()


def test_a_reason_is_text_everywhere(operator: Client) -> None:
    """On the run's page, in the list, in the log."""
    run_id = at_rest("sleep")
    operator.post(url("cancel", run_id), {"reason": runs.SCRIPT})
    for what in ("change", "history"):
        content = operator.get(url(what, run_id)).content.decode()
        assert runs.SCRIPT not in content
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in content


def test_the_history_page_tells_who_did_what(operator: Client) -> None:
    """Django's own page about an object."""
    run_id = at_rest("fail", note="x")
    operator.post(url("retry", run_id), {"reason": "again"})
    content = operator.get(url("history", run_id)).content.decode()
    assert "Retried. Reason: again" in content
    assert "operator" in content


def test_the_filters_of_the_list_are_kept(operator: Client) -> None:
    """From the list to the run, to the question and back."""
    run_id = at_rest("sleep")
    listed = operator.get(url("changelist"), {"state": "sleeping"}).content.decode()
    (change,) = set(re.findall(rf'href="({url("change", run_id)}\?[^"]+)"', listed))
    (cancel,) = re.findall(rf'href="({url("cancel", run_id)}\?[^"]+)"', operator.get(change).content.decode())
    assert operator.post(cancel)["Location"] == change
    assert "_changelist_filters=state%3Dsleeping" in change


def test_a_log_that_cannot_be_written_undoes_the_cancel(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one database what was done and who did it stand or fall together."""
    run_id = at_rest("sleep")
    monkeypatch.setattr(LogEntry.objects, "log_actions", broken)
    operator.raise_request_exception = False
    assert operator.post(url("cancel", run_id)).status_code == 500
    assert state(run_id) == "sleeping"


def broken(*_: Any, **__: Any) -> None:
    """In the place of what writes the log."""
    raise RuntimeError("no log")


def test_the_client_decides_not_the_page(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was cancelled by somebody else meanwhile is cancelled once, and both are told so."""
    run_id = at_rest("sleep")
    assert operator.get(url("cancel", run_id)).status_code == 200
    flow.cancel(run_id, "first", by="bob")
    operator.post(url("cancel", run_id), {"reason": "second"})
    run = WorkflowRun.objects.get(id=run_id)
    assert (run.control_by, run.reason) == ("bob", "first")


def test_a_user_name_of_any_length_is_stored(person: Person) -> None:
    """`control_by` keeps what fits."""
    client = person("view_workflowrun", "cancel_run", name="n" * 150)
    run_id: UUID = anything.start()
    client.post(url("cancel", run_id))
    assert User.objects.get().username == WorkflowRun.objects.get(id=run_id).control_by


# -- mended ------------------------------------------------------------------------------------------


def test_the_second_who_cancels_is_told_so(person: Person) -> None:
    """Both had the page that asks; the run was cancelled by the first, and the second changed nothing."""
    run_id = at_rest("sleep")
    ada, bob = (person("view_workflowrun", "cancel_run", name=name) for name in ("ada", "bob"))
    assert messages(ada.post(url("cancel", run_id))) == ["The run is cancelled."]
    assert messages(bob.post(url("cancel", run_id))) == ["The run was cancelled already: nothing was changed."]
    assert entries() == [
        ("ada", str(run_id), "Cancelled."),
        ("bob", str(run_id), "Cancel changed nothing: the run was cancelled."),
    ]


def test_a_run_is_cancelled_without_undo(operator: Client) -> None:
    """Unticked, what its steps did stays done and it ends at once; ticked, that is undone first."""
    undone, left = at_rest("undo", note=1), at_rest("undo", note=1)
    assert 'name="undo"' in operator.get(url("cancel", left)).content.decode()
    operator.post(url("cancel", left), {"reason": ""})
    operator.post(url("cancel", undone), {"reason": "", "undo": "on"})
    assert (state(left), state(undone)) == ("cancelled", "stopping")
    assert 'name="undo"' in operator.get(url("cancel", undone)).content.decode()
    assert messages(operator.post(url("cancel", undone), {"reason": ""}))[-1] == "The run is cancelled."
    assert state(undone) == "cancelled"


def test_a_run_that_kills_its_workers_is_not_retried_without_a_tick(operator: Client) -> None:
    """The page says how many died, in which step, and how many more may."""
    run_id = runs.parked()
    WorkflowRun.objects.filter(id=run_id).update(version="", reason="TooManyRecoveries: its worker died", recoveries=13)
    said = {"since": None, "step": "explode", "attempt": 1}
    worker = runs.a_worker(host="gone")
    Worker.objects.filter(id=worker.id).update(state="dead", activity=json.dumps({str(run_id): said}))
    content = operator.get(url("retry", run_id)).content.decode()
    assert "This run has killed 13 workers. They died in the step explode. Retrying may kill 13 more" in content
    assert "looked at again" not in content
    assert "Tick this" in operator.post(url("retry", run_id), {"reason": ""}).content.decode()
    assert state(run_id) == "parked"
    assert messages(operator.post(url("retry", run_id), {"reason": "", "kills": "on"})) == ["The run goes on."]
    assert state(run_id) == "pending"
