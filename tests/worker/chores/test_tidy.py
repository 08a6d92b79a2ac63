"""Old rows are deleted a batch at a time, as fast as they are written."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from canx_flow import conf
from canx_flow.core.clock import now
from canx_flow.models import Event, LimitBucket, Worker
from canx_flow.states import WorkerState
from canx_flow.store import forgetting
from canx_flow.store.db import engine
from canx_flow.store.db.sqlite import turns
from canx_flow.worker.agenda import NEVER, Agenda
from canx_flow.worker.chores.tidy import Tidy
from tests.worker.lives import StandingClock

pytestmark = pytest.mark.django_db


def test_old_broadcasts_are_deleted_in_batches(clock: StandingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two of them other work has its turn; events of single runs, young ones and those not delivered stay."""
    monkeypatch.setattr(forgetting, "MOST_FORGOTTEN", 4)
    old = now() - timedelta(days=conf.get().event_days + 1)
    run_id = "00000000-0000-7000-8000-000000000001"
    for number in range(5):
        Event.objects.create(name="old", delivered=True, created_at=old)
        Event.objects.create(name=f"kept {number}", run_id=run_id, delivered=True, created_at=old)
    Event.objects.create(name="undelivered", created_at=old)
    Event.objects.create(name="young", delivered=True)
    agenda = Agenda(10.0, clock)
    tidy = Tidy("default", agenda)
    tidy.run_once(clock.now)
    assert Event.objects.filter(name="old").count() == 3
    left = []
    while agenda.tidies_at < NEVER:
        assert agenda.tidies_at == pytest.approx(clock.now + 0.1)
        clock.now = agenda.tidies_at
        tidy.go_on(clock.now)
        left.append(Event.objects.filter(name="old").count())
    assert left == [1, 0]
    assert Event.objects.filter(name__startswith="kept").count() == 5
    assert Event.objects.filter(name__in=["undelivered", "young"]).count() == 2


def test_what_a_round_has_passed_by_is_not_read_again(clock: StandingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events of single runs stay as long as these: there may be ten millions before the next old broadcast."""
    monkeypatch.setattr(forgetting, "MOST_FORGOTTEN", 4)
    old = now() - timedelta(days=conf.get().event_days + 1)
    run_id = "00000000-0000-7000-8000-000000000001"
    for number in range(12):
        Event.objects.create(name=f"kept {number}", run_id=run_id, delivered=True, created_at=old)
    agenda = Agenda(10.0, clock)
    tidy = Tidy("default", agenda)
    assert _batches(tidy, agenda, clock) == 4
    Event.objects.create(name="old", delivered=True, created_at=old)
    clock.now += 600
    assert _batches(tidy, agenda, clock) == 1
    assert not Event.objects.filter(name="old").exists()


def test_what_was_not_delivered_yet_is_deleted_a_day_later(
    clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After all workers were down for longer than broadcasts are kept, say: the first round passes by what is old."""
    monkeypatch.setattr(forgetting, "MOST_FORGOTTEN", 2)
    old = now() - timedelta(days=conf.get().event_days + 1)
    for _ in range(5):
        Event.objects.create(name="old", created_at=old)
    tidy = Tidy("default", agenda := Agenda(10.0, clock))
    _batches(tidy, agenda, clock)
    Event.objects.update(delivered=True)
    clock.now += 86_400 - 700
    _batches(tidy, agenda, clock)
    assert Event.objects.count() >= 4
    clock.now += 700
    _batches(tidy, agenda, clock)
    assert Event.objects.count() == 0


def test_one_worker_of_many_deletes_broadcasts(clock: StandingClock) -> None:
    """The first: to find them, all events are walked. Once it is gone, the next one is the first."""
    Event.objects.create(name="old", delivered=True, created_at=now() - timedelta(days=conf.get().event_days + 1))
    tidy = Tidy("default", agenda := Agenda(10.0, clock))
    agenda.place = (1, 2)
    with CaptureQueriesContext(connection) as queries:
        assert _batches(tidy, agenda, clock) == 1
    assert not any("canx_flow_event" in query["sql"] for query in queries)
    agenda.place = (0, 1)
    clock.now += 600
    _batches(tidy, agenda, clock)
    assert not Event.objects.exists()


def test_to_delete_nothing_takes_no_lock(clock: StandingClock) -> None:
    """Where one transaction at a time may write, others would wait for it."""
    Event.objects.create(name="young", delivered=True)
    with CaptureQueriesContext(connection) as queries:
        forgetting.forget("default", now() - timedelta(days=1))
    assert [query["sql"].split()[0] for query in queries] == ["SELECT"]


def _batches(tidy: Tidy, agenda: Agenda, clock: StandingClock) -> int:
    """Take a round; return of how many batches it was."""
    tidy.run_once(clock.now)
    batches = 1
    while agenda.tidies_at < NEVER:
        clock.now = agenda.tidies_at
        tidy.go_on(clock.now)
        batches += 1
    return batches


class _Watched:
    """The lock of the threads that write to SQLite, which says when one of them waits for its turn."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self.is_waited_for = threading.Event()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.is_waited_for.set()
            self._lock.acquire()

    def __exit__(self, *_error: object) -> None:
        self._lock.release()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("old", [Worker, LimitBucket])
def test_old_rows_are_deleted_when_it_is_this_threads_turn(
    clock: StandingClock, tier: str, settings: Any, monkeypatch: pytest.MonkeyPatch, old: Any
) -> None:
    """Another thread of the worker that writes to SQLite at this moment is waited for, and is no error."""
    if tier != "sqlite":
        pytest.skip("it has no lock for all writers")
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LIMITS": {"places": {"concurrency": 1}}}
    if old is Worker:
        Worker.objects.create(host="here", pid=1, state=WorkerState.STOPPED, ended_at=now() - timedelta(days=2))
    else:
        LimitBucket.objects.create(name="old", tat=5)
    turn, writes = _Watched(turns["default"]), threading.Event()
    monkeypatch.setitem(turns, "default", turn)

    def write() -> None:
        connection = engine.open_connection("default")
        with engine.transaction(connection):
            writes.set()
            turn.is_waited_for.wait(10)
        engine.reset(connection)

    other = threading.Thread(target=write)
    with engine.use_engine_connection("default") as own:
        with own.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout = 1")
        other.start()
        assert writes.wait(10)
        Tidy("default", Agenda(10.0, clock)).run_once(clock.now)
    other.join()
    assert turn.is_waited_for.is_set()
    assert not old.objects.exists()
