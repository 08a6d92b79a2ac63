"""The fixtures `worker` and `workers`: real processes, on the database that the test sees."""

from __future__ import annotations

from types import ModuleType

import pytest

from .processes import WorkerProcess, Workers
from .waiting import wait_until
from .workflows import plain_looking, two_steps


def test_a_real_worker_runs_what_the_test_starts(worker: WorkerProcess, effects: ModuleType) -> None:
    """A worker process sees the test's runs, the test sees its results, and SIGTERM ends it cleanly."""
    worker.start("--name", "bob")
    run_id = two_steps.start("a")
    assert two_steps.result(run_id, timeout=20) == "a"
    assert effects.read() == ["a first", "a second"]
    worker.terminate()
    assert worker.wait() == 0, worker.log()


def test_a_frozen_worker_does_nothing_until_it_is_continued(worker: WorkerProcess, effects: ModuleType) -> None:
    """`stop` returns when the process stands still; `cont` lets it go on."""
    worker.start().stop()
    run_id = two_steps.start("a")
    assert effects.read() == []
    worker.cont()
    wait_until(lambda: two_steps.status(run_id).state == "completed")


def test_a_worker_that_cannot_start_says_why(workers: Workers) -> None:
    """`start` fails with the worker's own output when it leaves before its banner."""
    with pytest.raises(AssertionError, match=r"(?s)left with 2:.*--concurrency must be from 1 to"):
        workers.start("--concurrency", "0")


def test_a_killed_worker_is_gone(workers: Workers) -> None:
    """`kill` returns when the process has ended by SIGKILL; its neighbour lives."""
    killed, neighbour = workers.start_many(2)
    assert killed.kill() == -9
    assert (killed.alive, neighbour.alive) == (False, True)


def test_a_worker_awaits_what_a_plain_looking_workflow_returns(worker: WorkerProcess, effects: ModuleType) -> None:
    """It learns that from the first run, and hands that back to itself: each body runs once, in the event loop."""
    worker.start()
    run_ids = [plain_looking.start(label) for label in ("a", "b")]
    assert [plain_looking.result(run_id, timeout=20) for run_id in run_ids] == ["a", "b"]
    assert sorted(effects.read()) == ["a first", "a second", "b first", "b second"]
    worker.terminate()
    assert worker.wait() == 0, worker.log()
    assert "never awaited" not in worker.log()
