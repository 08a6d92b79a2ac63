"""What was found by hand in the admin, and is said nowhere else in these tests."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from uuid import UUID

import pytest
from django.test import Client

from canx_flow import Context, Retry, current_step, workflow
from canx_flow.admin import tabs
from canx_flow.models import StepRecord, WorkflowRun
from canx_flow.states import ALL
from canx_flow.testing import run_until_idle

from . import runs
from .conftest import url
from .runs import at_rest
from .test_csp import pages
from .test_page import page, said

pytestmark = pytest.mark.django_db


@workflow("admin.tries")
def tries(ctx: Context, most: int, *, succeeds: bool = False) -> None:
    """Fails so often; the last attempt may succeed."""

    def attempt() -> None:
        if not succeeds or current_step().attempt < most:
            raise ValueError("no luck")

    ctx.step("try", attempt, retry=Retry(max_attempts=most, initial=0, jitter=0))


@pytest.mark.parametrize(("most", "succeeds", "told"), [(1, False, False), (2, False, True), (2, True, True)])
def test_a_step_that_failed_once_has_no_first_attempt_to_count_from(
    viewer: Client, most: int, succeeds: bool, told: bool
) -> None:
    """Its time is that of its only attempt; where there are several, it is said from where it is counted."""
    run_id = tries.start(most, succeeds=succeeds)
    run_until_idle()
    assert ("since the first attempt" in said(viewer, run_id)) == told


def test_no_state_is_offered_twice(viewer: Client) -> None:
    """Those that have a tab are not among the filters beside the list, and the others are."""
    content = viewer.get(url("changelist"), {"state": "all"}).content.decode()
    beside = re.search(r'<details[^>]*data-filter-title="state"[^>]*>.*?</details>', content, re.DOTALL)
    assert beside is not None
    offered = set(re.findall(r'href="\?state=(\w+)"', beside[0]))
    assert offered == {*ALL} - tabs.LABELS.keys()
    assert offered >= {"sleeping", "waiting", "retrying", "paused", "pending"}


def test_an_error_names_the_zone_of_its_moment(viewer: Client) -> None:
    """Beside the page's own moments, which are in the reader's zone."""
    run_id = runs.out_of_time()
    text = said(viewer, run_id)
    found = re.findall(r"at its deadline, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d (\w+)", text)
    assert found
    assert {*found} == {"UTC"}


class _Scrolled(HTMLParser):
    """Collects what scrolls and cannot be reached with the keyboard."""

    def __init__(self) -> None:
        super().__init__()
        self.met, self.found = 0, list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        classes = (given.get("class") or "").split()
        if "canx-scroll" in classes or (tag == "pre" and "canx-value" in classes):
            self.met += 1
            self.found += [] if given.get("tabindex") == "0" else [str(attrs)]


def test_what_scrolls_can_be_focused(operator: Client) -> None:
    """Tables and values that are wider than the page, everywhere."""
    parser = _Scrolled()
    for response in pages(operator).values():
        parser.feed(response.content.decode())
    parser.feed(operator.get(url("workflow", "admin.any")).content.decode())
    assert parser.met > 20
    assert parser.found == []


def test_a_bulk_retry_says_what_was_done(operator: Client) -> None:
    """How many were retried: that they go on is not known yet."""
    ids: list[UUID] = [at_rest("fail", note="x") for _ in range(2)]
    data = {"action": "retry_runs", "_selected_action": [str(run_id) for run_id in ids], "confirmed": "yes"}
    answer = operator.post(url("changelist"), data, follow=True)
    assert "2 retried" in answer.content.decode()
    assert "go on" not in answer.content.decode().partition('class="messagelist"')[2].partition("</ul>")[0]


def test_a_state_that_is_none_is_no_error(viewer: Client) -> None:
    """Typed into the address."""
    assert viewer.get(url("changelist"), {"state": "nonsense"}).status_code in (200, 302)


def test_steps_are_hidden_with_all_that_tells_of_them(person_without_steps: Client) -> None:
    """Graph, timeline, steps and the filter by failed attempts."""
    run_id = at_rest("fail", note="x")
    content = page(person_without_steps, run_id)
    assert not re.search(r'id="canx-(graph|timeline|steps)"', content)
    assert StepRecord.objects.filter(run_id=run_id).exists()
    assert WorkflowRun.objects.filter(id=run_id).exists()


@pytest.fixture
def person_without_steps(person: object) -> Client:
    """Somebody who may see runs and their values, but no steps."""
    made = person("view_workflowrun", "view_payloads", name="passer-by")  # type: ignore[operator]
    assert isinstance(made, Client)
    return made
