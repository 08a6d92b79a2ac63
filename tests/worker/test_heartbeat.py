"""The heartbeat thread, on the database under test."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import connections

from canx_flow.models import Worker
from canx_flow.store import leases
from canx_flow.store.db import engine
from canx_flow.worker import heartbeat
from canx_flow.worker.heartbeat import Heartbeat
from canx_flow.worker.lease import clock

from ..waiting import wait_until

Start = Callable[..., Heartbeat]


@pytest.fixture
def worker_id(transactional_db: None) -> UUID:
    """A registered worker."""
    return leases.register(host="here", pid=1).id


@pytest.fixture
def start(worker_id: UUID) -> Iterator[Start]:
    """Starts a heartbeat that beats ten times a second; stops it after the test."""
    started: list[Heartbeat] = []

    def start(**more: Any) -> Heartbeat:
        started.append(Heartbeat(worker_id, **{"lease": 0.6} | more))
        started[-1].start()
        return started[-1]

    yield start
    for beating in started:
        beating.stop()


def _beats(worker_id: UUID) -> int:
    return Worker.objects.get(id=worker_id).beat


def _rises(worker_id: UUID, by: int = 2) -> None:
    before = _beats(worker_id)
    wait_until(lambda: _beats(worker_id) >= before + by)


def _end_sessions(tier: str) -> None:
    """End every session of this database but the test's own, as a restarting server does."""
    listing, ending = {
        "postgresql": (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
            "SELECT pg_terminate_backend(%s)",
        ),
        "mysql": (
            "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()",
            "KILL %s",
        ),
    }[tier]
    with connections["default"].cursor() as cursor:
        cursor.execute(listing)
        for (number,) in cursor.fetchall():
            cursor.execute(ending, [number])


@pytest.fixture
def locked(tier: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A SQLite database whose write lock can be held; other connections give up on it soon."""
    if tier != "sqlite":
        pytest.skip("other databases lock rows")
    options = {**connections.settings["default"]["OPTIONS"], "timeout": 0.05}
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)
    return engine.transaction


@pytest.mark.parametrize(("lease", "seconds"), [(30, 5), (600, 5), (3, 0.5), (0.6, 0.1)])
@pytest.mark.once
def test_six_beats_to_a_lease(lease: float, seconds: float) -> None:
    """A beat every sixth of the lease, at least every five seconds."""
    assert heartbeat.interval(lease) == pytest.approx(seconds)


def test_it_renews_the_lease(worker_id: UUID, start: Start) -> None:
    """The counter rises for as long as it beats, and the lease stays fresh."""
    beating = start()
    assert beating.wait_fresh(10)
    _rises(worker_id, by=10)
    assert beating.is_fresh()


def test_it_tells_what_the_worker_does(worker_id: UUID, start: Start) -> None:
    """Each beat stores the snapshot it is given; one that fails costs no beat."""
    answers: list[Any] = [("working", 3)]

    def snapshot() -> tuple[str, int]:
        answer: tuple[str, int] = answers[-1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    start(snapshot=snapshot)
    row = wait_until(lambda: Worker.objects.filter(id=worker_id, activity="working").first())
    assert row.abandoned == 3
    answers.append(ValueError("no idea"))
    wait_until(lambda: Worker.objects.filter(id=worker_id, activity="{}").exists())
    _rises(worker_id)


def test_it_is_not_fresh_before_the_first_beat(worker_id: UUID) -> None:
    """A lease that nobody renewed holds nothing."""
    assert not Heartbeat(worker_id, lease=30).is_fresh()
    assert not Heartbeat(worker_id, lease=30).wait_fresh(0.01)


def test_a_stopped_heartbeat_goes_stale(worker_id: UUID, start: Start) -> None:
    """When beats stop, the lease ends by this worker's own clock, whatever the database says."""
    beating = start()
    assert beating.wait_fresh(10)
    beating.stop()
    wait_until(lambda: not beating.is_fresh())


def test_the_lease_counts_from_the_moment_the_beat_was_sent(worker_id: UUID, start: Start) -> None:
    """A beat that took long to be stored renews from when it was sent: others may have counted from then."""
    before = clock()
    beating = start(lease=30)
    assert beating.wait_fresh(10)
    assert before <= beating.lease.last_beat <= clock()


def test_a_worker_that_was_found_dead_is_told(worker_id: UUID, start: Start) -> None:
    """The refused beat is the news: once, at once, and for good."""
    told: list[str] = []
    beating = start(on_dead=lambda: told.append(threading.current_thread().name))
    assert beating.wait_fresh(10)
    leases.declare_dead(worker_id)
    wait_until(lambda: told)
    assert beating.lease.dead
    assert not beating.is_fresh()
    assert not beating.wait_fresh(10)
    beating.stop()
    assert len(told) == 1


def test_a_lost_connection_costs_a_beat_at_most(worker_id: UUID, start: Start, tier: str) -> None:
    """C100: after a restart of the server it connects anew and goes on."""
    if tier == "sqlite":
        pytest.skip("there is no server")
    beating = start()
    assert beating.wait_fresh(10)
    _end_sessions(tier)
    _rises(worker_id)
    assert beating.wait_fresh(10)
    assert not beating.lease.dead


def test_it_outlasts_a_database_that_is_away(
    worker_id: UUID, start: Start, locked: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """P16: while no beat can be stored it is stale but not dead, its file stays young, and it warns once."""
    file = tmp_path / "alive"
    with caplog.at_level(logging.WARNING, "canx_flow.worker"):
        beating = start(file=file)
        assert beating.wait_fresh(10)
        holder = engine.open_connection("default")
        with locked(holder):
            wait_until(lambda: not beating.is_fresh())
            touched = file.stat().st_mtime_ns
            wait_until(lambda: file.stat().st_mtime_ns > touched)
            assert not beating.lease.dead
        engine.reset(holder)
        assert beating.wait_fresh(10)
    _rises(worker_id)
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2
    assert "does not reach" in warnings[0]
    assert "again" in warnings[1]


def test_an_odd_error_does_not_stop_it(worker_id: UUID, start: Start) -> None:
    """What the database refuses once is tried again: a heart that stops loses every run."""
    answers: list[Any] = [object()]
    beating = start(snapshot=lambda: (answers[-1], answers[-1]))
    wait_until(lambda: beating._backoff.failures)
    answers.append(0)
    assert beating.wait_fresh(10)


def test_a_busy_thread_does_not_starve_it(worker_id: UUID, start: Start) -> None:
    """C099: a step that computes without pause lets the lease be renewed."""
    beating = start()
    assert beating.wait_fresh(10)
    ended = threading.Event()

    def compute() -> None:
        while not ended.is_set():
            sum(range(10_000))

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        for _ in range(10):
            _rises(worker_id, by=1)
            assert beating.is_fresh()
    finally:
        ended.set()
        thread.join()


def test_a_file_that_cannot_be_touched_costs_no_beat(worker_id: UUID, start: Start, tmp_path: Path) -> None:
    """The file is for probes; the lease is what counts."""
    start(file=tmp_path / "no such folder" / "alive")
    _rises(worker_id)


@pytest.mark.once
def test_its_clock_passes_under_a_frozen_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that froze time does not keep a lease fresh for ever."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("this system has no such clock")
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    before = clock()
    wait_until(lambda: clock() > before)
