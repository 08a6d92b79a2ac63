"""The list of runs: columns, filters, search, and how often it asks the database."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.formats import localize
from freezegun import freeze_time

from canx_flow import workflow
from canx_flow.admin.counting import AtLeast, CappedPaginator
from canx_flow.core import registry
from canx_flow.models import WorkflowRun
from canx_flow.testing import run_until_idle

from . import runs
from .conftest import url
from .runs import MAKE, anything, at_rest

pytestmark = pytest.mark.django_db


def listed(client: Client, **query: str) -> list[str]:
    """The ids on the page of the list, in its order."""
    response = client.get(url("changelist"), {"state": "all", **query})
    assert response.status_code == 200, response.headers.get("Location")
    return re.findall(r'class="canx-id" title="([0-9a-f-]{36})"', response.content.decode())


def text(client: Client, **query: str) -> str:
    """The page without its markup."""
    content = client.get(url("changelist"), {"state": "all", **query}).content.decode()
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", content))


# -- columns -----------------------------------------------------------------------------------------


def test_the_newest_run_comes_first(viewer: Client) -> None:
    """Runs are listed by their ids, which begin with the time, newest first."""
    ids = [str(run_id) for run_id in (at_rest(), at_rest("sleep"), at_rest())]
    assert listed(viewer) == ids[::-1]


def test_each_state_is_a_word(viewer: Client) -> None:
    """A state is said, not only coloured."""
    made = {state: make() for state, make in MAKE.items()}
    content = viewer.get(url("changelist"), {"state": "all"}).content.decode()
    for state in made:
        assert f'<span class="canx-badge canx-{state}">{state}</span>' in content


def test_a_row_says_what_it_waits_for_and_when_it_goes_on(viewer: Client) -> None:
    """The step and the moment for a sleep, the event for a wait, the reason for one that is stuck."""
    with freeze_time(datetime(2026, 3, 1, 12, tzinfo=UTC)):
        at_rest("sleep"), at_rest("wait"), runs.parked(), runs.cancelled()
        said = text(viewer)
    assert "nap : wakes in 1 h" in said
    assert "answer : for event answered , key k-1 , since 0 ms, times out in 2 h" in said
    assert "UnknownWorkflow" in said
    assert "changed her mind" in said


def test_the_step_of_a_running_run_is_what_its_worker_said_last(viewer: Client) -> None:
    """The worker's last heartbeat says it."""
    run_id = runs.running()
    worker = WorkflowRun.objects.get(id=run_id).owner
    assert worker is not None
    worker.activity = f'{{"{run_id}": {{"step": "charge", "attempt": 2}}}}'
    worker.save()
    assert "charge" in text(viewer)


def test_moments_are_machine_readable(viewer: Client) -> None:
    """A moment is relative to the reader, exact for a machine and in the title."""
    with freeze_time(datetime(2026, 3, 1, 12, tzinfo=UTC)):
        at_rest("sleep")
        content = viewer.get(url("changelist"), {"state": "all"}).content.decode()
    assert '<time datetime="2026-03-01T13:00:00+00:00" title="2026-03-01 13:00:00 UTC"' in content
    assert ">in 1 h</time>" in content


def test_a_subject_is_linked_where_its_model_is_registered(operator: Client) -> None:
    """The list links the subject by its key and loads no object for it."""
    user = User.objects.get(username="operator")
    user.user_permissions.add(Permission.objects.get(codename="view_user"))
    anything.using(subject=user).start()
    content = operator.get(url("changelist"), {"state": "all"}).content.decode()
    assert f'<a href="/admin/auth/user/{user.pk}/change/">user {user.pk}</a>' in content


def test_a_subject_is_plain_text_for_who_may_not_view_it(viewer: Client) -> None:
    """Neither the list nor the run's page links to what would be refused."""
    user = User.objects.get(username="viewer")
    run_id = anything.using(subject=user).start()
    for address in (f"{url('changelist')}?state=all", url("change", run_id)):
        content = viewer.get(address).content.decode()
        assert f"user {user.pk}" in content
        assert f"/admin/auth/user/{user.pk}/change/" not in content


