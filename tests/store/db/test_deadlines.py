"""A statement that gets no answer costs its connection, in bounded time, whatever the server or the wire does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections

from canx_flow.store.db import deadlines, engine, errors

from ...waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

_SLEEP = {"postgresql": "SELECT pg_sleep(30)", "mysql": "SELECT SLEEP(30)"}


@pytest.fixture
def connection(tier: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An engine connection that gives a statement half a second; its server would give it more."""
    if tier not in _SLEEP:
        pytest.skip("SQLite has no server")
    connection: Any = engine.open_connection("default")
    connection.ensure_connection()
    monkeypatch.setattr(connection.watch, "patience", 0.5)
    yield connection
    engine.reset(connection)


def test_a_statement_without_an_answer_ends_its_connection(
    connection: Any, tier: str, caplog: pytest.LogCaptureFixture
) -> None:
    """To its thread that is an outage; it is said why, and the next statement has a new connection."""
    with pytest.raises(Exception) as caught, connection.cursor() as cursor:  # noqa: PT011 - asked next
        cursor.execute(_SLEEP[tier])
    assert errors.is_outage(caught.value), repr(caught.value)
    wait_until(lambda: "has had no answer" in caplog.text)
    engine.reset(connection)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


def test_many_short_statements_are_no_long_one(connection: Any) -> None:
    """What counts is each by itself: a busy connection is never cut."""
    raw = connection.connection
    ended = threading.Event()
    timer = threading.Timer(1.2, ended.set)
    timer.start()
    while not ended.is_set():
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    timer.join()
    assert connection.connection is raw


def test_who_wants_to_know_is_told_early(connection: Any, tier: str) -> None:
    """Once for each statement, long before the connection is given up, and a broken listener stops nothing."""
    told: list[float] = []

    def tell(seconds: float) -> None:
        told.append(seconds)
        raise ZeroDivisionError

    connection.watch.on_slow = tell
    with pytest.raises(Exception), connection.cursor() as cursor:  # noqa: B017, PT011 - as above
        cursor.execute(_SLEEP[tier])
    [seconds] = told
    assert 0 < seconds < 0.5


def test_closed_connections_leave_no_descriptor(tier: str, descriptors: Callable[[], int]) -> None:
    """Each watch has one of its own, which is given back with the connection."""
    if tier == "sqlite":
        pytest.skip("SQLite keeps its files open for as long as it likes")
    before = descriptors()
    for _ in range(3):
        connection = engine.open_connection("default")
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        engine.reset(connection)
        connection.close()
    assert descriptors() == before


@pytest.fixture
def descriptors() -> Callable[[], int]:
    """How many descriptors this process has open."""
    import os

    connections["default"].ensure_connection()
    return lambda: len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - as many as there are, and no paths


def test_a_statement_may_take_half_a_lease(settings: Any) -> None:
    """Within bounds: a short lease must not cut what a busy server would answer."""
    for lease, seconds in ((3, 5.0), (30, 15.0), (3600, 30.0)):
        settings.CANX_FLOW = {**settings.CANX_FLOW, "LEASE_SECONDS": lease}
        assert deadlines.patience() == seconds
