"""What may be copied, downloaded and reached from a run's page: commands, JSON, links, neighbours in the list, keys."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from freezegun import freeze_time

from canx_flow import Context, workflow
from canx_flow.insight import windows
from canx_flow.management import facts
from canx_flow.models import StepRecord
from canx_flow.testing import run_until_idle

from . import runs
from .conftest import LOOK, VIEW, Person, url
from .runs import anything, at_rest
from .test_payloads import EVERYTHING_ELSE, SECRET, secrets  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db

ALL = {"state": "all"}


@workflow("admin.large")
def large(ctx: Context, number: int, size: int) -> str:
    """So many results of so many characters, an event like them, and such a result of its own."""
    for _ in range(number):
        ctx.step("fetch", lambda: "x" * size)
    ctx.wait_for("told", "told")
    return "y" * size


def flow(*arguments: str) -> Any:
    """What the terminal says of it, as JSON."""
    out = StringIO()
    call_command("flow", *arguments, json=True, stdout=out)
    return json.loads(out.getvalue())


def content(client: Client, run_id: UUID) -> str:
    """A run's page."""
    return client.get(url("change", run_id)).content.decode()


# -- JSON --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["waiting", "retrying", "failed", "completed", "parked"])
def test_a_run_as_json_is_what_the_terminal_says(viewer: Client, state: str) -> None:
    """`flow show --json` has the same names and values."""
    with freeze_time(datetime(2026, 3, 1, 12, tzinfo=UTC)):
        run_id = runs.MAKE[state]()
        answer = viewer.get(url("json", run_id))
        assert answer["Content-Type"] == "application/json"
        assert json.loads(answer.content) == flow("show", str(run_id))


def test_a_list_as_json_is_what_the_terminal_says(viewer: Client) -> None:
    """`flow list --json` has the same names and values; the list's filters hold here, too."""
    for make in runs.MAKE.values():
        make()
    assert json.loads(viewer.get(url("list_json"), ALL).content) == flow("list", "--limit", "100")
    failed = json.loads(viewer.get(url("list_json"), {"state": "failed"}).content)
    assert [run["state"] for run in failed] == ["failed"]


def test_the_pages_lead_to_their_json(viewer: Client) -> None:
    """With the filters that the list has."""
    run_id = at_rest("sleep")
    assert f'href="{url("json", run_id)}" download' in content(viewer, run_id)
    page = viewer.get(url("changelist"), {"state": "sleeping"}).content.decode()
    [link] = re.findall(r'class="canx-json" href="([^"]+)"', page)
    [found] = json.loads(viewer.get(f"{url('changelist')}{link}").content)
    assert found["id"] == str(run_id)


def test_a_filter_that_is_not_understood_is_a_bad_request(viewer: Client) -> None:
    """And no list of everything."""
    assert viewer.get(url("list_json"), {"gone__gte": "x"}).status_code == 400


def test_a_value_that_is_too_long_is_named_by_its_address(viewer: Client) -> None:
    """Arguments, results, payloads: so a run of a gigabyte is a page all the same."""
    run_id = large.start(2, facts.READ)
    run_until_idle()
    large.send(run_id, "told", "z" * facts.READ)
    run_until_idle()
    found = json.loads(viewer.get(url("json", run_id)).content)
    length = facts.READ + 2  # With its quotes.
    steps = [step for step in found["steps"] if step["name"].startswith("fetch")]
    for part in (found, *steps):
        assert part["result"] is None
        assert part["result_left_out"]["characters"] == length
        assert len(viewer.get(part["result_left_out"]["url"]).content) == length
    [event] = found["events"]
    assert (event["payload"], event["payload_left_out"]["characters"]) == (None, length)


def test_a_run_of_many_steps_as_json_comes_in_parts(viewer: Client) -> None:
    """Each of as many steps as a page shows, with the address of those before: none is missing, none comes twice."""
    run_id = runs.many_steps.start(2 * windows.ROWS + 10)
    run_until_idle()
    stored = [*StepRecord.objects.filter(run_id=run_id).order_by("seq").values_list("name", flat=True)]
    parts, address = [], url("json", run_id)
    while address:
        found = json.loads(viewer.get(address).content)
        parts.append([step["name"] for step in found["steps"]])
        assert found["steps_left_out"] == len(stored) - sum(map(len, parts))
        address = found.get("next", "")
    assert [len(part) for part in parts] == [windows.ROWS, windows.ROWS, len(stored) - 2 * windows.ROWS]
    assert [name for part in reversed(parts) for name in part] == stored


