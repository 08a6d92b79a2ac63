"""Parents and children, as real processes: small programs that obey as a worker does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from canx_flow.worker import exitcodes
from canx_flow.worker.process import place, supervisor
from canx_flow.worker.process.supervisor import Supervisor

from ...processes import ROOT
from ...waiting import wait_until

pytestmark = pytest.mark.once

#: Obeys its parent; "stubborn" does not, "burst" ends by itself, a number is what it exits with at once, and a file is
#: what the first that finds it removes and hangs at, before it is up.
CHILD = """
import os, queue, signal, sys, threading
from canx_flow.worker.process.orders import obey, say_up
from tests import effects

class Target:
    def __init__(self): self.orders = queue.SimpleQueue()
    def stop(self): self.orders.put("stop")
    def force(self): self.orders.put("force")
    def run(self):
        effects.append(f"begin {os.getpid()}")
        while True:
            order = self.orders.get()
            effects.append(order)
            if order == "force" or "stubborn" not in sys.argv:
                return 3 if order == "force" else 0

if "/" in sys.argv[1] and os.path.exists(sys.argv[1]):
    os.remove(sys.argv[1])
    effects.append(f"begin {os.getpid()}")
    threading.Event().wait()
if sys.argv[1].isdigit():
    effects.append(f"begin {os.getpid()}")
    sys.exit(int(sys.argv[1]))
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
target = Target()
if "deaf" not in sys.argv:
    obey(int(sys.argv[-1]), target)
if "slow" not in sys.argv:
    say_up(int(sys.argv[-1]))
sys.exit(target.run())
"""

PARENT = """
import signal, sys
from canx_flow.worker.process.supervisor import Supervisor
parent = Supervisor(sys.argv[1:], 2)
signal.signal(signal.SIGTERM, lambda *_: parent.stop())
sys.exit(parent.run())
"""

#: A child of a reloading parent; the file that changes is a module of its own.
RELOADED = """
import os, queue, sys
from django.conf import settings
settings.configure(INSTALLED_APPS=[], ROOT_URLCONF="changing")
import django
django.setup()
from canx_flow.worker.process.orders import obey
from canx_flow.worker.process.reloading import run_reloading
from tests import effects
import changing

class Target:
    def __init__(self): self.orders = queue.SimpleQueue()
    def stop(self): self.orders.put("stop")
    def force(self): self.orders.put("force")
    def run(self):
        effects.append(f"begin {changing.VALUE}")
        self.orders.get()
        effects.append(f"end {changing.VALUE}")
        return 0

target = Target()
obey(int(sys.argv[-1]), target)
code = run_reloading(target, 10)
sys.exit(code)
"""


class Family:
    """A supervisor that runs in a thread of the test, and its children."""

    def __init__(self, effects: ModuleType, *words: str, count: int = 1, program: str = CHILD, **options: Any) -> None:
        self.effects = effects
        self.parent = Supervisor([sys.executable, "-c", program, *words], count, **options)
        self.codes: list[int] = []
        self.thread = threading.Thread(target=lambda: self.codes.append(self.parent.run()))
        self.thread.start()

    def begun(self, number: int) -> list[int]:
        """The PIDs of the children begun so far, once they are so many."""
        return wait_until(lambda: pids if len(pids := _begun(self.effects)) >= number else [])

    def code(self) -> int:
        """Its exit code, once it has ended."""
        self.thread.join(30)
        assert self.codes, "it has not ended"
        return self.codes[0]


def _begun(effects: ModuleType) -> list[int]:
    return [int(line.split()[1]) for line in effects.read() if line.startswith("begin ")]


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(autouse=True)
def _children_find_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(place, "_FIRST_PAUSE", 0.05)


@pytest.fixture
def family(effects: ModuleType) -> Iterator[Any]:
    """Makes a family; none survives the test."""
    made: list[Family] = []

    def make(*words: str, **options: Any) -> Family:
        made.append(Family(effects, *words, **options))
        return made[-1]

    yield make
    for each in made:
        each.parent._kill()
        each.parent.force()
        each.thread.join(30)


def test_children_stop_when_their_parent_does(family: Any) -> None:
    """C104: stopping the parent stops every child in good order, and all is clean."""
    workers = family("obedient", count=3)
    pids = workers.begun(3)
    workers.parent.stop()
    assert workers.code() == 0
    assert workers.effects.count("stop") == 3
    assert not any(_is_running(pid) for pid in pids)


def test_a_child_that_dies_is_replaced(family: Any) -> None:
    """kill -9 of one child starts another; its sister goes on."""
    workers = family("obedient", count=2)
    victim, sister = workers.begun(2)
    os.kill(victim, signal.SIGKILL)
    assert len(set(workers.begun(3))) == 3
    assert _is_running(sister)
    workers.parent.stop()
    assert workers.code() == 0


def test_children_that_die_at_once_are_replaced_ever_more_slowly(
    family: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A crash loop does not eat the machine: each delay is longer, up to a limit, and each death is logged."""
    monkeypatch.setattr(place, "_MOST_PAUSE", 0.15)
    workers = family("1")
    workers.begun(4)
    workers.parent.stop()
    assert workers.code() in (0, exitcodes.FATAL)
    delays = [record.args[2] for record in caplog.records if record.msg.startswith("Worker process")]  # type: ignore[index]
    assert delays[:3] == [0.05, 0.1, 0.15]