def test_whether_a_subject_may_be_viewed_is_asked_once(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each model on the page, however many runs have a subject of it."""
    asked: list[Any] = []

    def refuse(_self: Any, _request: Any, obj: Any = None) -> bool:
        asked.append(obj)
        return False

    for user in (User.objects.create(username=f"u{number}") for number in range(3)):
        anything.using(subject=user).start()
    monkeypatch.setattr(UserAdmin, "has_view_permission", refuse)
    listed(viewer)
    with_subjects = len(asked)
    WorkflowRun.objects.update(subject_type="")
    listed(viewer)
    assert len(asked) - with_subjects == with_subjects - 1  # The admin's own menu asks, too.


def test_a_failed_run_says_what_failed(viewer: Client) -> None:
    """The step and its last error; where no step is to blame, the run's own."""
    at_rest("fail", note="luck"), runs.out_of_time()
    said = text(viewer)
    assert "hopeless: ValueError: no luck" in said
    assert "RunTimedOut" in said
    assert "StepFailed" not in said


def test_what_failed_is_one_short_line_of_text(viewer: Client) -> None:
    """Line breaks are spaces, what is long is cut, and nothing of it is markup."""
    at_rest("fail", note=f"{runs.SCRIPT}\n" + "x" * 500)
    content = viewer.get(url("changelist"), {"state": "all"}).content.decode()
    assert "hopeless: ValueError: no &lt;script&gt;alert(1)&lt;/script&gt; xxx" in content
    assert "x" * 80 not in content


def stars(value: Any, **_names: Any) -> Any:
    """Takes the word `luck` out of an error's message."""
    if isinstance(value, dict) and "message" in value:
        return {**value, "message": value["message"].replace("luck", "***")}
    return value


def test_what_failed_passes_through_redact(viewer: Client, settings: Any) -> None:
    """As on the run's page."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "REDACT": f"{__name__}.stars"}
    at_rest("fail", note="luck")
    said = text(viewer)
    assert "hopeless: ValueError: no ***" in said
    assert "luck" not in said


def test_a_version_stands_beside_the_workflow(viewer: Client) -> None:
    """`name@version`."""
    runs.parked()
    assert "admin.any @gone" in text(viewer)


# -- queries -----------------------------------------------------------------------------------------


def queries(client: Client, **query: str) -> list[str]:
    """What the list asks the database."""
    with CaptureQueriesContext(
        connection,
    ) as captured:
        listed(client, **query)
    return [query["sql"] for query in captured.captured_queries]


def make_some(number: int) -> None:
    """So many runs of each of several kinds."""
    user = User.objects.get(username="operator")
    for _ in range(number):
        anything.using(subject=user).start("sleep")
        anything.start("wait"), anything.start("fail"), anything.start()
    run_until_idle()
    runs.running(), runs.paused(), runs.parked()


def test_the_number_of_queries_does_not_grow_with_the_list(operator: Client) -> None:
    """Ten times the runs, in every state, cost no query more."""
    make_some(1)
    queries(operator)  # The banner looks once in some seconds.
    few = queries(operator)
    make_some(10)
    assert len(queries(operator)) == len(few) <= 16


def test_the_list_reads_no_value_that_it_does_not_show(operator: Client) -> None:
    """Arguments, results and errors may be large: the list leaves them where they are."""
    make_some(1)
    page = next(sql for sql in queries(operator) if "control_reason" in sql)
    for column in ("arguments", "result", "error", "attributes"):
        assert f"{connection.ops.quote_name(column)}" not in page


def test_counting_stops_at_the_limit(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit the list says so, and offers no page that was not counted."""
    monkeypatch.setattr(CappedPaginator, "limit", 5)
    anything.start_many([()] * 5)
    assert "5 workflow runs" in text(viewer)
    anything.start()
    said = text(viewer)
    assert "≥5 workflow runs" in said
    assert "Not all are counted" in said
    assert not any(re.search(r"COUNT\(\*\)(?!.*LIMIT)", sql) for sql in queries(viewer))


def test_a_stopped_count_is_readable_with_thousands_separators(settings: Any) -> None:
    """Django's number formats leave it whole."""
    assert str(localize(AtLeast(10_000))) == "≥10000"
    settings.USE_THOUSAND_SEPARATOR = True
    assert str(localize(AtLeast(10_000))) == "≥10,000"


def test_pages_of_the_list_go_up_to_the_limit(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last page that was counted is there; one beyond is not."""
    monkeypatch.setattr(CappedPaginator, "limit", 200)
    anything.start_many([()] * 250)
    assert len(listed(viewer, p="2")) == 100
    assert viewer.get(url("changelist"), {"p": "3"}).status_code == 302


def test_runs_that_have_not_finished_are_listed_newest_first(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever their states, on every page, beside another filter, and counted up to the limit."""
    asleep = [str(anything.start("sleep")) for _ in range(102)]
    at_rest()
    pending = [str(anything.using(queue="slow").start()) for _ in range(3)]
    wanted = [*pending[::-1], *asleep[::-1]]
    assert listed(viewer, state="unfinished") == wanted[:100]
    assert listed(viewer, state="unfinished", p="2") == wanted[100:]
    assert listed(viewer, state="unfinished", all="") == wanted
    assert listed(viewer, state="unfinished", queue="slow") == pending[::-1]
    assert listed(viewer, state="unfinished", q=asleep[0]) == [asleep[0]]
    assert listed(viewer, state="unfinished", queue="gone") == []
    monkeypatch.setattr(CappedPaginator, "limit", 102)
    assert "≥102 workflow runs" in text(viewer, state="unfinished")
    assert listed(viewer, state="unfinished", p="2") == wanted[100:102]


# -- filters -----------------------------------------------------------------------------------------


def test_filters_narrow_the_list(viewer: Client) -> None:
    """By state, by all that have not finished, by workflow, by queue."""
    asleep, done = at_rest("sleep"), at_rest()
    slow = anything.using(queue="slow").start()
    assert listed(viewer, state="sleeping") == [str(asleep)]
    assert listed(viewer, state="unfinished") == [str(slow), str(asleep)]
    assert listed(viewer, queue="slow") == [str(slow)]
    assert len(listed(viewer, workflow="admin.any")) == 3
    assert listed(viewer, workflow="admin.many-steps") == []
    assert str(done) in listed(viewer, state="completed")


def test_what_no_text_may_hold_is_a_bad_request(viewer: Client) -> None:
    """PostgreSQL refuses NUL in a parameter: that was an error of the server."""
    for name in ("state", "workflow", "queue", "key"):
        assert viewer.get(url("changelist"), {name: "\0"}).status_code == 400


def test_filters_offer_what_code_and_workers_know(viewer: Client) -> None:
    """Workflows of the code, their queues, those of live workers, and whatever is asked for now."""
    workflow("admin.elsewhere", runs.fail, queue="of-code")
    try:
        runs.a_worker(queues=["of-worker"])
        said = text(viewer, queue="of-nobody", workflow="gone")
    finally:
        registry.forget("admin.elsewhere")
    for name in ("of-code", "of-worker", "of-nobody", "admin.elsewhere", "gone"):
        assert name in said


# -- search ------------------------------------------------------------------------------------------


@pytest.fixture
def sought(viewer: Client) -> UUID:
    """A run with a key and a subject, among others."""
    user = User.objects.get(username="viewer")
    at_rest("sleep")
    run_id = anything.using(key="Order-17", subject=user).start()
    anything.using(key="order-17").start()
    return run_id


def test_a_run_is_found_by_its_id(viewer: Client, sought: UUID) -> None:
    """The whole id, with or without hyphens, its beginning, and what the list shows of it."""
    text_ = str(sought)
    for term in (text_, text_.replace("-", ""), text_.upper(), f" {text_[:33]} ", f"{text_[:8]}…{text_[-4:]}"):
        assert str(sought) in listed(viewer, q=term), term
    assert listed(viewer, q=text_) == [text_]
    assert listed(viewer, q="ffff") == []


def test_a_run_is_found_by_its_key(viewer: Client, sought: UUID) -> None:
    """Byte by byte, as keys are compared everywhere."""
    assert listed(viewer, q="Order-17") == [str(sought)]


def test_a_run_is_found_by_its_subject(viewer: Client, sought: UUID) -> None:
    """By the subject's key, alone or with its model."""
    key = User.objects.get(username="viewer").pk
    for term in (str(key), f"auth.User {key}", f"auth.user:{key}", f"user {key}", f"User {key}"):
        assert listed(viewer, q=term) == [str(sought)], term
    assert listed(viewer, q=f"auth.Group {key}") == listed(viewer, q=f"group {key}") == []


def test_a_run_is_found_by_its_workflow(viewer: Client, sought: UUID) -> None:
    """A part of the name is enough."""
    assert len(listed(viewer, q="ADMIN.a")) == 3


def test_a_run_of_a_forgotten_workflow_is_found_too(viewer: Client, sought: UUID) -> None:
    """Only the workflows that the code knows are looked up in an index first."""
    WorkflowRun.objects.filter(id=sought).update(workflow="long.gone", subject_type="gone.Model", subject_id="X9")
    for term in ("Order-17", "long.gone", "X9"):
        assert listed(viewer, q=term) == [str(sought)]


def test_a_search_can_be_filtered(viewer: Client, sought: UUID) -> None:
    """Search and filters work together."""
    assert listed(viewer, q="admin.any", state="sleeping") != []
    assert listed(viewer, q="Order-17", state="sleeping") == []


@pytest.mark.parametrize("term", ["%", "'", "\\", "a b c", "é…", "shop.Nothing 1", "----", "0" * 40, "\x00"])
def test_odd_searches_find_nothing_and_break_nothing(viewer: Client, sought: UUID, term: str) -> None:
    """Whatever is typed is a text to be found, or not."""
    response = viewer.get(url("changelist"), {"q": term})
    assert response.status_code == 200
