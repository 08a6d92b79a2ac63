"""The page of a run with very many steps, very large values, very many attempts, children and branches."""

from __future__ import annotations

import json
import re
import time
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from freezegun import freeze_time

from canx_flow import Context, Retry, workflow
from canx_flow import client as flow
from canx_flow.core import clock, codec, registry
from canx_flow.core.failures import describe
from canx_flow.models import Event, StepRecord, WorkflowRun
from canx_flow.testing import advance, run_until_idle

from .conftest import Person, url
from .runs import HOUR, at_rest, fail
from .test_page import START, page, said

pytestmark = pytest.mark.django_db

MEGABYTE = json.dumps("x" * 1_000_000)


def more_steps(run_id: UUID, number: int, **values: Any) -> None:
    """Add so many steps to a run, as they are stored."""
    last = StepRecord.objects.filter(run_id=run_id).count()
    now = clock.now()
    added = (
        StepRecord(
            **{
                "run_id": run_id, "seq": seq, "name": f"more#{seq}", "kind": "step", "state": "completed",
                "attempts": 1, "result": "1", "started_at": now, "finished_at": now, **values,
            }
        )
        for seq in range(last + 1, last + number + 1)
    )  # fmt: skip
    # MariaDB takes 16 MB in one statement.
    StepRecord.objects.bulk_create(added, batch_size=10)


# -- many steps --------------------------------------------------------------------------------------


def test_the_number_of_queries_does_not_depend_on_the_number_of_steps(viewer: Client) -> None:
    """Nor on that of large results; one hundred rows are shown."""
    short, long = at_rest("sleep"), at_rest("sleep")
    more_steps(long, 5_000)
    page(viewer, short)  # What Django asks once and remembers.
    counts = []
    for run_id in (short, long):
        with CaptureQueriesContext(connection) as captured:
            content = page(viewer, run_id)
        counts.append(len(captured.captured_queries))
    assert counts[0] == counts[1] <= 18
    assert content.count('<tr id="step-') == 100


def test_steps_are_paged_both_ways(viewer: Client) -> None:
    """Without a failure the last rows come first; each page links to its neighbours."""
    run_id = at_rest("sleep")
    more_steps(run_id, 249)
    steps = StepRecord.objects.filter(run_id=run_id).count()
    last = page(viewer, run_id)
    assert f"{steps - 99} to {steps} of {steps}" in last
    assert f'rel="prev" href="?from={steps - 199}#' in last
    assert 'rel="next"' not in last
    first = page(viewer, run_id, **{"from": "1"})
    assert f"1 to 100 of {steps}" in first
    assert 'rel="next" href="?from=101#' in first
    assert f"1 to 100 of {steps}" in page(viewer, run_id, **{"from": "0"})
    assert f"{steps - 99} to {steps} of {steps}" in page(viewer, run_id, **{"from": "99999999"})


def test_the_page_with_the_failed_step_comes_first(viewer: Client) -> None:
    """Of a failed run; any other page links to it."""
    run_id = at_rest("fail", note="luck")
    more_steps(run_id, 300)
    content = page(viewer, run_id)
    assert 'id="step-hopeless"' in content
    assert 'href="#step-hopeless">to the step that failed: hopeless' in content
    assert '<a href="?step=hopeless#step-hopeless">' in page(viewer, run_id, **{"from": "201"})


def test_steps_can_be_narrowed_to_those_that_failed_or_go_on(viewer: Client) -> None:
    """With how many there are of each."""
    run_id = at_rest("retry", note="luck")
    more_steps(run_id, 150)
    text = said(viewer, run_id, steps="failed")
    assert "Failed 1" in text
    assert "Not over 1" in text
    assert page(viewer, run_id, steps="failed").count('<tr id="step-') == 1
    assert page(viewer, run_id, steps="running").count('<tr id="step-') == 1
    assert page(viewer, run_id, steps="nonsense").count('<tr id="step-') == 100


@pytest.mark.parametrize(
    "address", ["?from=x", "?from=-1", "?from=99999999999", "?step=%00", "?step=nonsense", "?who=x", "?steps=%00"]
)
def test_a_strange_address_breaks_nothing(viewer: Client, address: str) -> None:
    """It shows what it can."""
    assert viewer.get(url("change", at_rest("fail")) + address).status_code == 200


# -- large values ------------------------------------------------------------------------------------


