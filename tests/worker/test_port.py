"""What a worker answers to its drivers."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connections

from canx_flow.worker.lease import Lease
from canx_flow.worker.port import WorkerLease

from ..waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def test_c152_a_slot_that_waits_for_the_lease_keeps_no_connection() -> None:
    """C152: where the database has no more connections, the heartbeat gets the one that the slot has had."""
    beats = Lease(3)
    heartbeat: Any = beats
    connected: list[bool] = []

    def wait() -> None:
        connections["default"].ensure_connection()
        connected.append(connections["default"].connection is not None)
        WorkerLease(heartbeat).wait_fresh()
        connected.append(connections["default"].connection is not None)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: connected)
    beats.end()
    thread.join(10)
    assert connected == [True, False]
