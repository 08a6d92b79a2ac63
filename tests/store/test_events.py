"""What a wait reads next, and what it costs beside all that was sent before."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from canx_flow.core.clock import now
from canx_flow.models import Event, Timer, WorkflowRun
from canx_flow.states import PENDING, WAITING, Kind
from canx_flow.store import events
from tests.store.locking import locked_runs

pytestmark = pytest.mark.django_db(transaction=True)

SECOND = timedelta(seconds=1)


def run(state: str = WAITING, event: str = "news") -> UUID:
    """A run that waits for an event."""
    made = WorkflowRun.objects.create(workflow="nobody.knows", state=state, ready=False)
    Timer.objects.create(run=made, step="read", kind=Kind.WAIT, event=event)
    return made.id


def sent(count: int, key: str | None = None, after: timedelta = SECOND) -> list[int]:
    """Broadcasts that were sent one after another, the first of them so long after now."""
    begin = now() + after
    for number in range(count):
        Event.objects.create(name="news", key=key, payload=str(number), created_at=begin + number * SECOND)
    return list(Event.objects.filter(key=key).order_by("-id").values_list("id", flat=True)[:count])[::-1]


@pytest.mark.parametrize("key", [None, "k"])
def test_the_next_one_is_found_behind_the_last(key: str | None) -> None:
    """Without a question that names all that were read; read in the order sent, each once."""
    run_id, ids = run(), sent(5, key)
    consumed: set[int] = set()
    found, last = [], None
    while unread := events.unread("default", run_id, "news", key, consumed, after=last):
        found.append(last := unread.id)
        consumed.add(last)
    assert found == ids


@pytest.mark.parametrize("key", [None, "k"])
def test_as_many_statements_as_ever_however_many_were_read(key: str | None) -> None:
    """And none of them is longer for it."""
    run_id, ids = run(), sent(40, key)
    asked = []
    for read in (1, 39):
        with CaptureQueriesContext(connection) as queries:
            unread = events.unread("default", run_id, "news", key, set(ids[:read]), after=ids[read - 1])
        assert unread is not None
        assert unread.id == ids[read]
        asked.append([len(query["sql"]) for query in queries])
    assert len(asked[0]) == len(asked[1]) == 3
    assert max(abs(one - other) for one, other in zip(*asked, strict=True)) < 10


def test_one_that_was_committed_late_is_found_when_there_is_none_behind() -> None:
    """Its id is lower than that of one that was read before: nothing is skipped for good, and nothing read twice."""
    run_id, ids = run(), sent(3)
    late, read, newest = ids
    unread = events.unread("default", run_id, "news", None, {read}, after=read)
    assert unread is not None
    assert unread.id == newest
    unread = events.unread("default", run_id, "news", None, {read, newest}, after=newest)
    assert unread is not None
    assert unread.id == late
    assert events.unread("default", run_id, "news", None, {late, read, newest}, after=late) is None


def test_what_was_sent_before_the_run_was_made_is_not_read() -> None:
    """Whatever its last wait has read."""
    sent(3, after=-60 * SECOND)
    run_id = run()
    assert events.unread("default", run_id, "news", None, ()) is None
    (event_id,) = sent(1)
    assert events.unread("default", run_id, "news", None, {event_id}, after=event_id) is None


def test_events_that_senders_left_behind_wake_their_runs_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page in one transaction; it says where the next one begins."""
    monkeypatch.setattr(events, "_PAGE", 2)
    run_ids = [run() for _ in range(3)]
    for run_id in run_ids:
        events.send("default", "news", "1", run_id=run_id)
    first = events.deliver_directed("default")
    assert (first.woken, first.locked) == (2, False)
    assert first.last is not None
    assert events.deliver_directed("default", first.last) == events.Page(1, False, None)
    assert set(WorkflowRun.objects.values_list("state", flat=True)) == {PENDING}
    assert not Event.objects.filter(delivered=False).exists()


def test_of_a_page_those_runs_are_left_that_are_locked(tier: str) -> None:
    """Their events are not delivered; those of runs that are gone are."""
    if tier == "sqlite":
        pytest.skip("there is one lock for all")
    locked, free, gone = run(), run(), run()
    for run_id in (locked, free, gone):
        events.send("default", "news", "1", run_id=run_id)
    WorkflowRun.objects.filter(id=gone).delete()
    Event.objects.create(run_id=gone, name="news")
    with locked_runs([locked]):
        assert events.deliver_directed("default") == events.Page(1, True, None)
        assert set(Event.objects.filter(delivered=False).values_list("run_id", flat=True)) == {locked}
    assert events.deliver_directed("default") == events.Page(1, False, None)
