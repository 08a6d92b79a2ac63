"""Whether a process is gone, asked of real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from canx_flow.models import Worker
from canx_flow.store import host

from ..processes import ROOT
from ..waiting import wait_until

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not host.identify().boot_id, reason="this system has no /proc to look processes up in"),
]

WHO_AM_I = """
import dataclasses, json
from django.conf import settings
settings.configure(INSTALLED_APPS=["canx_flow"], USE_TZ=True)
import django
django.setup()
from canx_flow.store import host
print(json.dumps(dataclasses.asdict(host.identify())))
"""


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose name looks like the rest of a line of /proc/…/stat."""
    name = tmp_path / "a ) R 1 1 ("
    name.symlink_to("/bin/sleep")
    process = subprocess.Popen([name, "600"])
    wait_until(lambda: Path(f"/proc/{process.pid}/comm").read_text().startswith("a ) R"))
    yield process
    process.kill()
    process.wait()


def _row(running: int, **more: Any) -> Worker:
    """The row of a worker of this machine, as it registered when it ran under this PID."""
    process = host._look_up(str(running))
    assert process is not None
    identity = replace(host.identify(), pid=running, process_started=process.started)
    return Worker(**asdict(identity) | more)


def test_a_process_knows_itself() -> None:
    """The identity names this host and process, and by what its PID is to be believed."""
    identity = host.identify()
    assert identity.pid == os.getpid()
    assert all(asdict(identity).values())
    assert not host.is_gone(Worker(**asdict(identity)))


def test_a_live_process_is_not_gone(sleeper: subprocess.Popen[bytes]) -> None:
    """A process that runs is there, whatever characters its name holds."""
    assert not host.is_gone(_row(sleeper.pid))


def test_a_killed_process_is_gone_before_and_after_its_parent_took_note(sleeper: subprocess.Popen[bytes]) -> None:
    """A zombie works no more; neither does a process that is no more."""
    row = _row(sleeper.pid)
    sleeper.kill()
    wait_until(lambda: host._look_up(str(sleeper.pid)).state == "Z")  # type: ignore[union-attr]
    assert host.is_gone(row)
    sleeper.wait()
    assert host.is_gone(row)


def test_a_pid_that_was_taken_over_is_gone(sleeper: subprocess.Popen[bytes]) -> None:
    """Another start time under the same PID is another process."""
    assert host.is_gone(_row(sleeper.pid, process_started="1"))


@pytest.mark.parametrize("column", ["boot_id", "pid_namespace"])
def test_a_pid_of_another_world_says_nothing(sleeper: subprocess.Popen[bytes], column: str) -> None:
    """P17: of a worker of another machine, or of another container of one hostname, nobody looks up the PID."""
    row = _row(sleeper.pid, **{column: "another"})
    sleeper.kill()
    sleeper.wait()
    assert not host.is_gone(row)


@pytest.mark.parametrize("column", ["boot_id", "pid_namespace", "process_started", "pid"])
def test_an_incomplete_identity_says_nothing(sleeper: subprocess.Popen[bytes], column: str) -> None:
    """Where a system could not say who it is, only the lease decides."""
    row = _row(sleeper.pid, **{column: 0 if column == "pid" else ""})
    sleeper.kill()
    sleeper.wait()
    assert not host.is_gone(row)


@pytest.mark.parametrize("proc", [("--mount-proc",), ()], ids=["its own /proc", "the host's /proc"])
def test_a_container_is_another_world(proc: tuple[str, ...]) -> None:
    """P17: with a PID namespace of its own a worker is no neighbour, and trusts no /proc that shows another's."""
    in_namespace = ["unshare", "--pid", "--fork", *proc]
    if subprocess.run([*in_namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no new PID namespace may be made here")
    asked = subprocess.run(
        [*in_namespace, sys.executable, "-c", WHO_AM_I], capture_output=True, text=True, check=True, cwd=ROOT
    )
    there = json.loads(asked.stdout)
    here = host.identify()
    assert there["host"] == here.host
    assert there["pid_namespace"] != here.pid_namespace
    assert not host.is_gone(Worker(**there))
    if not proc:
        assert there["pid_namespace"] == ""
