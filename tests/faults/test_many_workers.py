"""Several workers on one database: every step of every run once, whoever comes, goes, is slow or has the same name."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterable
from types import ModuleType
from uuid import UUID

import pytest
from django.db.models import QuerySet

from canx_flow.models import StepRecord, Worker, WorkflowRun
from canx_flow.states import WorkerState

from .. import workflows
from ..processes import Workers
from ..waiting import wait_until
from .conftest import LEASE

STEPS = 5
SUM = 15


def _labels(number: int) -> list[str]:
    return [f"r{index}" for index in range(number)]


def _start(labels: Iterable[str]) -> list[UUID]:
    """A run for each label: half of them sync, half async."""
    labels = list(labels)
    half = len(labels) // 2
    return workflows.sums.start_many((label, STEPS) for label in labels[:half]) + workflows.asums.start_many(
        (label, STEPS) for label in labels[half:]
    )


def _wait_completed(runs: list[UUID], timeout: float = 120) -> None:
    rows = WorkflowRun.objects.filter(id__in=runs)
    wait_until(lambda: not rows.exclude(state="completed").exists(), timeout, message="not all runs have completed")


def _assert_right(runs: list[UUID]) -> None:
    rows = WorkflowRun.objects.filter(id__in=runs)
    assert Counter(rows.values_list("state", "result", "owner_id")) == {("completed", str(SUM), None): len(runs)}
    assert StepRecord.objects.filter(run_id__in=runs, state="completed").count() == len(runs) * STEPS


def _steps(labels: Iterable[str]) -> Counter[str]:
    return Counter(f"{label} {number}" for label in labels for number in range(1, STEPS + 1))


def _alive() -> QuerySet[Worker]:
    return Worker.objects.filter(state=WorkerState.ALIVE)


@pytest.mark.parametrize("number", [2, 4, 8])
def test_every_step_runs_once_on_many_workers(workers: Workers, effects: ModuleType, number: int) -> None:
    """Hundreds of runs, several workers that claim against each other: each step once, each result right."""
    workers.start_many(number, "--concurrency", "4")
    labels = _labels(300)
    runs = _start(labels)
    _wait_completed(runs)
    _assert_right(runs)
    assert Counter(effects.read()) == _steps(labels)
    assert not [worker.log() for worker in workers.all if "refused" in worker.log()]


def test_every_step_runs_once_in_several_processes(workers: Workers, effects: ModuleType) -> None:
    """--processes 2 is two workers: the same."""
    worker = workers.start("--processes", "2")
    wait_until(lambda: _alive().count() == 2)
    labels = _labels(200)
    runs = _start(labels)
    _wait_completed(runs)
    _assert_right(runs)
    assert Counter(effects.read()) == _steps(labels)
    worker.terminate()
    assert worker.wait() == 0


def test_c106_workers_killed_among_hundreds_of_runs(workers: Workers, effects: ModuleType) -> None:
    """C106 in small: two of three workers are killed on the way; every run has the right result, every step ran."""
    several = workers.start_many(3, "--concurrency", "8")
    labels = _labels(200)
    runs = _start(labels)
    for worker in several[:2]:
        done = len(effects.read())
        wait_until(lambda done=done: len(effects.read()) > done + 50)
        worker.kill()
    _wait_completed(runs)
    _assert_right(runs)
    assert _steps(labels) <= Counter(effects.read())


@pytest.mark.parametrize("kind", ["waiting", "busy"])
def test_p6_c099_a_step_of_three_leases_runs_once(
    short_lease: None, workers: Workers, effects: ModuleType, kind: str
) -> None:
    """P6, C099: however long a step takes, its worker keeps the lease, also while it uses the processor all along."""
    workers.start_many(2)
    run = workflows.long.start("x", kind, 3 * LEASE)
    assert workflows.long.result(run, timeout=40) == "x"
    assert (effects.count("x long"), effects.count("x after")) == (1, 1)
    row = WorkflowRun.objects.get(id=run)
    assert (row.epoch, row.recoveries) == (1, 0)
    assert _alive().count() == 2


def test_c101_a_rolling_restart_under_one_name(workers: Workers, effects: ModuleType) -> None:
    """C101: the new worker has the old one's name and starts before that leaves: nothing runs twice or is stranded."""
    held = workflows.held.start("x")
    old = workers.start("--name", "blue", "--concurrency", "4")
    wait_until(lambda: effects.count("at x"))
    labels = _labels(100)
    runs = _start(labels)
    wait_until(lambda: len(effects.read()) > 50)
    new = workers.start("--name", "blue", "--concurrency", "4")
    wait_until(lambda: _alive().filter(name="blue").count() == 2)
    old.terminate()
    effects.release("x")
    assert old.wait() == 0
    _wait_completed(runs)
    assert workflows.held.result(held, timeout=20) == "x"
    _assert_right(runs)
    assert Counter(line for line in effects.read() if line.startswith("r")) == _steps(labels)
    assert [effects.count(f"x {step}") for step in ("before", "held", "after")] == [1, 1, 1]
    assert (list(_alive().values_list("pid", flat=True)), new.alive) == ([new.pid], True)


def test_p17_workers_that_cannot_see_each_others_processes(
    short_lease: None, workers: Workers, effects: ModuleType
) -> None:
    """P17: one hostname and two PID namespaces, as two containers have: neither judges the other by its PID."""
    if not _can_unshare():
        pytest.skip("this user may make no PID namespace")
    contained = workers.new().start("--queue", "contained", within=UNSHARE)
    workers.start("--queue", "outside")
    runs = {queue: workflows.held.using(queue=queue).start(queue) for queue in ("contained", "outside")}
    wait_until(lambda: all(effects.count(f"at {queue}") for queue in runs))
    rows = list(_alive().order_by("started_at"))
    assert [row.host for row in rows] == [socket.gethostname()] * 2
    assert rows[0].pid != contained.pid  # Its PID is that of another process out here.
    assert rows[0].pid_namespace != rows[1].pid_namespace
    beats = {row.id: row.beat for row in rows}
    # Six beats make a lease: each has looked at the other for three.
    wait_until(lambda: all(row.beat > beats[row.id] + 18 for row in _alive()) and _alive().count() == 2)
    for queue, run in runs.items():
        assert WorkflowRun.objects.get(id=run).epoch == 1
        effects.release(queue)
        assert workflows.held.result(run, timeout=20) == queue
        assert effects.count(f"{queue} held") == 1


UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


def _can_unshare() -> bool:
    return shutil.which("unshare") is not None and subprocess.run([*UNSHARE, "true"], check=False).returncode == 0
