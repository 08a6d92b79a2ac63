"""P10: every action, by its address and by POST, one run and many, for each kind of user there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from canx_flow.models import Event, WorkflowRun

from .conftest import CANCEL, DO, LOOK, RETRY, VIEW, Person, url
from .runs import at_rest, paused

pytestmark = pytest.mark.django_db

#: Of each verb: a run for which it makes sense, its permission, and what its form sends.
VERBS: dict[str, tuple[Callable[[], UUID], str, dict[str, str]]] = {
    "cancel": (lambda: at_rest("sleep"), CANCEL, {}),
    "retry": (lambda: at_rest("fail", note="x"), RETRY, {}),
    "pause": (lambda: at_rest("sleep"), "pause_run", {}),
    "resume": (paused, "resume_run", {}),
    "wake": (lambda: at_rest("sleep"), "wake_run", {}),
    "rerun": (lambda: at_rest("fail", note="x"), "rerun_run", {}),
    "fork": (lambda: at_rest("fail", note="x"), "fork_run", {"from_step": "hopeless"}),
    "send": (lambda: at_rest("wait"), "send_event", {"event": "answered", "payload": "1"}),
}
BULK = ("cancel", "retry", "pause", "resume", "wake")
EVERY = (CANCEL, RETRY, *DO)


def kinds(person: Person, permission: str) -> dict[str, Client]:
    """Five kinds of users who must not do what this permission is for."""
    others = [name for name in EVERY if name != permission]
    return {
        "anonymous": Client(),
        "no staff": person(*LOOK, *EVERY, staff=False, name="customer"),
        "without permissions": person(name="clerk"),
        "may look only": person(*LOOK, "view_worker", name="looker"),
        "may do all but this": person(*LOOK, *others, name="operator"),
        "may do it, but not look": person(*EVERY, name="blind"),
    }


def ways(client: Client, verb: str, run_id: UUID) -> list[Any]:
    """Try every way there is to have it done."""
    _make, _permission, sent = VERBS[verb]
    data = {"reason": "x", "version": "", **sent}
    answers = [client.get(url(verb, run_id), {"from_step": "hopeless"}), client.post(url(verb, run_id), data)]
    if verb in BULK:
        for across in ("0", "1"):
            chosen = {"action": f"{verb}_runs", "_selected_action": [str(run_id)], "select_across": across}
            for more in ({"index": "0"}, {"confirmed": "yes", "reason": "x"}, {"post": "yes"}):
                client.post(url("changelist"), {**chosen, **more})
    return answers


def everything() -> Any:
    """What an action could have changed."""
    return list(WorkflowRun.objects.order_by("id").values()), Event.objects.count(), LogEntry.objects.count()


@pytest.mark.parametrize("verb", VERBS)
def test_nobody_does_what_is_not_permitted(person: Person, verb: str) -> None:
    """The answer is a refusal or the login, no page says what a run holds, and nothing has changed."""
    make, permission, _sent = VERBS[verb]
    run_id = make()
    before = everything()
    for kind, client in kinds(person, permission).items():
        for answer in ways(client, verb, run_id):
            if kind in ("anonymous", "no staff"):
                assert answer["Location"].startswith("/admin/login/"), kind
            else:
                assert answer.status_code == 403, kind
        if kind in ("may look only", "may do all but this"):
            page = client.get(url("change", run_id)).content.decode()
            assert f'href="{url(verb, run_id)}' not in page, kind
        assert everything() == before, kind


@pytest.mark.parametrize("verb", VERBS)
def test_one_permission_is_enough_for_its_verb(person: Person, verb: str) -> None:
    """Beside that to look; it is no permission for any other."""
    make, permission, sent = VERBS[verb]
    run_id = make()
    client = person(VIEW, permission)
    assert f'href="{url(verb, run_id)}' in client.get(url("change", run_id)).content.decode()
    before = everything()
    assert client.post(url(verb, run_id), {"reason": "x", "version": "", **sent}).status_code == 302
    after = everything()
    assert after[0] != before[0] or after[1] != before[1]
    assert after[2] > before[2]
    for other in VERBS.keys() - {verb}:
        assert client.post(url(other, run_id), {}).status_code == 403
    assert everything() == after


def test_the_report_of_an_action_is_for_those_who_may_look(person: Person) -> None:
    """Its address alone opens nothing."""
    for client in (Client(), person(name="clerk")):
        assert client.get(url("report"), {"pin": "x"}).status_code in (302, 403)
