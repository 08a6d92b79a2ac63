"""What a worker answers to its drivers."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from canx_flow.worker.lease import Lease
from canx_flow.worker.port import WorkerLease, WorkerThreads
from canx_flow.worker.threads import StepThreads

from ..waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def test_c152_a_slot_that_waits_for_the_lease_keeps_no_connection() -> None:
    """C152: where the database has no more connections, the heartbeat gets the one that the slot has had."""
    beats = Lease(60)
    heartbeat: Any = beats
    kept: list[BaseDatabaseWrapper] = []
    answers: list[bool] = []

    def wait() -> None:
        try:
            connections["default"].ensure_connection()
            kept.append(connections["default"])
            answers.append(WorkerLease(heartbeat).wait_fresh())
        finally:
            connections.close_all()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        wait_until(lambda: kept)
        wait_until(lambda: kept[0].connection is None)
        assert answers == []
        beats.last_beat = float("inf")
    finally:
        beats.end()
        thread.join(10)
    assert answers == [True]


def test_async_runs_that_ask_at_one_moment_share_a_few_connections() -> None:
    """Hundreds of them may come to a wait at once: the database has not that many connections."""
    threads = StepThreads(lambda: None)
    asked: set[int] = set()

    def ask() -> None:
        asked.add(threading.get_ident())
        time.sleep(0.001)

    async def come_to_a_wait() -> None:
        port = WorkerThreads(threads)
        await asyncio.gather(*(port.ask_beside(ask) for _ in range(100)))

    try:
        asyncio.run(come_to_a_wait())
    finally:
        threads.close()
    assert len(asked) < 20  # Four at a time; the next one may come before a thread has gone back to its place.