def test_json_takes_a_fixed_number_of_queries(viewer: Client) -> None:
    """Of runs of few steps and of many, of few runs and of many, with values that are too long for it."""
    counted = []
    for number in (3, 40):
        run_id = large.start(number, facts.READ)
        run_until_idle()
        for _ in range(number):
            at_rest("retry", note="luck")
        with CaptureQueriesContext(connection) as one:
            viewer.get(url("json", run_id))
        with CaptureQueriesContext(connection) as many:
            viewer.get(url("list_json"), ALL)
        counted.append((len(one), len(many)))
    assert counted[0] == counted[1]


def test_a_run_as_json_is_for_those_who_may_see_payloads(person: Person) -> None:
    """Others are neither shown the link nor given it."""
    run_id = at_rest("sleep")
    client = person(*(name for name in LOOK if name != "view_payloads"))
    assert client.get(url("json", run_id)).status_code == 403
    assert url("json", run_id) not in content(client, run_id)
    assert person("view_payloads", name="blind").get(url("json", run_id)).status_code == 403
    assert person(name="nobody").get(url("list_json")).status_code == 403
    assert Client().get(url("json", run_id)).status_code == 302


@pytest.mark.parametrize(("permission", "part"), [
    ("view_steprecord", "steps"), ("view_timer", "waits"), ("view_event", "events"),
])  # fmt: skip
def test_each_part_of_it_asks_for_its_own_permission(person: Person, permission: str, part: str) -> None:
    """As on the page."""
    run_id = at_rest("wait")
    found = json.loads(person(*(name for name in LOOK if name != permission)).get(url("json", run_id)).content)
    assert found[part] is None
    assert [name for name in ("steps", "waits", "events") if found[name] is None] == [part]


def test_a_list_as_json_says_nothing_that_the_list_hides(person: Person, secrets: list[UUID]) -> None:  # noqa: F811
    """To who may not see payloads: of errors there is the type, of attributes nothing."""
    answer = person(*EVERYTHING_ELSE).get(url("list_json"), ALL)
    assert SECRET not in answer.content.decode()
    found = {run["id"]: run for run in json.loads(answer.content)}
    assert {str(run_id) for run_id in secrets} <= found.keys()
    assert {run["attributes"] for run in found.values()} == {None}
    assert any("StepFailed" in (run["failure"] or "") for run in found.values())
    assert SECRET in person(*EVERYTHING_ELSE, "view_payloads", name="other").get(url("list_json"), ALL).content.decode()


