"""Events that people send: to one run from its page, to all from the list of events; and pause, resume, wake."""

from __future__ import annotations

from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from canx_flow.models import Event, WorkflowRun
from canx_flow.testing import run_until_idle

from .conftest import VIEW, Person, url
from .runs import anything, at_rest, state
from .test_acting import messages

pytestmark = pytest.mark.django_db


def preset(client: Client, run_id: UUID, step: str = "answer") -> dict[str, str]:
    """What the form for this wait would send."""
    form = client.get(url("send", run_id), {"step": step}).context["form"]
    return {name: form.get_initial_for_field(field, name) or "" for name, field in form.fields.items()}


def test_an_open_wait_leads_to_its_event(operator: Client) -> None:
    """Event and key are filled in and fixed, the payload is null, the dedup id new; the run goes on with it."""
    run_id = at_rest("wait")
    link = f"{url('send', run_id)}?step=answer"
    assert link in operator.get(url("change", run_id)).content.decode()
    data = preset(operator, run_id)
    assert (data["event"], data["key"], data["payload"]) == ("answered", "k-1", "null")
    assert data["dedup_id"] != preset(operator, run_id)["dedup_id"]
    response = operator.post(link, {**data, "payload": '{"ok": true}', "reason": "by phone"})
    assert messages(response) == ["Delivered: the run goes on."]
    run_until_idle()
    assert state(run_id) == "completed"
    assert anything.result(run_id) == {"ok": True}
    entry = LogEntry.objects.get()
    assert entry.change_message == "Event answered sent. Reason: by phone"


def test_a_double_click_sends_once(operator: Client) -> None:
    """The same form again stores nothing, says so, and is not logged."""
    run_id = at_rest("sleep")
    data = {"event": "later", "payload": "1", "dedup_id": "form-1", "reason": ""}
    said = [messages(operator.post(url("send", run_id), data))[-1] for _ in range(2)]
    assert said == [
        "Stored; the run does not wait for it yet.",
        "It was sent before with this dedup id: nothing was stored again.",
    ]
    assert Event.objects.filter(run_id=run_id).count() == LogEntry.objects.count() == 1


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"payload": "{"}, "payload"), ({"payload": "NaN"}, "payload"), ({"event": ""}, "event"),
        ({"event": "#end:x"}, "event"), ({"event": " padded "}, "event"),
        ({"payload": "[" * 100_000 + "]" * 100_000}, "payload"),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_is_said_at_its_field(operator: Client, changed: dict[str, str], field: str) -> None:
    """And nothing is stored."""
    run_id = at_rest("sleep")
    data = {"event": "later", "payload": "1", "dedup_id": "", "reason": ""}
    response = operator.post(url("send", run_id), data | changed)
    assert field in response.context["form"].errors
    assert not Event.objects.exists()


def test_a_broadcast_goes_to_all_that_wait_with_its_key(operator: Client, person: Person) -> None:
    """From the list of events, by those who may send."""
    both = [at_rest("wait"), at_rest("wait")]
    address = url("send", model="event")
    assert 'href="send/"' in operator.get(url("changelist", model="event")).content.decode()
    data = {"event": "answered", "key": "k-1", "payload": "7", "dedup_id": "b-1", "reason": ""}
    looker = person(VIEW, "view_event", name="looker")
    assert [looker.get(address).status_code, looker.post(address, data).status_code] == [403, 403]
    assert 'href="send/"' not in looker.get(url("changelist", model="event")).content.decode()
    assert messages(operator.post(address, data)) == ["Sent: workers hand it to every run that waits for it."]
    run_until_idle()
    assert [state(run_id) for run_id in both] == ["completed", "completed"]


def test_one_run_is_paused_resumed_and_woken(operator: Client) -> None:
    """Each by its button, with who and why; wake says how early it is."""
    run_id = at_rest("sleep")
    assert messages(operator.post(url("pause", run_id), {"reason": "lunch"})) == ["The run is paused."]
    assert messages(operator.post(url("pause", run_id)))[-1] == "The run is paused already: nothing was changed."
    assert messages(operator.post(url("resume", run_id)))[-1] == "The run goes on."
    run_until_idle()
    assert "of nap: " in (page := operator.get(url("wake", run_id)).content.decode())
    assert " early." in page
    assert messages(operator.post(url("wake", run_id), {"reason": "cannot wait"}))[-1].startswith("The run is woken")
    run_until_idle()
    run = WorkflowRun.objects.get(id=run_id)
    assert (run.state, run.control, run.control_by) == ("completed", "wake", "operator")
    assert [message for (message,) in LogEntry.objects.order_by("id").values_list("change_message")] == [
        "Paused. Reason: lunch", "Pause changed nothing: the run was paused.", "Resumed.", "Woken. Reason: cannot wait",
    ]  # fmt: skip


def test_the_only_event_that_a_run_waits_for_is_proposed(operator: Client) -> None:
    """It may be replaced, and stands fixed only where its wait was chosen."""
    content = operator.get(url("send", at_rest("wait"))).content.decode()
    assert 'value="answered"' in content
    assert "readonly" not in content
