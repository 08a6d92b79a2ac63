"""What comes from a run's code is seen by those who may view payloads, and is asked of `REDACT` under one name each."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import timedelta
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from canx_flow import Context, Retry, send_event, workflow
from canx_flow.core.schedules import Scheduled
from canx_flow.histories.exporting import export
from canx_flow.models import Event, Schedule, WorkflowRun
from canx_flow.store.schedules import add
from canx_flow.testing import run_until_idle

from .conftest import Person, url

pytestmark = pytest.mark.django_db

SECRET = "s3cr3t-4242"
#: Choices of one filter that are looked at.
MOST_CHOICES = 4
EVERYTHING_ELSE = (
    "view_workflowrun", "view_worker", "view_event", "view_steprecord", "view_timer", "cancel_run", "retry_run",
    "rerun_run", "fork_run", "pause_run", "resume_run", "wake_run", "send_event", "start_run", "manage_queue",
    "view_schedule", "manage_schedule",
)  # fmt: skip


def leak(what: Any) -> None:
    """Fail, and say what was given."""
    raise ValueError(f"declined {what}")


@workflow("admin.child-with-secret")
def child(ctx: Context, secret: str) -> str:
    """Returns what it was given."""
    return ctx.step("pass on", lambda: secret)


@workflow("admin.secretive")
def secretive(ctx: Context, secret: str, how: str, *, note: str = "") -> Any:
    """Has a secret in everything that a run can hold, and gets stuck where `how` says, or ends so."""
    ctx.set_attributes(plan=secret)
    ctx.progress(1, 3, secret)
    ctx.step("return it", lambda: {"card": secret})
    ctx.call("have a child", child, secret)
    read = ctx.wait_for("directed", "told")
    ctx.wait_for("broadcast", "told all", key="k")
    match how:
        case "retry":
            ctx.step("flaky", leak, secret, retry=Retry(initial=3600, jitter=0))
        case "fail":
            ctx.step("hopeless", leak, secret, retry=Retry(max_attempts=2, initial=0, jitter=0))
        case "raise":
            raise ValueError(f"in the body: {secret}")
        case "sleep":
            ctx.sleep("nap", timedelta(hours=1))
        case "wait":
            ctx.wait_for("approval", "approved", key="order-17")
    return [read, secret]


@pytest.fixture
def secrets() -> list[UUID]:
    """A run for each way to end or to get stuck, with a secret everywhere, and an unread event."""
    found = []
    for how in ("retry", "fail", "raise", "sleep", "wait", "complete"):
        run_id = secretive.start(SECRET, how, note=SECRET)
        run_until_idle()
        secretive.send(run_id, "told", {"card": SECRET})
        send_event("told all", [SECRET], key="k")
        run_until_idle()
        found.append(run_id)
    secretive.send(found[3], "unread", SECRET)
    parked = secretive.start(SECRET, "sleep")
    WorkflowRun.objects.filter(id=parked).update(version="gone")
    run_until_idle()
    states = WorkflowRun.objects.filter(id__in=found).order_by("id").values_list("state", flat=True)
    assert list(states) == ["retrying", "failed", "failed", "sleeping", "waiting", "completed"]
    add("default", Scheduled.declared("secretive", secretive, every=3600, args=(SECRET, "sleep")))
    return [*found, parked]


@pytest.fixture
def reasons(operator: Client, secrets: list[UUID]) -> None:
    """What people have said of what they did, in the admin, so in Django's log; `REDACT` is not asked for these."""
    why = {"reason": SECRET}
    held = Schedule.objects.get(name="secretive")
    done = (
        (url("cancel", secretive.start(SECRET, "sleep")), why),
        (url("pause", held.pk, model="schedule"), why),
        (url("queue", "idle"), {"paused": "on", **why}),
        (url("pause_workflow", secretive.name), why),
        (url("send", model="event"), {"event": "told all", "key": "k", "payload": "1", **why}),
    )
    for address, given in done:
        assert operator.post(address, given).status_code == 302
    assert LogEntry.objects.filter(change_message__endswith=SECRET).count() == len(done)


