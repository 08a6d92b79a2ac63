"""Events beside much: what a wait reads, and how broadcasts find their runs."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection, transaction

from canx_flow.core.clock import now
from canx_flow.core.identity import uuid7_series
from canx_flow.models import Event, Timer, WorkflowRun
from canx_flow.states import WAITING, Kind
from canx_flow.store import broadcasts, events, listening

from .work import LITTLE, measured

SECOND = timedelta(seconds=1)


def waiting(event: str, key: str | None = None) -> UUID:
    """A run that waits for it."""
    run = WorkflowRun.objects.create(id=next(iter(uuid7_series(1))), workflow="w", state=WAITING, ready=False)
    Timer.objects.create(run=run, step="s", kind=Kind.WAIT, event=event, key=key)
    return run.id


@pytest.mark.parametrize("key", [None, "k"])
def test_a_wait_reads_nothing_that_is_older_than_its_run(key: str | None) -> None:
    """However much was sent with this name and key before."""
    old = now() - timedelta(hours=1)
    with transaction.atomic():
        Event.objects.bulk_create(Event(name="old", key=key, delivered=True, created_at=old) for _ in range(5000))
        run_id = waiting("old", key)
        with measured() as work:
            assert events.unread("default", run_id, "old", key, ()) is None
        work.assert_little()
        transaction.set_rollback(True)


@pytest.mark.parametrize("key", [None, "k"])
def test_a_wait_passes_by_nothing_that_its_run_has_read(key: str | None) -> None:
    """The next one is behind the last."""
    with transaction.atomic():
        run_id = waiting("tick", key)
        moments = [now() + number * SECOND for number in range(3000)]
        Event.objects.bulk_create(Event(name="tick", key=key, delivered=True, created_at=moment) for moment in moments)
        ids = list(Event.objects.filter(name="tick").order_by("id").values_list("id", flat=True))
        with measured() as work:
            unread = events.unread("default", run_id, "tick", key, set(ids[:2000]), after=ids[1999])
        assert unread is not None
        assert unread.id == ids[2000]
        work.assert_little()
        transaction.set_rollback(True)


def test_of_the_events_sent_to_one_run_a_wait_reads_the_first() -> None:
    """However many of that name it has not read."""
    with transaction.atomic():
        run_id = waiting("mail")
        Event.objects.bulk_create(Event(run_id=run_id, name="mail", delivered=True) for _ in range(3000))
        with measured() as work:
            unread = events.unread("default", run_id, "mail", None, ())
        assert unread is not None
        work.assert_little()
        transaction.set_rollback(True)


def test_broadcasts_find_the_runs_that_wait_for_them() -> None:
    """Beside those that wait for other things, sleep or have ended."""
    with transaction.atomic():
        keyed, unkeyed = waiting("gone", "7"), waiting("gone")
        Event.objects.create(name="gone", key="7", created_at=now() + SECOND)
        Event.objects.create(name="gone", created_at=now() + SECOND)
        taken = broadcasts.take("default")
        assert len(taken) == 2
        with measured() as work:
            assert listening.waiting("default", taken) == ([keyed, unkeyed], None)
        work.assert_little()
        transaction.set_rollback(True)


@pytest.mark.parametrize("key", [None, "k"])
def test_broadcasts_that_nobody_waits_for_read_no_other_waits(key: str | None) -> None:
    """However many there are, and though the planner was not told of these broadcasts yet."""
    with transaction.atomic():
        runs = [WorkflowRun(id=run_id, workflow="w", state=WAITING, ready=False) for run_id in uuid7_series(3000)]
        WorkflowRun.objects.bulk_create(runs)
        Timer.objects.bulk_create(Timer(run=run, step="s", kind=Kind.WAIT, event="other", key=key) for run in runs)
        Event.objects.bulk_create(Event(name=f"gossip {number}", key=key) for number in range(50))
        taken = broadcasts.take("default")
        with measured() as work:
            assert listening.waiting("default", taken) == ([], None)
        work.assert_little(5 * LITTLE)
        transaction.set_rollback(True)


def test_nothing_to_take_is_found_by_reading_little() -> None:
    """Nothing new, and nothing that a dead worker has left."""
    with measured() as work:
        assert broadcasts.take("default") == []
        assert broadcasts.release("default", now()) == 0
        assert events.deliver_directed("default") == events.Page(0, False, None)
    work.assert_little()


def test_an_event_of_one_run_is_looked_for_a_page_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many broadcasts before it no worker has taken yet."""
    monkeypatch.setattr(events, "_READ_TOGETHER", 100)
    with transaction.atomic():
        Event.objects.bulk_create(Event(name="untaken") for _ in range(5000))
        run_id = waiting("go")
        Event.objects.create(run_id=run_id, name="go")
        with measured() as work:
            page = events.deliver_directed("default")
        work.assert_little(3 * LITTLE)
        pages = 1
        while page.last is not None:
            page = events.deliver_directed("default", page.last)
            pages += 1
        assert (page.woken, pages) == (1, 51)
        transaction.set_rollback(True)


@pytest.mark.parametrize("key", [None, "k"])
def test_the_waits_for_a_broadcast_are_read_a_page_at_a_time(monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    """However many there are, and whether their runs are to be woken."""
    monkeypatch.setattr(listening, "MOST_READ", 20)
    with transaction.atomic():
        runs = [WorkflowRun(id=run_id, workflow="w", state=WAITING, ready=False) for run_id in uuid7_series(3000)]
        WorkflowRun.objects.bulk_create(runs)
        Timer.objects.bulk_create(Timer(run=run, step="s", kind=Kind.WAIT, event="all", key=key) for run in runs)
        Event.objects.create(name="all", key=key, created_at=now() + SECOND)
        taken, place, found = broadcasts.take("default"), listening.ALL_TOGETHER, 0
        for _ in range(3):
            with measured() as work:
                some, following = listening.waiting("default", taken, place)
            work.assert_little(5 * LITTLE)
            found += len(some)
            assert following is not None
            place = following
        assert found == 60
        transaction.set_rollback(True)


@pytest.mark.parametrize("told", [True, False])
def test_a_send_reads_no_backlog_of_broadcasts(told: bool) -> None:
    """However many no worker has taken yet, and whether the planner knows of them, or looked when there were none."""
    with transaction.atomic():
        Event.objects.bulk_create(Event(name="untaken") for _ in range(20_000))
        if told and connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE canx_flow_event")
        run_id = waiting("go")
        Event.objects.create(run_id=run_id, name="go")
        with measured() as work:
            assert events.wake("default", run_id)
        work.assert_little(2 * LITTLE)
        transaction.set_rollback(True)