def test_what_is_redacted_is_in_no_json(person: Person, secrets: list[UUID], settings: Any) -> None:  # noqa: F811
    """Neither of a run nor of the list."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "REDACT": "tests.admin.test_payloads.hide"}
    client = person(*EVERYTHING_ELSE, "view_payloads")
    for address in (*(url("json", run_id) for run_id in secrets), f"{url('list_json')}?state=all"):
        answer = client.get(address)
        assert answer.status_code == 200
        assert SECRET not in answer.content.decode(), address


# -- copying, and links ------------------------------------------------------------------------------


def copies(page: str) -> list[str]:
    """What the buttons of a page copy."""
    return re.findall(r'data-canx-copy="([^"]+)"', page)


def test_an_id_a_link_and_commands_may_be_copied(operator: Client) -> None:
    """A button for each is hidden until there is a script; the text stands beside it."""
    run_id = at_rest("fail", note="x")
    page = content(operator, run_id)
    wanted = [str(run_id), f"http://testserver{url('change', run_id)}", f"manage.py flow show {run_id}",
              f"manage.py flow retry {run_id}", f"manage.py flow rerun {run_id}"]  # fmt: skip
    assert set(wanted) <= set(copies(page))
    for text in wanted:
        assert f'<code class="canx-command">{text}</code>' in page


def test_commands_are_offered_for_what_a_user_may_do(viewer: Client) -> None:
    """Others lead nowhere in the admin, and are no advice."""
    run_id = at_rest("sleep")
    menu = content(viewer, run_id).partition('class="canx-menu"')[2].partition("</details>")[0]
    assert [text for text in copies(menu) if text.startswith("manage.py")] == [f"manage.py flow show {run_id}"]


@pytest.mark.parametrize(("state", "title"), [
    ("failed", "✗ hopeless failed"), ("waiting", "… answer waiting"), ("sleeping", "… nap sleeping"),
    ("completed", "✓ completed"), ("parked", "! parked"),
])  # fmt: skip
def test_the_tab_says_how_the_run_stands(viewer: Client, state: str, title: str) -> None:
    """With its step, its workflow, and the end of its id: of twenty tabs, people see no more."""
    run_id = runs.MAKE[state]()
    label = "admin.any@gone" if state == "parked" else "admin.any"
    assert f"<title>{title} · {label} …{str(run_id)[-4:]} | " in content(viewer, run_id)


def test_each_step_has_a_link_that_shows_it_among_any_number(viewer: Client) -> None:
    """The first of a hundred and fifty, too, which the page does not show by itself."""
    run_id = runs.many_steps.start(150)
    run_until_idle()
    page = content(viewer, run_id)
    assert 'id="step-item#2"' not in page
    links = re.findall(r'class="canx-here" href="([^"#]+)#([^"]+)"', page)
    assert len(links) == page.count('id="step-')
    other = viewer.get(f"{url('change', run_id)}?step=item%232").content.decode()
    assert 'id="step-item#2"' in other
    assert 'href="?step=item%232#step-item%232"' in other


# -- the list that a run was opened from -------------------------------------------------------------


def beside(client: Client, run_id: UUID, which: str, filters: str = "state=all") -> str:
    """Where the link to the older or newer run leads."""
    answer = client.get(url(which, run_id), {"_changelist_filters": filters})
    assert answer.status_code == 302
    found: str = answer.headers["Location"]
    return found


def test_a_run_leads_to_its_neighbours_in_the_list(viewer: Client) -> None:
    """With the filters of the list, which are kept."""
    first, asleep, last = at_rest(), at_rest("sleep"), at_rest()
    assert beside(viewer, first, "newer").startswith(url("change", asleep))
    assert beside(viewer, asleep, "newer").startswith(url("change", last))
    assert beside(viewer, last, "older").startswith(url("change", asleep))
    kept = beside(viewer, last, "older", "state=completed&p=7")
    assert kept.startswith(url("change", first))
    assert "_changelist_filters=state%3Dcompleted" in kept
    assert (
        f'href="{url("older", last)}?_changelist_filters=state%3Dall"'
        in viewer.get(url("change", last), {"_changelist_filters": "state=all"}).content.decode()
    )


def test_in_a_group_of_states_the_nearest_is_found(viewer: Client) -> None:
    """What needs attention is in several states, each of which is asked for by itself."""
    made = [at_rest("fail", note="x"), runs.parked(), at_rest(), at_rest("fail", note="x")]
    assert beside(viewer, made[3], "older", "state=attention").startswith(url("change", made[1]))
    assert beside(viewer, made[0], "newer", "state=attention").startswith(url("change", made[1]))


def test_at_the_end_of_the_list_it_says_so(viewer: Client) -> None:
    """And stays where it is."""
    run_id = at_rest()
    assert beside(viewer, run_id, "older").startswith(url("change", run_id))
    assert "That was the oldest run of the list." in content(viewer, run_id)


def test_filters_that_nobody_could_have_chosen_are_none(viewer: Client) -> None:
    """An address may hold anything."""
    first, last = at_rest(), at_rest()
    for filters in ("gone__gte=x", "created_at__gte=x"):
        assert beside(viewer, last, "older", filters).startswith(url("change", first))


def test_who_may_not_look_is_led_nowhere(person: Person) -> None:
    """The order of runs is told to those who may see the list."""
    run_id = at_rest()
    for which in ("older", "newer"):
        assert person(name=which).get(url(which, run_id)).status_code == 403


def test_neighbours_take_a_fixed_number_of_queries(person: Person) -> None:
    """Whatever lies between."""
    client, counted = person(VIEW), []
    last = at_rest("sleep")
    for number in (2, 30):
        for _ in range(number):
            at_rest()
        last, before = at_rest("sleep"), last
        with CaptureQueriesContext(connection) as asked:
            assert beside(client, last, "older", "state=sleeping").startswith(url("change", before))
        counted.append(len(asked))
    assert counted[0] == counted[1]


# -- keys --------------------------------------------------------------------------------------------


def test_keys_are_listed_and_lead_to_what_is_on_the_page(operator: Client) -> None:
    """The button for them is hidden until there is a script."""
    page = content(operator, at_rest("fail", note="x"))
    assert re.search(r'<button type="button" class="canx-keys-button" hidden', page)
    assert re.findall(r"<kbd>([^<]+)</kbd></dt>", page) == ["n p", "r", "c", "l", "?"]
    for place in ("canx-older", "canx-newer", "canx-tool-retry", "canx-toggle"):
        assert place in page
    page = operator.get(url("changelist"), ALL).content.decode()
    assert re.findall(r"<kbd>([^<]+)</kbd></dt>", page) == ["/", "j k", "x", "Enter", "l", "?"]
    assert 'id="searchbar"' in page
    assert "canx_flow/keys.js" in page


def test_keys_may_be_turned_off_for_everybody(operator: Client, settings: Any) -> None:
    """By a setting. Each reader may, too, in the list of them."""
    run_id = at_rest("sleep")
    assert 'class="canx-keys-on" checked' in content(operator, run_id)
    settings.CANX_FLOW = {**settings.CANX_FLOW, "ADMIN_KEYS": False}
    assert "canx-keys" not in content(operator, run_id)
    assert anything.status(run_id).state == "sleeping"
