"""P18: a database that fails under a workflow's body is an outage, not a failure of the run; but not for ever."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.db import connections
from pytest_django import Settings

from canx_flow import RunFailed
from canx_flow.models import Timer, WorkflowRun

from .. import workflows
from ..processes import Workers
from ..waiting import wait_until
from .servers import Server

#: The workers' database "other" is a file of the test's own.
TABLE = "CREATE TABLE a_table_of_tests (n INTEGER)"


@pytest.mark.parametrize("kind", [workflows.reads_in_its_body, workflows.areads_in_its_body], ids=["sync", "async"])
def test_p18_a_read_in_the_body_that_meets_a_failover_is_tried_again(
    own_server: Server, workers: Workers, effects: ModuleType, kind: Any
) -> None:
    """P18: the server crashes under the read; the run is handed back and completes, its steps done once."""
    run = kind.start("x")
    worker = workers.start()
    wait_until(lambda: effects.count("at x"))
    own_server.crash()
    effects.release("x")
    worker.wait_log("database")
    own_server.start()
    connections["default"].close()
    assert kind.result(run, timeout=30) == 0
    assert (effects.count("x before"), effects.count("x after")) == (1, 1)
    assert effects.count("at x") > 1
    row = WorkflowRun.objects.get(id=run)
    assert (row.recoveries, row.outages, row.reason) == (0, 0, "")


@pytest.fixture
def other(workers: Workers, tmp_path: Path, settings: Settings) -> Iterator[sqlite3.Connection]:
    """Starts a worker whose database "other" is an empty file; the connection to that."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "MAX_RECOVERIES": 2}
    file = tmp_path / "other.sqlite3"
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    workers.start(env={"OTHER_DATABASE_URL": f"sqlite:///{file}"})
    yield connection
    connection.close()


def test_p18_an_outage_of_another_database_is_waited_for(other: sqlite3.Connection, effects: ModuleType) -> None:
    """P18: the run is shown as retrying, with the reason and the moment, and goes on when the other is back."""
    run = workflows.reads_elsewhere.start("x")
    wait_until(lambda: workflows.reads_elsewhere.status(run).state == "retrying")
    status = workflows.reads_elsewhere.status(run)
    assert (status.reason, status.error) == ("OperationalError in the body: tried again", None)
    assert [wait.kind for wait in status.waits] == ["outage"]
    other.execute(TABLE)
    other.execute("INSERT INTO a_table_of_tests VALUES (7)")
    assert workflows.reads_elsewhere.result(run, timeout=30) == 7
    assert (effects.count("x before"), effects.count("x after")) == (1, 1)


def test_p18_what_never_comes_back_fails_the_run(other: sqlite3.Connection, effects: ModuleType) -> None:
    """P18: after MAX_RECOVERIES hand-backs without a new record, while the worker's own connection works, it fails."""
    run = workflows.reads_elsewhere.start("x")
    with pytest.raises(RunFailed, match="OperationalError"):
        workflows.reads_elsewhere.result(run, timeout=30)
    assert effects.count("x asks") == 3
    assert effects.count("x before") == 1
    assert not Timer.objects.filter(run_id=run).exists()
