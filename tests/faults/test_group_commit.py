"""Group commit, counted by the database; and a batch with a row in it that cannot be stored."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from django.db import connection

from canx_flow import RunFailed
from canx_flow.core import clock
from canx_flow.models import StepRecord, Timer, WorkflowRun

from .. import workflows
from ..processes import Workers
from ..waiting import wait_until
from .servers import Server

RUNS, STEPS = 96, 50


def _commits() -> int:
    """How many transactions this server has committed that wrote something, as far as it tells them apart.

    PostgreSQL counts those that only read, too: more than asked for. A session's last count arrives when it ends.
    MariaDB: COMMIT statements; what commits by itself here is a heartbeat or a look.
    """
    statement = {
        "postgresql": "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()",
        "mysql": "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'COM_COMMIT'",
    }[connection.vendor]
    wait_until(lambda: _other_sessions() == 0, message="the worker's sessions have not ended")
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return int(cursor.fetchone()[0])


def _other_sessions() -> int:
    statement = {
        "postgresql": (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        ),
        "mysql": "SELECT count(*) FROM information_schema.processlist WHERE db = database() AND id <> connection_id()",
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return int(cursor.fetchone()[0])


@pytest.mark.parametrize("kind", [workflows.counts, workflows.acounts], ids=["sync", "async"])
def test_32_runs_in_flight_share_their_commits(own_server: Server, workers: Workers, kind: Any) -> None:
    """Fewer than 0.1 commits per step, counted by the database."""
    runs = kind.start_many((STEPS,) for _ in range(RUNS))
    before = _commits()
    assert workers.start("--concurrency", "32", "--burst", banner=False).wait(60) == 0
    commits = _commits() - before
    assert WorkflowRun.objects.filter(id__in=runs, state="completed", result=str(STEPS)).count() == RUNS
    assert StepRecord.objects.count() == RUNS * STEPS
    print(f"{commits / (RUNS * STEPS):.3f} commits per step")
    assert 0 < commits < 0.1 * RUNS * STEPS


@pytest.mark.parametrize("kind", [workflows.held, workflows.aheld], ids=["sync", "async"])
def test_a_bad_row_in_a_batch_fails_only_its_run(workers: Workers, effects: ModuleType, kind: Any) -> None:
    """Many results are stored together and one of them is refused by the database: its run fails with that error."""
    labels = [f"r{number}" for number in range(16)]
    runs = {label: kind.start(label) for label in labels}
    workers.start()
    wait_until(lambda: all(effects.count(f"at {label}") for label in labels))
    # Another's record stands where this run's result is to be written.
    StepRecord.objects.create(
        run_id=runs["r7"], seq=99, name="held", kind="step", state="completed", epoch=99, started_at=clock.now()
    )
    for label in labels:
        effects.release(label)
    with pytest.raises(RunFailed, match="IntegrityError"):
        kind.result(runs.pop("r7"), timeout=20)
    for label, run in runs.items():
        assert kind.result(run, timeout=20) == label
        assert [effects.count(f"{label} {step}") for step in ("before", "held", "after")] == [1, 1, 1]
    assert effects.count("r7 after") == 0


def test_a_value_that_its_column_cannot_hold_is_no_outage(
    own_server: Server, workers: Workers, effects: ModuleType, tier: str
) -> None:
    """MySQL's driver reports it as it reports a lost connection: waiting for that would stop everybody for ever."""
    if tier != "mysql":
        pytest.skip("other databases have one character set for all")
    _set_charset("latin1")
    try:
        run = workflows.redeployed.start("x")
        workers.start()
        wait_until(lambda: workflows.redeployed.status(run).state == "sleeping")
        effects.append("deployed x")
        assert workflows.redeployed.wake(run)  # To be parked, with a reason that names the step.
        with pytest.raises(RunFailed, match="1366"):
            workflows.redeployed.result(run, timeout=20)
        assert workflows.two_steps.result(workflows.two_steps.start("next"), timeout=20) == "next"
    finally:
        _set_charset("utf8mb4")


def _set_charset(charset: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE canx_flow_workflowrun MODIFY reason LONGTEXT CHARACTER SET {charset} NOT NULL")


def test_what_follows_a_bad_row_is_not_stored_either(workers: Workers, effects: ModuleType) -> None:
    """The body had gone on to its sleep when the row was refused: the run fails, and does not sleep on without it."""
    run = workflows.held_then_sleeps.start("x")
    workers.start()
    wait_until(lambda: effects.count("at x"))
    StepRecord.objects.create(
        run_id=run, seq=99, name="held", kind="step", state="completed", epoch=99, started_at=clock.now()
    )
    effects.release("x")
    with pytest.raises(RunFailed, match="IntegrityError"):
        workflows.held_then_sleeps.result(run, timeout=20)
    assert effects.count("x held") == 1
    assert not Timer.objects.filter(run_id=run).exists()
