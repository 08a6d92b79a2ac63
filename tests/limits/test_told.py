"""What people are told of limits: why a run waits, `flow limits`, and the page of queues."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils.translation import override

from canx_flow import Context, queues, workflow
from canx_flow.client import get_run
from canx_flow.core import clock
from canx_flow.insight.why import why
from canx_flow.models import LimitHolder, Worker, WorkflowRun
from canx_flow.store import limits
from canx_flow.testing import advance, run_until_idle
from canx_flow.worker.chores.free_places import FreePlaces

pytestmark = pytest.mark.django_db

LIMITS = {"slow": {"rate": "1/m", "burst": 1}, "places": {"concurrency": 2}}


@pytest.fixture(autouse=True)
def _limits(settings: Any) -> None:
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LIMITS": LIMITS}


def test_those_that_wait_for_a_limit_without_places_any_more_go_on(settings: Any) -> None:
    """Nobody gives a place back then: who looks every few seconds finds them."""

    @workflow("limits.told-later")
    def later(ctx: Context) -> None:
        ctx.step("call", lambda: None, limit="places")

    _hold()
    _hold()
    run_id = later.start()
    run_until_idle()
    assert get_run(run_id).state == "waiting"
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LIMITS": {"places": {"rate": "20/s"}}}
    assert FreePlaces("default").look(1.0) == 1
    run_until_idle()
    assert get_run(run_id).state == "completed"


@pytest.mark.parametrize("limit", ["places", "slow"])
def test_those_that_wait_for_a_limit_that_is_not_declared_any_more_go_on(settings: Any, limit: str) -> None:
    """Whether they wait for a place or for a moment that is reserved: a worker without that limit looks for them."""
    named: dict[str, Any] = {"limit": (limit, "account-7")}

    @workflow("limits.told-gone")
    def gone(ctx: Context) -> None:
        ctx.step("call", lambda: None, **named)

    _hold("account-7")
    _hold("account-7")
    run_ids = [gone.using(queue="mail").start(), gone.using(queue="mail").start()]
    run_until_idle()
    assert get_run(run_ids[1]).waits[0].event == limit
    assert FreePlaces("default").look(1.0) == 0
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LIMITS": {}}
    named.clear()
    assert FreePlaces("default", ["default"]).look(1.0) == 0  # Its workers may have other settings.
    looks = FreePlaces("default", ["default", "mail"])
    assert looks.look(1.0) == (2 if limit == "places" else 1)
    assert looks.look(1000.0) == 0
    run_until_idle()
    assert [get_run(run_id).state for run_id in run_ids] == ["completed", "completed"]


def test_those_that_wait_for_the_rate_of_a_limit_that_has_none_any_more_go_on(settings: Any) -> None:
    """Nothing is reserved any more: their moments may be hours away."""

    @workflow("limits.told-unrated")
    def unrated(ctx: Context) -> None:
        ctx.step("call", lambda: None, limit="slow")

    run_ids = [unrated.start(), unrated.start()]
    run_until_idle()
    assert get_run(run_ids[1]).state == "sleeping"
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LIMITS": {"slow": {"concurrency": 2}}}
    assert FreePlaces("default").look(1.0) == 1
    run_until_idle()
    assert get_run(run_ids[1]).state == "completed"


def test_a_wait_for_an_event_that_is_named_much_like_a_limit_goes_on_waiting(
    settings: Any, django_assert_max_num_queries: Any
) -> None:
    """Projects may name events so; nor does each of their names cost a look. Here no limit is declared at all."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LIMITS": {}}

    @workflow("limits.told-beside")
    def beside(ctx: Context, event: str) -> Any:
        return ctx.wait_for("answer", event, timeout=86_400, default="too late")

    events = ["#limit", "#limits:a", "#mail-7", "#order", "#Order", "#rate", "#rates:a", "#quota:limit"]
    run_ids = [beside.start(event) for event in events]
    run_until_idle()
    with django_assert_max_num_queries(2):
        assert FreePlaces("default").look(1.0) == 0
    run_until_idle()
    assert {get_run(run_id).state for run_id in run_ids} == {"waiting"}


