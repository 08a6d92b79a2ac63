"""A new run from an old one: rerun, and fork from a step with the same input or another."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from canx_flow import client as flow
from canx_flow.models import WorkflowRun
from canx_flow.testing import run_until_idle

from .conftest import Person, url
from .runs import at_rest, pending, state
from .test_acting import messages

pytestmark = pytest.mark.django_db


def form_of(client: Client, run_id: UUID, step: str, **changed: Any) -> dict[str, Any]:
    """What the page's form would send, with these fields changed."""
    form = client.get(url("fork", run_id), {"from_step": step}).context["form"]
    return {name: form.get_initial_for_field(field, name) or "" for name, field in form.fields.items()} | changed


def forked(old: UUID) -> WorkflowRun:
    """The run that was forked from this one."""
    return WorkflowRun.objects.get(forked_from_id=old)


def test_a_rerun_starts_from_the_beginning(operator: Client) -> None:
    """With the same input; the old run stays; both pages' histories say so."""
    old = at_rest("fail", note="x")
    assert "Start a new run with the same input?" in operator.get(url("rerun", old)).content.decode()
    response = operator.post(url("rerun", old), {"reason": "psp is back"})
    new = WorkflowRun.objects.exclude(id=old).get()
    assert response["Location"] == url("change", new.id)
    assert (new.arguments, new.control_by, new.control_reason) == (
        WorkflowRun.objects.get(id=old).arguments, "operator", "psp is back",
    )  # fmt: skip
    logged = dict(LogEntry.objects.values_list("object_id", "change_message"))
    assert logged == {
        str(old): f"Rerun as {new.id}. Reason: psp is back",
        str(new.id): f"Rerun of {old}. Reason: psp is back",
    }


def test_a_fork_keeps_what_was_before_its_step(operator: Client) -> None:
    """The page says what is kept and what runs again; the failed step is proposed; unchanged input is the old one's."""
    old = at_rest("fail", note="x")
    page = operator.get(url("fork", old))
    assert page.context["wanted"] == "hopeless"
    assert ([str(name) for name in page.context["kept"]], page.context["is_known"]) == (
        ['<code class="canx-name">begin</code>'], True,
    )  # fmt: skip
    response = operator.post(url("fork", old), form_of(operator, old, "hopeless", reason="again"))
    new = forked(old)
    assert response["Location"] == url("change", new.id)
    assert (new.forked_at, new.control_by, new.control_reason) == ("hopeless", "operator", "again")
    assert new.arguments == WorkflowRun.objects.get(id=old).arguments
    assert list(new.records.values_list("name", flat=True)) == ["begin"]
    assert url("change", new.id) in operator.get(url("change", old)).content.decode()
    assert url("change", old) in operator.get(url("change", new.id)).content.decode()


def test_a_fork_takes_other_input(operator: Client) -> None:
    """Typed as JSON, with the types that the codec knows; another queue, too."""
    old = at_rest("fail", note="x")
    changed = {
        "arguments": '["sleep"]', "keywords": '{"note": {"$decimal": "1.50"}}', "queue": "slow", "reason": "",
    }  # fmt: skip
    operator.post(url("fork", old), form_of(operator, old, "hopeless", **changed))
    new = forked(old)
    assert (json.loads(new.arguments), new.queue) == ([["sleep"], {"note": {"$decimal": "1.50"}}], "slow")
    run_until_idle()
    assert LogEntry.objects.filter(change_message__contains="With edited input").count() == 2


@pytest.mark.parametrize(
    ("field", "typed", "said"),
    [
        ("arguments", "[1,", "This is no JSON"),
        ("arguments", "{}", "must be a JSON list"),
        ("keywords", "[]", "must be a JSON object"),
        ("arguments", '["a", "b", "c"]', "do not fit workflow"),
        ("arguments", '[{"$dataclass": ["os:environ", {}]}]', "own input has no os:environ"),
        ("arguments", '[{"$enum": ["http:HTTPStatus", "OK"]}]', "own input has no http:HTTPStatus"),
        ("arguments", '[{"$nothing": 1}]', "unknown type tag"),
        ("arguments", "NaN", "must be a JSON list"),
        ("arguments", "[" * 900 + "]" * 900, "nested"),
        ("arguments", "[" * 100_000 + "]" * 100_000, "nested"),
        ("queue", "a\x07b", ""),
        ("from_step", "no such", "has no step"),
    ],
)
def test_what_does_not_fit_is_said_at_its_field(operator: Client, field: str, typed: str, said: str) -> None:
    """And nothing is started."""
    old = at_rest("fail", note="x")
    response = operator.post(url("fork", old), form_of(operator, old, "hopeless", **{field: typed}))
    assert response.status_code == 200
    errors = response.context["form"].errors
    assert said in " ".join(map(str, errors.get(field, errors.get("__all__", []))))
    assert errors
    assert WorkflowRun.objects.count() == 1


def test_hidden_input_is_kept_as_it_is(person: Person, operator: Client, settings: Any) -> None:
    """Who may not see it is shown none, and neither is what `REDACT` leaves; left empty, the input is the run's own."""
    old = at_rest("fail", note="s3cret")
    forker = person("view_workflowrun", "fork_run", name="forker")
    page = forker.get(url("fork", old))
    assert "s3cret" not in page.content.decode()
    forker.post(url("fork", old), form_of(forker, old, "hopeless"))
    settings.CANX_FLOW = {**settings.CANX_FLOW, "REDACT": f"{__name__}.stars"}
    assert "***" not in operator.get(url("fork", old)).content.decode()
    operator.post(url("fork", old), form_of(operator, old, "hopeless"))
    inputs = set(WorkflowRun.objects.values_list("arguments", flat=True))
    assert inputs == {WorkflowRun.objects.get(id=old).arguments}
    assert WorkflowRun.objects.count() == 3


def stars(_value: Any, **_names: Any) -> Any:
    """Hides everything."""
    return [["***"], {}]


def test_a_run_without_a_step_is_rerun_instead(operator: Client) -> None:
    """There is nothing that it could be forked from."""
    assert messages(operator.get(url("fork", pending()))) == ["The run has stored no step yet: rerun it instead."]


def test_a_run_that_was_undone_is_not_offered_a_retry(operator: Client) -> None:
    """What it did is undone: fork and rerun are there."""
    run_id = at_rest("fail", note="x")
    WorkflowRun.objects.filter(id=run_id).update(has_undo=True)
    run = WorkflowRun.objects.get(id=run_id)
    run.records.create(seq=9, name="book[undo]", kind="undo", state="completed", started_at=run.created_at)
    content = operator.get(url("change", run_id)).content.decode()
    assert url("retry", run_id) not in content
    assert url("fork", run_id) in content
    assert "something of it was undone" in messages(operator.post(url("retry", run_id)))[0]
    assert state(run_id) == "failed"
    assert flow.runs().count() == 1
