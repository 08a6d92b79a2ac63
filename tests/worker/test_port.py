"""What a worker answers to its drivers."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from canx_flow.worker.lease import Lease
from canx_flow.worker.port import WorkerLease

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