def test_a_new_rate_counts_for_those_that_ask_from_then_on(settings: Any) -> None:
    """A moment that is reserved stays; under another name of the limit those that wait ask anew."""
    named = {"limit": "slow"}

    @workflow("limits.told-new-rate")
    def paced(ctx: Context) -> None:
        ctx.step("call", lambda: None, **named)  # type: ignore[arg-type]

    run_ids = [paced.start() for _ in range(3)]
    run_until_idle()
    before = [get_run(run_id).resume_at for run_id in run_ids[1:]]
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LIMITS": {"slow": {"rate": "20/s"}}}
    assert FreePlaces("default").look(1.0) == 0
    run_until_idle()
    assert [get_run(run_id).resume_at for run_id in run_ids[1:]] == before
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LIMITS": {"quick": {"rate": "20/s"}}}
    named["limit"] = "quick"
    assert FreePlaces("default").look(1.0) == 2
    advance(1)
    assert [get_run(run_id).state for run_id in run_ids] == ["completed"] * 3


def test_a_look_passes_over_a_bounded_number_of_runs_in_paused_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one begins behind them; once those are resumed, they are found before those that came later."""
    monkeypatch.setattr(limits, "OLDEST", 2)
    monkeypatch.setattr(limits, "LOOKS", 1)

    @workflow("limits.told-passed")
    def passed(ctx: Context) -> None:
        ctx.step("call", lambda: None, limit="places")

    held = [_hold(), _hold()]
    mail = [passed.using(queue="mail").start() for _ in range(4)]
    others = [passed.start(), passed.start()]
    run_until_idle()
    queues.pause("mail")
    LimitHolder.objects.filter(run__in=held).delete()
    looks = FreePlaces("default")
    assert [looks.look(1.0 + 5 * number) for number in range(3)] == [0, 0, 2]
    run_until_idle()
    assert [get_run(run_id).state for run_id in others] == ["completed", "completed"]
    queues.resume("mail")
    assert [looks.look(20.0 + 5 * number) for number in range(2)] == [0, 2]
    run_until_idle()
    assert [get_run(run_id).state for run_id in mail] == ["completed"] * 2 + ["waiting"] * 2


def _hold(key: str = "") -> WorkflowRun:
    owner = Worker.objects.create(host="elsewhere", pid=1)
    run = WorkflowRun.objects.create(
        id=uuid4(), workflow="elsewhere", state="running", ready=False, arguments="[]", owner_id=owner.id, epoch=1
    )
    LimitHolder.objects.create(name="places", key=key, run=run, step="call", epoch=1, since=clock.now())
    return run


@pytest.fixture
def waiting() -> list[WorkflowRun]:
    """A run that waits for a place of a key, and one that waits for the rate."""

    @workflow("limits.told-full")
    def full(ctx: Context) -> None:
        ctx.step("call", lambda: None, limit=("places", "account-7"))

    @workflow("limits.told-rate")
    def rate(ctx: Context) -> None:
        ctx.step("call", lambda: None, limit="slow")

    first = _hold("account-7")
    _hold("account-7")
    ids = [full.start(), *rate.start_many([()] * 2)]
    run_until_idle()
    return [first, WorkflowRun.objects.get(id=ids[0]), WorkflowRun.objects.get(id=ids[2])]


def test_why_says_which_limit_and_who_holds_it(waiting: list[WorkflowRun]) -> None:
    """A full limit is named with its key and the run that has had a place longest; a rate with the moment."""
    holder, full, rate = waiting
    said = why(full).words(clock.now())
    assert said == f"call: limit places is full, key account-7, held by run {holder.id} and 1 other call"
    assert why(rate).words(clock.now()).startswith("call: the rate of limit slow lets it begin in ")
    assert [why(run).reasons[0].code for run in (full, rate)] == ["limitfull", "limitrate"]


def test_status_tells_of_the_wait(waiting: list[WorkflowRun]) -> None:
    """`waits` has the limit's name and the key; only a moment that is reserved is told as one."""
    from canx_flow.client import get_run

    _holder, full, rate = waiting
    status = get_run(full.id)
    assert (status.state, status.step, status.resume_at) == ("waiting", "call", None)
    [wait] = status.waits
    assert (wait.kind, wait.event, wait.key, wait.resume_at) == ("limit", "places", "account-7", None)
    assert "limit places is full" in status.why
    status = get_run(rate.id)
    assert (status.state, status.waits[0].event, status.waits[0].key) == ("sleeping", "slow", None)
    assert status.resume_at == status.waits[0].resume_at is not None