def walk(client: Client) -> dict[str, str]:
    """Follow every link of ours that there is, from the index on; what stands on each page.

    Of each filter the first choices, one at a time: all of them together are thousands of pages.
    """
    pages: dict[str, str] = {}
    choices: dict[tuple[str, str], set[str]] = defaultdict(set)
    lists = [url("changelist", model=model) for model in ("event", "worker", "schedule")]
    left = ["/admin/", f"{url('changelist')}?state=all", *lists]
    while left:
        address = left.pop()
        if address in pages:
            continue
        response = client.get(address)
        assert response.status_code in (200, 302), (address, response.status_code)
        pages[address] = response.content.decode()
        base = address.partition("?")[0]
        for link in map(unescape, re.findall(r'href="([^"#]+)', pages[address])):
            path, _, query = (base + link if link.startswith("?") else link).partition("?")
            given = [(name, value) for name, value in parse_qsl(query) if name not in ("_changelist_filters", "e")]
            if not path.startswith("/admin/canx_flow/") or len(given) > 1:
                continue
            for name, value in given:
                choices[path, name].add(value)
                if len(choices[path, name]) > MOST_CHOICES:
                    break
            else:
                left.append(f"{path}?{urlencode(given)}" if given else path)
    return pages


@pytest.mark.walk
@pytest.mark.usefixtures("reasons")
def test_the_walk_finds_the_secret_for_who_may_see_it(person: Person, secrets: list[UUID]) -> None:
    """On the pages of runs and events, and in the list: so the next test looks where it can be."""
    pages = walk(person(*EVERYTHING_ELSE, "view_payloads"))
    found = {address.partition("?")[0] for address, page in pages.items() if SECRET in page}
    assert url("changelist") in found  # With one of its filters, for the address alone leads to the first tab.
    assert {url("change", run_id) for run_id in secrets} <= found
    assert any("/event/" in address for address in found)
    assert any("/schedule/" in address for address in found)
    held, event = Schedule.objects.get(name="secretive"), Event.objects.latest("id")
    assert {url("history", held.pk, model="schedule"), url("history", event.pk, model="event")} <= found
    assert {url("queues"), url("queue", "idle"), url("workflow", secretive.name)} <= found


@pytest.mark.browser
@pytest.mark.usefixtures("reasons")
def test_nobody_else_finds_it_on_any_page(person: Person, secrets: list[UUID]) -> None:
    """Every page, filter, form and link that a user with every permission but that one can reach."""
    pages = walk(person(*EVERYTHING_ELSE))
    assert {url("change", run_id) for run_id in secrets} <= pages.keys()
    assert [address for address, page in pages.items() if SECRET in page] == []


COLUMNS = (
    "arguments", "result", "error", "attributes", "first_attributes", "progress", "reason", "payload", "activity",
    "attributes__plan", "parent__arguments", "children__result", "records__result", "events__payload",
    "owner__activity", "run__arguments", "forked_from__error", "error_print",
    "note", "last_run__arguments",
)  # fmt: skip
LOOKUPS = ("", "__contains", "__startswith", "__gte", "__regex", "__isnull")


@pytest.mark.parametrize("model", ["workflowrun", "event", "worker", "schedule"])
@pytest.mark.usefixtures("reasons")
def test_no_filter_tells_it_bit_by_bit(person: Person, secrets: list[UUID], model: str) -> None:
    """A look-up into what is hidden is refused, or finds the same whether it is right or wrong."""
    client = person(*EVERYTHING_ELSE)
    for column in COLUMNS:
        for lookup in LOOKUPS:
            right, wrong = (
                client.get(url("changelist", model=model), {f"{column}{lookup}": value}) for value in (SECRET, "x")
            )
            numbers = [found(answer) for answer in (right, wrong)]
            assert numbers[0] == numbers[1], (column, lookup)


def found(answer: Any) -> tuple[int, int | None]:
    """How the list was answered, and how many rows it has."""
    changelist = (answer.context or {}).get("cl") if answer.status_code == 200 else None
    return answer.status_code, changelist.result_count if changelist is not None else None


