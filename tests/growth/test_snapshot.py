"""Beside a transaction with an old snapshot: what is not there any more is read once, and not again and again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connections

from canx_flow.core import clock
from canx_flow.core.changes import Wait
from canx_flow.core.identity import first_id_at
from canx_flow.models import Event, Timer, Worker, WorkflowRun
from canx_flow.states import COMPLETED, Kind
from canx_flow.store import claims, poll, timers
from canx_flow.store.bookmark import Bookmark
from canx_flow.store.db.databases import session_for

from .conftest import MANY, POSTGRESQL, on_each
from .work import LITTLE, Work, measured

KNOWN = [("order", "")]
MINUTE = timedelta(minutes=1)
QUEUES = [(), ("default",), ("default", "none")]


@pytest.fixture
def _dead_entries(tier: str, statistics: str) -> Iterator[None]:
    """So many runs were ready, timers due, and events undelivered, half an hour ago, and are no longer, but somebody
    looks at the database as it was."""
    if tier != "postgresql":
        pytest.skip("it keeps no entries of what is gone, or drops them by itself")
    ready = list(WorkflowRun.objects.filter(ready=True).values_list("id", flat=True))
    WorkflowRun.objects.filter(ready=True).update(ready=False)
    moment = clock.now() - 30 * MINUTE
    first = first_id_at(moment).int
    ids = [UUID(int=first + number) for number in range(MANY)]
    session = session_for("default")
    owner = Worker.objects.create(id=uuid4())
    session.insert_runs(WorkflowRun(workflow="order", owner=owner), ids, ["[[],{}]"] * MANY)
    session.insert_timers([(run_id, Wait("s", Kind.SLEEP, moment), False) for run_id in ids])
    Event.objects.bulk_create([Event(name="gone") for _ in range(MANY)], 1000)
    other = connections["default"].copy()
    with other.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT count(*) FROM canx_flow_worker")
        WorkflowRun.objects.filter(ready=True).update(ready=False, state=COMPLETED, owner=None)
        Timer.objects.filter(due_at=moment).delete()
        Event.objects.filter(name="gone").update(delivered=True)
        yield
        cursor.execute("ROLLBACK")
    other.close()
    # Of what was theirs nothing is left. Other tests have no runs of that hour.
    WorkflowRun.objects.filter(id__gte=first_id_at(moment), id__lt=first_id_at(clock.now() - MINUTE)).delete()
    WorkflowRun.objects.filter(id__in=ready).update(ready=True)
    if statistics == "analysed":
        on_each(POSTGRESQL, "VACUUM ANALYZE {table}")


def _bookmark(queues: tuple[str, ...], read: Work) -> Bookmark:
    """What a worker's poll has learnt by reading everything."""
    found = poll.ask(connections["default"], queues, remember=True)
    assert (found.ready, found.undelivered, found.orphaned) == (False, False, False)
    assert found.event is not None
    return Bookmark.behind(nothing_ready=True, next_due=found.next_due, event=found.event)


@pytest.mark.usefixtures("_dead_entries")
@pytest.mark.parametrize("queues", QUEUES)
def test_an_idle_worker_reads_little_beside_an_old_snapshot(queues: tuple[str, ...]) -> None:
    """Once it has read everything: its polls, its looks for due timers, and the claim of what is started then."""
    owner = Worker.objects.create(id=uuid4())
    with measured() as whole:
        bookmark = _bookmark(queues, whole)
    assert whole.spent > MANY / 100
    with measured() as work:
        found = poll.ask(connections["default"], queues, bookmark)
        assert (found.ready, found.undelivered) == (False, False)
        assert timers.fire("default", since=bookmark.due_at).seen == 0
    work.assert_little(2 * LITTLE)
    run = WorkflowRun.objects.create(workflow="order")
    event = Event.objects.create(name="new")
    with measured() as work:
        found = poll.ask(connections["default"], queues, bookmark)
        assert (found.ready, found.undelivered) == (True, True)
        taken = claims.claim(connections["default"], owner.id, 5, KNOWN, queues, bookmark=bookmark, anywhere=False)
        assert [one.id for one in taken] == [run.id]
    work.assert_little(6 * LITTLE)
    event.delete()
    run.delete()


@pytest.mark.usefixtures("_dead_entries")
def test_a_backlog_is_claimed_from_where_the_last_claim_ended() -> None:
    """However many were claimed before since the snapshot."""
    owner = Worker.objects.create(id=uuid4())
    session = session_for("default")
    first = first_id_at(clock.now() - 20 * MINUTE).int
    ids = [UUID(int=first + number) for number in range(300)]
    session.insert_runs(WorkflowRun(workflow="order"), ids, ["[[],{}]"] * len(ids))
    bookmark = Bookmark(None, clock.now(), 0)
    claimed = []
    for turn in range(3):
        with measured() as work:
            runs = claims.claim(connections["default"], owner.id, 20, KNOWN, bookmark=bookmark, anywhere=False)
        claimed += [run.id for run in runs]
        if turn:
            work.assert_little(20 * LITTLE)
        else:
            assert work.spent > MANY / 100
    assert claimed == ids[:60]