@pytest.mark.once
@pytest.mark.parametrize(("language", "words"), [("de", "Limit places ist belegt"), ("es", "límite places está lleno")])
def test_why_is_told_in_the_readers_language(waiting: list[WorkflowRun], language: str, words: str) -> None:
    """In German and in Spanish."""
    with override(language):
        assert words in why(waiting[1]).words(clock.now())


def _flow(*arguments: str) -> str:
    out = StringIO()
    call_command("flow", *arguments, stdout=out)
    return out.getvalue()


def test_flow_limits_shows_how_each_stands(waiting: list[WorkflowRun]) -> None:
    """Calls under way, runs that wait, and when the next call may begin."""
    lines = _flow("limits").splitlines()
    assert lines[0] == "slow  1/m, burst 1"
    assert lines[1].startswith("  1 waiting for the rate, the next call begins in ")
    assert lines[2:] == ["places  2 at once", "  2 calls under way, 1 waiting for a place"]
    slow, places = json.loads(_flow("limits", "--json"))
    assert (slow["limit"], slow["rate"], slow["waiting_for_the_rate"]) == ("slow", "1/m", 1)
    assert (places["concurrency"], places["calls"], places["waiting_for_a_place"]) == (2, 2, 1)
    assert places["next_at"] is None
    assert slow["next_at"] is not None


def test_flow_show_and_list_name_the_limit(waiting: list[WorkflowRun], monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the run's state, and at its wait."""
    monkeypatch.setenv("COLUMNS", "200")
    full = str(waiting[1].id)
    assert 'waits for limit "places" with key "account-7", which is full' in _flow("list")
    assert "limit places is full" in _flow("show", full)
    assert "limit places is full" in _flow("why", full)


def test_without_limits_there_is_nothing_to_show(settings: Any) -> None:
    """It says so."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LIMITS": {}}
    assert _flow("limits").strip() == "No limits."


@pytest.fixture
def staff() -> Client:
    """The browser of somebody who may see everything."""
    user = get_user_model().objects.create_superuser("ada", "ada@example.com", "secret")
    client = Client()
    client.force_login(user)
    return client


def test_the_page_of_queues_shows_limits(waiting: list[WorkflowRun], staff: Client, settings: Any) -> None:
    """Each limit with what it allows and who waits; without limits there is no such part."""
    page = staff.get(reverse("admin:canx_flow_workflowrun_queues")).content.decode()
    assert "Limits of steps" in page
    assert "2 at once" in page
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LIMITS": {}}
    assert "Limits of steps" not in staff.get(reverse("admin:canx_flow_workflowrun_queues")).content.decode()


def test_a_runs_page_says_why_it_waits(waiting: list[WorkflowRun], staff: Client) -> None:
    """With a link to the run that holds the place."""
    holder, full, _rate = waiting
    page = staff.get(reverse("admin:canx_flow_workflowrun_change", args=[full.id])).content.decode()
    assert "is full" in page
    assert reverse("admin:canx_flow_workflowrun_change", args=[holder.id]) in page