@pytest.mark.parametrize("model", ["workflowrun", "event"])
def test_no_search_finds_it(person: Person, secrets: list[UUID], model: str) -> None:
    """Whole or in part, a value is nothing that the box looks for."""
    client = person(*EVERYTHING_ELSE)
    for text in (SECRET, SECRET[:4], f"plan={SECRET}", f"error:{SECRET}"):
        answer = client.get(url("changelist", model=model), {"q": text})
        assert found(answer)[1] in (0, None)


PARTS = {"view_steprecord": "canx-steps", "view_timer": "canx-waits", "view_event": "canx-events"}


@pytest.mark.parametrize("permission", PARTS)
def test_each_part_of_the_page_asks_for_its_own_permission(
    person: Person, secrets: list[UUID], permission: str
) -> None:
    """Steps, timers and events of a run are rows of models that have permissions of their own."""
    sleeping = secrets[3]
    may = [name for name in EVERYTHING_ELSE if name != permission]
    content = person(*may, "view_payloads").get(url("change", sleeping)).content.decode()
    shown = {name for name, part in PARTS.items() if f'id="{part}"' in content}
    assert shown == PARTS.keys() - {permission}


# -- REDACT ------------------------------------------------------------------------------------------

asked: dict[str, set[tuple[Any, ...]]] = defaultdict(set)


def note(value: Any, *, workflow: str | None, step: str | None, event: str | None, kind: str) -> Any:
    """Hides nothing, and notes under which names each value was asked for."""
    asked[repr(value)].add((kind, workflow, step, event))
    return value


def hide(value: Any, *, workflow: str | None, step: str | None, event: str | None, kind: str) -> Any:
    """Hides what it is told to by each of the names alone: `told` and `told all`, and this workflow's."""
    if event in ("told", "told all", "unread") or workflow in ("admin.secretive", "admin.child-with-secret"):
        return {"message": "***", "traceback": ""} if kind in ("error", "progress") else "***"
    return value


@pytest.mark.walk
def test_a_value_has_the_same_names_wherever_it_is_shown(person: Person, secrets: list[UUID], settings: Any) -> None:
    """In the list, on its run's page, on its event's own page, in its parent, in an export."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "REDACT": f"{__name__}.note"}
    asked.clear()
    walk(person(*EVERYTHING_ELSE, "view_payloads"))
    for run_id in secrets:
        export(run_id)
    kinds = {kind for names in asked.values() for kind, *_rest in names}
    assert kinds == {"arguments", "result", "event", "error", "attributes", "progress"}
    payloads = {value: names for value, names in asked.items() if value in (repr({"card": SECRET}), repr([SECRET]))}
    assert payloads[repr([SECRET])] == {("event", None, None, "told all")}
    assert payloads[repr({"card": SECRET})] == {
        ("event", "admin.secretive", None, "told"), ("result", "admin.secretive", "return it", None),
    }  # fmt: skip
    assert asked[repr(SECRET)] == {  # What the child was told to pass on: its step's result and its own; an event.
        ("result", "admin.child-with-secret", "pass on", None), ("result", "admin.child-with-secret", None, None),
        ("event", "admin.secretive", None, "unread"),
    }  # fmt: skip
    assert {name for value, names in asked.items() if "hopeless" in value for name in names} == {
        ("error", "admin.secretive", "hopeless", None)
    }


@pytest.mark.walk
def test_what_is_hidden_in_one_place_is_readable_in_no_other(
    person: Person, secrets: list[UUID], settings: Any
) -> None:
    """A wait's result and its event, a broadcast's own page, errors in the list."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "REDACT": f"{__name__}.hide"}
    pages = walk(person(*EVERYTHING_ELSE, "view_payloads"))
    assert [address for address, page in pages.items() if SECRET in page] == []
    assert SECRET not in repr([export(run_id) for run_id in secrets])
    assert Event.objects.filter(payload__contains=SECRET).exists()
