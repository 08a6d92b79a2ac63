"""The committer: what a thread hands in is answered, whatever the background thread did meanwhile."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connections, transaction

from canx_flow import clock
from canx_flow.changes import Change, Outcome, Record
from canx_flow.models import WorkflowRun
from canx_flow.store import leases, writes
from canx_flow.store.committer import Committer
from tests.waiting import wait_until


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
    locked, release = threading.Event(), threading.Event()

    def lock() -> None:
        with transaction.atomic():
            WorkflowRun.objects.select_for_update().get(id=run.id)
            locked.set()
            release.wait(30)
        connections.close_all()

    rival = threading.Thread(target=lock)
    rival.start()
    assert locked.wait(10)
    now = clock.now()
    record = Record(1, "a", "step", "completed", 1, 1, "null", started_at=now, finished_at=now)
    pending = committer.store(Change(run.id, 1, inserts=[record]))
    waiting = threading.Thread(target=pending.wait, daemon=True)
    waiting.start()
    assert writing.wait(10)
    committer.start()
    try:
        assert wait_until(lambda: pending.held)
        release.set()
        assert wait_until(lambda: pending.outcome).stored
    finally:
        release.set()
        rival.join()
        waiting.join(10)
        committer.stop()