def test_a_hundred_results_of_a_megabyte_are_neither_loaded_nor_decoded(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are shown when they are asked for."""
    run_id = at_rest("sleep")
    more_steps(run_id, 100, result=MEGABYTE)
    decoded: list[int] = []
    loads = codec.loads
    monkeypatch.setattr(codec, "loads", lambda text: decoded.append(len(text)) or loads(text))
    page(viewer, run_id)  # What Django loads once.
    began = time.perf_counter()
    content = page(viewer, run_id)
    took = time.perf_counter() - began
    assert max(decoded) < 10_000
    assert len(content) < 400_000
    assert content.count("Show all, 976.6") >= 99
    assert took < 5.0, "some ten times what it takes; to decode them takes fifty"


def test_the_whole_of_a_value_has_an_address(viewer: Client) -> None:
    """As plain text, whatever it holds."""
    run_id = at_rest(note="<b>" + "x" * 20_000)
    step = StepRecord.objects.get(run_id=run_id)
    for what in ("arguments", "result", f"step-{step.id}"):
        address = url("value", run_id, what)
        assert address in page(viewer, run_id), what
        response = viewer.get(address)
        assert response["Content-Type"] == "text/plain; charset=utf-8"
        assert response["X-Content-Type-Options"] == "nosniff"
        assert "<b>" + "x" * 20_000 in response.content.decode(), what


def test_the_whole_of_an_event_and_of_all_attempts_has_an_address(viewer: Client) -> None:
    """Of this run's only."""
    run_id, other = at_rest("wait"), at_rest("fail", note="luck")
    flow.send(run_id, "long", "y" * 20_000)
    event = Event.objects.get(run_id=run_id)
    assert "y" * 20_000 in viewer.get(url("value", run_id, f"event-{event.id}")).content.decode()
    assert viewer.get(url("value", other, f"event-{event.id}")).status_code == 404
    step = StepRecord.objects.get(run_id=other, name="hopeless")
    text = viewer.get(url("value", other, f"attempts-{step.id}")).content.decode()
    assert text.count("Traceback (most recent call last)") == 2
    assert "attempt 2" in text
    assert viewer.get(url("value", run_id, f"attempts-{step.id}")).status_code == 404


@pytest.mark.parametrize("what", ["nonsense", "step-x", "step-0", "event-99999999", "attempts-²"])
def test_no_other_value_has_an_address(viewer: Client, what: str) -> None:
    """Neither has one of a run that is not there."""
    assert viewer.get(url("value", at_rest(), what)).status_code == 404
    assert viewer.get(url("value", "01900000-0000-7000-8000-000000000000", "arguments")).status_code == 404


def test_values_are_for_those_who_may_see_the_run(person: Person) -> None:
    """By their own address, too."""
    run_id = at_rest()
    assert person("view_worker").get(url("value", run_id, "arguments")).status_code == 403


def test_redact_is_not_given_what_is_large_until_it_is_asked_for(viewer: Client, settings: Any) -> None:
    """And nothing of it is shown without it."""
    run_id = at_rest("sleep")
    more_steps(run_id, 3, result=json.dumps("luck" * 50_000))
    settings.CANX_FLOW = {**settings.CANX_FLOW, "REDACT": "tests.admin.test_page.hide"}
    content = page(viewer, run_id)
    assert "luckluck" not in content
    assert "Show all, 195" in content
    step = StepRecord.objects.filter(run_id=run_id).latest("seq")
    whole = viewer.get(url("value", run_id, f"step-{step.id}")).content.decode()
    assert "luck" not in whole
    assert "***" in whole


# -- attempts ----------------------------------------------------------------------------------------


def test_attempts_are_grouped_by_rounds_and_numbered(viewer: Client) -> None:
    """A retry begins a new one: by whom, when and why."""
    with freeze_time(START):
        run_id = at_rest("fail", note="luck")
        flow.retry(run_id, "psp is back", by="root")
        run_until_idle()
        text = said(viewer, run_id)
        content = page(viewer, run_id)
    assert "Round 1" in text
    assert "Round 2, retried by root now : psp is back" in text
    numbers = re.findall(r'<li value="(\d)">ValueError', content)
    assert numbers == ["1", "2", "1", "2"]


def test_no_attempt_vanishes(viewer: Client) -> None:
    """Of sixty, fifty are stored; those and the ten others are accounted for."""

    @workflow("admin.patient")
    def patient(ctx: Context) -> None:
        ctx.step("flaky", fail, "luck", retry=Retry(max_attempts=None, initial=3600, max_delay=3600, jitter=0))

    try:
        run_id = patient.start()
        run_until_idle()
        for _ in range(59):
            advance(HOUR)
    finally:
        registry.forget("admin.patient")
    assert StepRecord.objects.get(run_id=run_id, name="flaky").attempts == 60
    content = page(viewer, run_id)
    assert "Attempts 1 to 10 failed, too; what they failed with is not stored any more." in content
    assert "47 earlier failed attempts" in content
    assert re.findall(r'<li value="(\d+)">', content) == [str(number) for number in range(11, 61)]


def test_the_failing_steps_own_traceback_is_open_without_the_engines_frames(viewer: Client) -> None:
    """Those unfold below it."""
    content = page(viewer, at_rest("fail", note="luck"))
    head = content.partition('id="canx-timeline"')[0]
    opened = re.search(r"<details open><summary>Traceback</summary><pre[^>]*>(.*?)</pre>", head, re.DOTALL)
    assert opened is not None
    assert "raise ValueError" in opened[1]
    assert "canx_flow/" not in opened[1].replace("tests/", "")
    assert "With the engine" in head


def test_fifty_long_tracebacks_for_each_step_do_not_fill_the_page(viewer: Client) -> None:
    """Only the last one is on the page."""
    run_id = at_rest("sleep")
    error = {**describe(ValueError("no")), "traceback": "T" * 10_000}
    more_steps(run_id, 20, errors=codec.dumps_plain([error] * 50), state="failed", attempts=50, result=None)
    assert len(page(viewer, run_id)) < 1_500_000


# -- the timeline ------------------------------------------------------------------------------------


def test_every_step_has_a_bar_that_leads_to_its_row(viewer: Client) -> None:
    """Classes only: no style of its own."""
    content = page(viewer, at_rest("fail", note="luck"))
    chart = content.partition('id="canx-timeline"')[2].partition('id="canx-steps"')[0]
    assert chart.count('class="canx-bar"') == 2
    assert '<a href="#step-hopeless">' in chart
    assert "canx-failed" in chart
    assert "style=" not in chart
    assert 'aria-label="hopeless: failed, 2 attempts' in chart


def test_a_sleep_is_hollow_with_its_due_moment(viewer: Client) -> None:
    """And it is drawn to that moment."""
    chart = page(viewer, at_rest("sleep")).partition('id="canx-timeline"')[2]
    assert 'class="canx-wait canx-open"' in chart
    assert 'class="canx-due"' in chart


def test_branches_and_children_are_nested_and_foldable(viewer: Client) -> None:
    """A child with its own steps, in the call; each branch with what it did."""

    @workflow("admin.child")
    def child(ctx: Context) -> str:
        return ctx.step("in-child", lambda: "done")

    @workflow("admin.family")
    def family(ctx: Context) -> None:
        ctx.gather(left=lambda c: c.step("a", lambda: 1), right=lambda c: c.step("b", lambda: 2))
        ctx.call("kid", child)

    try:
        run_id = family.start()
        run_until_idle()
        content = page(viewer, run_id)
    finally:
        registry.forget("admin.child")
        registry.forget("admin.family")
    chart = content.partition('id="canx-timeline"')[2].partition('id="canx-steps"')[0]
    assert chart.count("<details") == 4  # left, right, kid, and the child in it
    born = WorkflowRun.objects.get(parent_id=run_id)
    assert url("change", born.id) in chart
    assert "in-child" in chart
    assert '<a href="#step-left/a">' in chart


def test_nothing_in_the_chart_is_markup(viewer: Client) -> None:
    """Names of steps and branches are text."""
    run_id = at_rest("sleep")
    more_steps(run_id, 1, name='<b onclick="x">/"><img src=x>')
    content = page(viewer, run_id)
    assert "<b onclick" not in content
    assert "<img" not in content.partition('id="canx-timeline"')[2]


def test_what_is_undone_can_be_shown_alone(viewer: Client) -> None:
    """Of a run that is cancelled: what is undone, and what is still to be."""
    run_id = at_rest("undo", note="luck")
    flow.cancel(run_id)
    run_until_idle()
    text = said(viewer, run_id, steps="undo")
    assert "Undo 2" in text
    assert "charge[undo]" in text


def test_a_large_payload_is_cut_on_its_events_own_page_too(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not decoded for that, and shown whole on request."""
    client = person("view_event", "view_payloads")
    run_id = at_rest("wait")
    flow.send(run_id, "long", "y" * 100_000)
    event = Event.objects.get(run_id=run_id)
    decoded: list[int] = []
    loads = codec.loads
    monkeypatch.setattr(codec, "loads", lambda text: decoded.append(len(text)) or loads(text))
    content = client.get(url("change", event.id, model="event")).content.decode()
    assert max(decoded, default=0) < 10_000
    address = url("value", event.id, "payload", model="event")
    assert address in content
    assert "y" * 100_000 in client.get(address).content.decode()
