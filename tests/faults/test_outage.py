"""The database goes away under load: nothing is lost, nothing stored is done twice, and each worker keeps its runs."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from django.db import connections

from canx_flow.models import StepRecord, Worker, WorkflowRun
from canx_flow.states import WorkerState

from .. import workflows
from ..models import Effect
from ..processes import WorkerProcess, Workers
from ..waiting import wait_until
from .conftest import LEASE
from .servers import Server, Wire

STEPS, SUM = 20, 210
LABELS = [f"r{number}" for number in range(60)]

pytestmark = pytest.mark.usefixtures("short_lease")


def _under_load(workers: Workers, effects: ModuleType) -> list[UUID]:
    """Two workers in the middle of many runs: sync, async, and one of each that stands in a step."""
    half = len(LABELS) // 2
    runs = workflows.sums.start_many((label, STEPS) for label in LABELS[:half])
    runs += workflows.asums.start_many((label, STEPS) for label in LABELS[half:])
    workers.start_many(2, "--concurrency", "8")
    # One of them alone may get so far before the other one has registered.
    wait_until(lambda: Worker.objects.filter(state=WorkerState.ALIVE).count() == 2)
    wait_until(lambda: len(effects.read()) > len(LABELS))
    return runs


def _longer_than_the_lease() -> None:
    """Wait for two leases to pass: it is how long the outage is that matters here."""
    until = time.monotonic() + 2 * LEASE
    wait_until(lambda: time.monotonic() > until)


def _reconnect() -> None:
    connections["default"].close()


def _assert_kept_and_completed(workers: Workers, effects: ModuleType, runs: list[UUID]) -> None:
    """Every step ran once, on the worker that had claimed its run first; both workers are the ones they were."""
    rows = WorkflowRun.objects.filter(id__in=runs)
    wait_until(lambda: not rows.exclude(state="completed").exists(), 60, message="not all runs have completed")
    assert Counter(rows.values_list("result", "recoveries", "owner_id")) == {(str(SUM), 0, None): len(runs)}
    assert StepRecord.objects.filter(run_id__in=runs, state="completed").count() == len(runs) * STEPS
    assert Counter(effects.read()) == Counter(f"{label} {number}" for label in LABELS for number in range(1, STEPS + 1))
    assert Counter(Worker.objects.values_list("pid", "state")) == {
        (worker.pid, WorkerState.ALIVE): 1 for worker in workers.all
    }


def _assert_one_warning(worker: WorkerProcess) -> None:
    """One warning a minute, and the outage was shorter; and no traceback."""
    warnings = [line for line in worker.log().splitlines() if "database" in line and "canx_flow " not in line[:10]]
    assert len([line for line in warnings if "reaches the database again" not in line]) == 1, worker.log()
    assert "Traceback" not in worker.log()


@pytest.mark.parametrize("how", ["shut_down", "crash"])
def test_p16_a_server_that_stops_and_starts_under_load(
    own_server: Server, workers: Workers, effects: ModuleType, how: str
) -> None:
    """P16: after an outage of two leases each worker goes on with its own runs; every step was called once."""
    runs = _under_load(workers, effects)
    getattr(own_server, how)()
    _longer_than_the_lease()
    own_server.start()
    _reconnect()
    _assert_kept_and_completed(workers, effects, runs)
    for worker in workers.all:
        _assert_one_warning(worker)


def test_p16_a_server_that_hangs_under_load(own_server: Server, workers: Workers, effects: ModuleType) -> None:
    """P16: no answer and no error, for two leases: nobody is taken over."""
    runs = _under_load(workers, effects)
    own_server.freeze()
    _longer_than_the_lease()
    own_server.thaw()
    _assert_kept_and_completed(workers, effects, runs)


def test_p16_a_sqlite_file_that_somebody_keeps_locked(workers: Workers, effects: ModuleType, tier: str) -> None:
    """P16 on SQLite: another's write transaction stops all workers for two leases; then they go on."""
    if tier != "sqlite":
        pytest.skip("only SQLite has one lock for all")
    runs = _under_load(workers, effects)
    other = sqlite3.connect(connections["default"].settings_dict["NAME"], timeout=20, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    _longer_than_the_lease()
    other.execute("ROLLBACK")
    other.close()
    _assert_kept_and_completed(workers, effects, runs)


def test_a_sqlite_file_locked_for_longer_than_anybody_waits(workers: Workers, effects: ModuleType, tier: str) -> None:
    """Busy errors count as an outage, never as a failure."""
    if tier != "sqlite":
        pytest.skip("only SQLite has one lock for all")
    name = connections["default"].settings_dict["NAME"]
    run = workflows.held.start("x")
    worker = workers.start(env={"DATABASE_URL": f"sqlite:///{name}?timeout=1"})
    wait_until(lambda: effects.count("at x"))
    other = sqlite3.connect(name, timeout=20, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    effects.release("x")
    worker.wait_log("database is locked")
    _longer_than_the_lease()
    other.execute("ROLLBACK")
    other.close()
    assert workflows.held.result(run, timeout=20) == "x"
    assert [effects.count(f"x {step}") for step in ("before", "held", "after")] == [1, 1, 1]
    _assert_one_warning(worker)


def test_c100_a_restart_of_the_database_while_runs_are_recovered(
    own_server: Server, workers: Workers, effects: ModuleType
) -> None:
    """C100: one worker is killed and the server crashes at once: no run is stranded."""
    runs = _under_load(workers, effects)
    workers.all[0].kill()
    own_server.crash()
    own_server.start()
    _reconnect()
    rows = WorkflowRun.objects.filter(id__in=runs)
    wait_until(lambda: not rows.exclude(state="completed", result=str(SUM)).exists(), 60)
    assert {f"{label} {number}" for label in LABELS for number in range(1, STEPS + 1)} <= set(effects.read())


def test_a_step_that_ends_while_the_database_is_away_is_stored_later(
    own_server: Server, workers: Workers, effects: ModuleType
) -> None:
    """Its result waits in the worker; the function is not called again."""
    runs = {kind.start(label): (kind, label) for kind, label in ((workflows.held, "s"), (workflows.aheld, "a"))}
    workers.start()
    wait_until(lambda: effects.count("at s") and effects.count("at a"))
    own_server.crash()
    effects.release("s")
    effects.release("a")
    _longer_than_the_lease()
    assert (
        effects.count("s after") == effects.count("a after") == 0
    )  # Nothing is called before what it builds on is stored.
    own_server.start()
    _reconnect()
    for run, (kind, label) in runs.items():
        assert kind.result(run, timeout=20) == label
        assert [effects.count(f"{label} {step}") for step in ("before", "held", "after")] == [1, 1, 1]
        assert StepRecord.objects.get(run_id=run, name="held").attempts == 1


def test_an_atomic_step_that_cannot_commit_is_called_again(
    own_server: Server, workers: Workers, effects: ModuleType
) -> None:
    """Its own writes were lost with the connection; with the second attempt they exist once."""
    run = workflows.atomic_held.start("x")
    workers.start()
    wait_until(lambda: effects.count("at x"))
    own_server.crash()
    effects.release("x")
    own_server.start()
    _reconnect()
    assert workflows.atomic_held.result(run, timeout=20) == "x"
    assert Effect.objects.filter(name="x").count() == 1
    assert effects.count("x called") == 2


def test_c104_a_worker_leaves_in_time_while_the_database_is_away(
    own_server: Server, workers: Workers, effects: ModuleType
) -> None:
    """C104: TERM with a result that cannot be stored: it leaves with 3 after its grace time; the run goes on later."""
    run = workflows.held.start("x")
    worker = workers.start("--shutdown-timeout", "1")
    wait_until(lambda: effects.count("at x"))
    own_server.crash()
    effects.release("x")
    worker.terminate()
    assert worker.wait(10) == 3
    own_server.start()
    _reconnect()
    workers.start()
    assert workflows.held.result(run, timeout=20) == "x"
    assert [effects.count(f"x {step}") for step in ("before", "after")] == [1, 1]


def test_a_worker_told_to_leave_now_does_so_while_the_database_hangs(
    own_server: Server, workers: Workers, effects: ModuleType
) -> None:
    """The second signal is obeyed at once, though nothing answers any more; the lease lets others go on."""
    run = workflows.held.start("x")
    worker = workers.start()
    wait_until(lambda: effects.count("at x"))
    own_server.freeze()
    effects.release("x")
    worker.terminate()
    worker.interrupt()  # Two TERMs in a row would be one for the kernel.
    assert worker.wait(10) == 3
    own_server.thaw()
    workers.start()
    assert workflows.held.result(run, timeout=20) == "x"


# -- answers that are lost -------------------------------------------------------------------------


def _wired(workers: Workers, server: Server, wire: Wire) -> WorkerProcess:
    return workers.new().start(env={"DATABASE_URL": server.url_at(wire.port)})


def test_a_claim_whose_answer_is_lost_strands_no_run(
    own_server: Server, wire: Wire, workers: Workers, effects: ModuleType, tier: str
) -> None:
    """The server has given the runs to a worker that does not know it: the worker finds them, and they complete."""
    runs = {label: workflows.two_steps.start(label) for label in "abc"}
    wire.cut_after({"postgresql": b"picked AS MATERIALIZED", "mysql": b"epoch = epoch + 1"}[tier])
    worker = _wired(workers, own_server, wire)
    wait_until(wire.cut.is_set)
    for label, run in runs.items():
        assert workflows.two_steps.result(run, timeout=20) == label
    assert Counter(effects.read()) == Counter(f"{label} {step}" for label in runs for step in ("first", "second"))
    assert [row.state for row in Worker.objects.filter(pid=worker.pid)] == [WorkerState.ALIVE]
    assert set(WorkflowRun.objects.values_list("recoveries", flat=True)) == {0}


@pytest.mark.parametrize("kind", [workflows.held, workflows.aheld], ids=["sync", "async"])
def test_a_commit_whose_answer_is_lost_counts(
    own_server: Server, wire: Wire, workers: Workers, effects: ModuleType, kind: Any
) -> None:
    """The record is stored and its owner cannot know: it writes again, meets its own record, and goes on."""
    wire.cut_after(b"INSERT INTO canx_flow_steprecord")
    _wired(workers, own_server, wire)
    run = kind.start("x")
    effects.release("x")
    assert kind.result(run, timeout=20) == "x"
    assert wire.cut.is_set()
    assert [effects.count(f"x {step}") for step in ("before", "held", "after")] == [1, 1, 1]


def test_a_suspension_whose_answer_is_lost_counts(
    own_server: Server, wire: Wire, workers: Workers, effects: ModuleType
) -> None:
    """The run sleeps, and its owner cannot know: it lets go, and the run wakes as if nothing had been."""
    wire.cut_after(b"'sleeping'")
    worker = _wired(workers, own_server, wire)
    run = workflows.naps.start("x", 1)
    assert workflows.naps.result(run, timeout=20) == "x"
    assert wire.cut.is_set()
    assert [effects.count(f"x {step}") for step in ("before", "after")] == [1, 1]
    assert StepRecord.objects.filter(run_id=run).count() == 3
    assert "Traceback" not in worker.log()


def test_p16_a_server_that_takes_no_writes_for_a_while(
    own_server: Server, workers: Workers, effects: ModuleType, tier: str
) -> None:
    """P16: a primary that has become a standby is an outage like another, not the end of every run in flight."""
    if tier != "postgresql":
        pytest.skip("elsewhere the drivers call it an operational error, like every outage")
    name = connections["default"].settings_dict["NAME"]
    runs = _under_load(workers, effects)

    def only_reads(value: str) -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
            cursor.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}')
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
                [name],
            )
        _reconnect()

    only_reads("on")
    _longer_than_the_lease()
    only_reads("off")
    _assert_kept_and_completed(workers, effects, runs)
