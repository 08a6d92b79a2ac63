"""The worker as the first process of a container, in a PID namespace of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from ...management.test_runflowworker import NO_DATABASE
from ...processes import WorkerProcess, Workers
from ...waiting import wait_until
from ...workflows import held, orphans

UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    if shutil.which("unshare") is None or subprocess.run([*UNSHARE, "true"], check=False).returncode:
        pytest.skip("this user may make no PID namespace")


def _children(pid: int) -> list[int]:
    """PIDs of its children, the dead ones that were not reaped included."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _first(worker: WorkerProcess) -> int:
    """The PID, out here, of the namespace's first process."""
    return wait_until(lambda: _children(worker.pid))[0]


def _contained(workers: Workers, *options: str) -> WorkerProcess:
    return workers.new().start(*options, within=UNSHARE)


@pytest.mark.parametrize("options", [(), ("--processes", "2")], ids=["one", "processes"])
def test_orphans_are_reaped_and_a_steps_own_child_is_not(workers: Workers, options: tuple[str, ...]) -> None:
    """What outlives its parent becomes no zombie, and a step gets the exit status of what it waits for."""
    worker = _contained(workers, *options)
    run = orphans.start(10)
    assert orphans.result(run, timeout=30) == [7] * 10
    first = _first(worker)
    wait_until(lambda: len(_children(first)) == 1, message="zombies are left")
    os.kill(first, signal.SIGTERM)
    assert worker.wait() == 0


def test_a_term_is_heard_before_the_command_has_begun(workers: Workers) -> None:
    """From when PID 1 has loaded the app on, the kernel drops no signal: here Django is not set up yet."""
    worker = workers.new().start(within=UNSHARE, banner=False)
    first = _first(worker)
    wait_until(lambda: b"init.py" in Path(f"/proc/{first}/cmdline").read_bytes())
    os.kill(first, signal.SIGTERM)
    assert worker.wait(10) in (0, 128 + signal.SIGTERM)


def test_a_term_is_heard_while_it_waits_for_its_database(workers: Workers, tier: str) -> None:
    """A worker whose database is away at its start leaves with 0 when its container is stopped."""
    away = {"DATABASE_URL": NO_DATABASE[tier]}
    worker = workers.new().start(within=UNSHARE, banner=False, env=away).wait_log("database is away")
    os.kill(_first(worker), signal.SIGTERM)
    assert worker.wait(10) == 0


def test_every_signal_is_handed_on(workers: Workers, effects: ModuleType) -> None:
    """The first lets the step finish, the second leaves now; the container ends with the worker's own status."""
    worker = _contained(workers)
    held.start("x")
    wait_until(lambda: effects.count("at x"))
    os.kill(_first(worker), signal.SIGINT)
    worker.wait_log("was told to stop and waits")
    os.kill(_first(worker), signal.SIGTERM)
    assert worker.wait(10) == 3


def test_wrong_arguments_end_the_container_with_2(workers: Workers) -> None:
    """The exit status is the command's."""
    worker = workers.new().start("--concurrency", "0", within=UNSHARE, banner=False)
    assert worker.wait() == 2
