"""The committer: what a thread hands in is answered, whatever the background thread did meanwhile."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any
from uuid import UUID

import pytest

from canx_flow import clock
from canx_flow.changes import Change, Outcome, Record
from canx_flow.models import StepRecord, WorkflowRun
from canx_flow.store import leases, writes
from canx_flow.store.committer import Committer
from tests.waiting import wait_until

from .locking import locked_runs


@pytest.mark.django_db(transaction=True)
def test_a_locked_run_is_stored_though_the_background_thread_had_gone_to_sleep(
    tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that is on its way when the background thread finds nothing to do, and comes back busy, is not lost."""
    if tier == "sqlite":
        pytest.skip("there is one writer at a time: no single row is locked")
    owner = leases.register(host="here", pid=1).id
    run = WorkflowRun.objects.create(workflow="w", state="running", ready=False, owner_id=owner, epoch=1)
    committer = Committer("default", owner)
    real = writes.write
    writing = threading.Event()

    def slow(*arguments: Any) -> list[Outcome]:
        monkeypatch.setattr(writes, "write", real)
        writing.set()
        wait_until(lambda: not committer._armed)
        return real(*arguments)

    monkeypatch.setattr(writes, "write", slow)
    with locked_runs([run.id]):
        pending = committer.store(Change(run.id, 1, inserts=[_record("a")]))
        waiting = threading.Thread(target=pending.wait, daemon=True)
        waiting.start()
        assert writing.wait(10)
        committer.start()
        assert wait_until(lambda: pending.held)
    try:
        assert wait_until(lambda: pending.outcome).stored
    finally:
        waiting.join(10)
        committer.stop()


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of changes in each batch that is written from now on."""
    found: list[int] = []
    real = writes.write

    def counted(*arguments: Any) -> list[Outcome]:
        found.append(len(arguments[-1]))
        return real(*arguments)

    monkeypatch.setattr(writes, "write", counted)
    return found


def _record(name: str) -> Record:
    now = clock.now()
    return Record(1, name, "step", "completed", 1, 1, "null", started_at=now, finished_at=now)


def _stored(committer: Committer, owner: UUID, count: int) -> None:
    """So many runs have one record each stored, all handed in before the first is written."""
    runs = [WorkflowRun(workflow="w", state="running", ready=False, owner_id=owner, epoch=1) for _ in range(count)]
    WorkflowRun.objects.bulk_create(runs)
    changes = [Change(run.id, 1, inserts=[_record("a")]) for run in runs]
    tickets = [committer.store(change) for change in changes]
    assert all(ticket.wait().stored for ticket in tickets)
    assert StepRecord.objects.filter(run__in=runs).count() == count
    committer.start()
    committer.stop()


@pytest.mark.django_db(transaction=True)
def test_an_idle_connection_takes_what_waits_in_small_groups(sizes: list[int]) -> None:
    """Runs that were committed together go on together: while there is time, they are not all committed together."""
    owner = leases.register(host="here", pid=1).id
    _stored(Committer("default", owner), owner, 48)
    assert len(sizes) >= 2
    assert sizes[0] == 16


@pytest.mark.django_db(transaction=True)
def test_a_busy_connection_takes_more_and_more_at_once(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each commit takes long, there are few of them: the groups grow as the connection has no time left."""
    owner = leases.register(host="here", pid=1).id
    counted = writes.write

    def slow(*arguments: Any) -> list[Outcome]:
        time.sleep(0.03)  # A disk far away.
        return counted(*arguments)

    monkeypatch.setattr(writes, "write", slow)
    _stored(Committer("default", owner), owner, 400)
    assert max(sizes) > 64
    assert len(sizes) <= 16


@pytest.mark.django_db(transaction=True)
def test_runs_that_somebody_has_locked_cost_their_neighbours_one_look_a_tick(
    tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many they are and however often others commit, one look asks about all of them."""
    if tier == "sqlite":
        pytest.skip("there is one writer at a time: no single row is locked")
    owner = leases.register(host="here", pid=1).id
    runs = [WorkflowRun(workflow="w", state="running", ready=False, owner_id=owner, epoch=1) for _ in range(11)]
    free, *others = WorkflowRun.objects.bulk_create(runs)
    looks: list[int] = []
    real = writes._why_missed

    def counted(*arguments: Any) -> Any:
        looks.append(len(arguments[-1]))
        return real(*arguments)

    monkeypatch.setattr(writes, "_why_missed", counted)
    committer = Committer("default", owner)
    committer.start()

    async def neighbour() -> None:
        for number in range(100):
            assert (await committer.store(Change(free.id, 1, inserts=[_record(str(number))])).wait_async()).stored

    with locked_runs([run.id for run in others]):
        began = time.monotonic()
        waiting = [committer.store(Change(run.id, 1, inserts=[_record("a")])) for run in others]
        asyncio.run(neighbour())
        ticks = (time.monotonic() - began) / 0.01
        assert 0 < len(looks) <= ticks + 3
        assert max(looks) == 10
    assert all(pending.wait().stored for pending in waiting)
    committer.stop()
