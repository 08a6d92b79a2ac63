"""A worker behind PgBouncer: what it must be told, and what it leaves behind on sessions that others share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import psycopg
import pytest
from django.db import connection

from canx_flow import get_run

from ..processes import Workers
from ..waiting import wait_until
from ..workflows import chaos, sums, two_steps
from .poolers import PgBouncer

TOLD = '{"DISABLE_SERVER_SIDE_CURSORS": true}'
Pooler = Callable[..., PgBouncer]


@pytest.fixture
def pooler(tier: str, transactional_db: None) -> Iterator[Pooler]:
    """Starts a PgBouncer in this mode; none survives the test."""
    if tier != "postgresql":
        pytest.skip("PgBouncer is PostgreSQL's")
    if PgBouncer.binary() is None:
        # A developer may do without; what decides over a change must not leave this out.
        leave_out = pytest.fail if os.environ.get("CI") else pytest.skip
        leave_out("pgbouncer is not installed here")
    started: list[PgBouncer] = []

    def start(*options: Any) -> PgBouncer:
        started.append(PgBouncer(*options))
        return started[-1]

    yield start
    for each in started:
        each.stop()


def _seqscan(pooler: PgBouncer, sessions: int = 5) -> set[str]:
    """What transactions that are open side by side see, each on another session."""
    with ExitStack() as stack:
        opened = [stack.enter_context(psycopg.connect(pooler.url)) for _ in range(sessions)]
        return {row[0] for each in opened for row in each.execute("SHOW enable_seqscan")}


def test_a_shared_session_that_we_are_not_told_of_is_refused(pooler: Pooler, workers: Workers) -> None:
    """Exit 1, and one line that names the setting; nothing is set on what others use."""
    bouncer = pooler("transaction")
    worker = workers.start(env={"DATABASE_URL": bouncer.url}, banner=False)
    assert worker.wait() == 1
    [line] = [line for line in worker.log().splitlines() if line.strip()]
    assert "DISABLE_SERVER_SIDE_CURSORS" in line
    assert "pool_mode = transaction" in line
    assert _seqscan(bouncer) == {"on"}


def test_it_is_refused_while_others_use_the_pool_too(pooler: Pooler, workers: Workers) -> None:
    """Which session the pooler gives out next depends on them; the parent of several workers refuses for all."""
    bouncer = pooler("transaction")
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(psycopg.connect(bouncer.url)).execute("SELECT 1")
        worker = workers.start("--processes", "2", env={"DATABASE_URL": bouncer.url}, banner=False)
        assert worker.wait() == 1
    assert "DISABLE_SERVER_SIDE_CURSORS" in worker.log()


def test_told_of_it_a_worker_works_and_leaves_nothing_behind(pooler: Pooler, workers: Workers) -> None:
    """Records, atomic steps and timers, with nothing prepared and nothing set on sessions that others use."""
    bouncer = pooler("transaction")
    worker = workers.start(env={"DATABASE_URL": bouncer.url, "DATABASE_SETTINGS": TOLD})
    runs = [chaos.start(f"c{n}") for n in range(5)] + [sums.start(f"s{n}", 3) for n in range(5)]
    wait_until(lambda: {get_run(run_id).state for run_id in runs} == {"completed"}, message=worker.log())
    assert _seqscan(bouncer) == {"on"}
    worker.terminate()
    assert worker.wait() == 0
    assert "ERROR" not in worker.log()


def test_in_session_mode_nothing_need_be_told(pooler: Pooler, workers: Workers) -> None:
    """Each connection has a session of its own there, which is set up like any other."""
    bouncer = pooler("session")
    worker = workers.start(env={"DATABASE_URL": bouncer.url})
    run_id = sums.start("s", 3)
    wait_until(lambda: sums.status(run_id).state == "completed", message=worker.log())
    worker.terminate()
    assert worker.wait() == 0
    assert "ERROR" not in worker.log()


@pytest.mark.usefixtures("short_lease")
def test_a_full_pool_has_room_for_a_worker_that_connects_anew(
    pooler: Pooler, workers: Workers, effects: ModuleType
) -> None:
    """Whether sessions are shared is found out once, at the start: that takes one more than a worker has."""
    engine = 4
    bouncer = pooler("session", engine + 2)
    worker = workers.start(env={"DATABASE_URL": bouncer.url})
    before = two_steps.start("before")
    wait_until(lambda: two_steps.status(before).state == "completed", message=worker.log())
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(psycopg.connect(bouncer.url)).execute("SELECT 'of another client'")
        assert _end_sessions() == engine
        after = two_steps.start("after")
        wait_until(lambda: two_steps.status(after).state == "completed", message="the worker stands still")


def _end_sessions() -> int:
    """End all sessions of the database but this test's own and those of other clients; how many that were."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND query NOT LIKE '%of another client%'"
        )
        return int(cursor.fetchone()[0])