def test_a_child_that_hangs_before_it_is_up_is_replaced(
    family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is killed, which is logged; the next one gets twice as long; its sister, who is up, goes on."""
    monkeypatch.setattr(place, "_UP_WITHIN", 3.0)
    hang = tmp_path / "hang"
    hang.touch()
    workers = family(str(hang), count=2)
    first, second, third = workers.begun(3)
    wait_until(lambda: len([pid for pid in (first, second) if not _is_running(pid)]) == 1)
    assert _is_running(third)
    said = [record.getMessage() for record in caplog.records]
    assert "has not come up within 3 s: it is killed" in said[0]
    assert "ended with -9; another starts in 0.05 s" in said[1]
    workers.parent.stop()
    assert workers.code() == 0


def test_a_slow_child_gets_ever_more_time(
    family: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that is only slow comes up at last: each one after another that was too late has twice as long."""
    monkeypatch.setattr(place, "_UP_WITHIN", 0.2)
    family("slow")
    waits = wait_until(lambda: found if len(found := _patience(caplog)) >= 3 else [])
    assert waits[:3] == [0.2, 0.4, 0.8]


def test_under_reload_a_child_may_stand_in_a_debugger(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """--reload: a developer's child that does not come up is left alone."""
    monkeypatch.setattr(place, "_UP_WITHIN", 0.0)
    workers = family("slow", reloading=True)
    workers.begun(1)
    workers.parent.stop()
    assert workers.code() == 0
    assert len(workers.begun(1)) == 1


def _patience(caplog: pytest.LogCaptureFixture) -> list[Any]:
    messages = [record for record in caplog.records if "has not come up" in record.msg]
    return [record.args[1] for record in messages if isinstance(record.args, tuple)]


def test_children_ignore_the_signals_of_their_parent(family: Any) -> None:
    """Ctrl-C reaches the whole group: a child waits for what its parent says."""
    workers = family("obedient")
    (pid,) = workers.begun(1)
    for asking in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, asking)
    workers.parent.stop()
    assert workers.code() == 0
    assert workers.effects.count("stop") >= 1


def test_children_leave_when_their_parent_is_gone(effects: ModuleType) -> None:
    """kill -9 of the parent stops every child in good order: none is orphaned."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, sys.executable, "-c", CHILD, "obedient"])
    pids = wait_until(lambda: found if len(found := _begun(effects)) == 2 else [])
    parent.kill()
    parent.wait()
    wait_until(lambda: effects.count("stop") == 2)
    wait_until(lambda: not any(_is_running(pid) for pid in pids))


def test_a_signal_to_the_parent_stops_all(effects: ModuleType) -> None:
    """C104: TERM interrupts the parent's waiting."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, sys.executable, "-c", CHILD, "obedient"])
    wait_until(lambda: len(_begun(effects)) == 2)
    parent.terminate()
    assert parent.wait(30) == 0
    assert effects.count("stop") == 2


def test_a_second_order_forces(family: Any) -> None:
    """Children that are still at it leave at once; the exit code says that they were forced."""
    workers = family("stubborn", count=2)
    workers.begun(2)
    workers.parent.stop()
    wait_until(lambda: workers.effects.count("stop") == 2)
    workers.parent.force()
    assert workers.code() == exitcodes.FORCED
    assert workers.effects.count("force") == 2


def test_the_grace_ends(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that has not left by itself when its time is over is forced; one that does not even hear is killed."""
    monkeypatch.setattr(supervisor, "_LAST_GRACE", 0.2)
    workers = family("deaf", grace=0.1)
    (pid,) = workers.begun(1)
    workers.parent.stop()
    assert workers.code() == exitcodes.FORCED
    assert not _is_running(pid)


def test_wrong_arguments_end_all(family: Any) -> None:
    """What is wrong with the command line does not get better by trying again."""
    workers = family("2", count=2)
    assert workers.code() == exitcodes.ARGUMENTS


def test_children_that_end_cleanly_are_not_replaced(family: Any) -> None:
    """--burst: when every child has found nothing more to do, the parent ends, too."""
    workers = family("0", count=2)
    assert workers.code() == 0
    assert len(workers.begun(2)) == 2


def test_children_that_served_their_time_are_renewed(family: Any) -> None:
    """--max-runs: a child that has done its runs makes room for a fresh one."""
    workers = family("0", renew=True)
    workers.begun(3)
    workers.parent.stop()
    assert workers.code() == 0


def test_a_first_start_that_fails_under_reload_is_the_end(family: Any) -> None:
    """--reload: what cannot even start is told at once, not tried for ever."""
    workers = family("1", reloading=True)
    assert workers.code() == exitcodes.FATAL


def test_changed_code_starts_anew(family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--reload: the old code stops in good order before the new one starts."""
    module = tmp_path / "changing.py"
    module.write_text("VALUE = 1\nurlpatterns = []\n")
    os.utime(module, (1, 1))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    workers = family(program=RELOADED, reloading=True)
    wait_until(lambda: workers.effects.count("begin 1"))

    def change() -> int:
        # Again and again: the reloader may not have seen the old one yet.
        module.write_text("VALUE = 2\nurlpatterns = []\n")
        return int(workers.effects.count("begin 2"))

    wait_until(change)
    lines = workers.effects.read()
    assert lines.index("end 1") < lines.index("begin 2")
    workers.parent.stop()
    assert workers.code() in (0, exitcodes.CHANGED)
    assert workers.effects.read()[-1] == "end 2"
