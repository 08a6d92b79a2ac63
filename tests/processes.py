"""Real `manage.py runflowworker` processes against the test database. Tests use them through the fixtures
`worker` and `workers` of tests/conftest.py.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

from django.conf import settings
from django.db import connections

from .waiting import wait_until

ROOT = Path(__file__).resolve().parent.parent
#: The source tree: another one than ROOT where the suite tests an installed package, beside which no source may lie.
SOURCE = Path(os.environ.get("CANX_FLOW_SOURCE") or ROOT)
MANAGE = ROOT / "testproject" / "manage.py"
BANNER = "canx_flow "


def environment(**more: str) -> dict[str, str]:
    """The environment of a process that is to see what this test sees: its databases and its CANX_FLOW settings."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        # As pytest's own `pythonpath`: manage.py's folder, too.
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(MANAGE.parent)]),
        "PYTHONUNBUFFERED": "1",
        "DATABASE_URL": database_url("default"),
        "OTHER_DATABASE_URL": database_url("other"),
        "CANX_FLOW": json.dumps(settings.CANX_FLOW),
        **more,
    }


def database_url(alias: str) -> str:
    """The URL of the open test database: the tier's own, with the name that the test runner gave it."""
    name = str(connections[alias].settings_dict["NAME"])
    if connections[alias].vendor == "sqlite":
        return f"sqlite:///{name}"
    variable = {"default": "DATABASE_URL", "other": "OTHER_DATABASE_URL"}[alias]
    return urlsplit(os.environ[variable])._replace(path=f"/{quote(name)}").geturl()


def manage(*arguments: str, timeout: float = 60.0, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `manage.py` to its end in a process of its own; output is captured, no exit status is an error.

    Keywords are added to the process's environment.
    """
    return subprocess.run(
        [sys.executable, str(MANAGE), *arguments],
        env=environment(**more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def _write_locked() -> bool:
    """Whether somebody holds the write lock of the SQLite database under test. Other databases have no such lock."""
    if connections["default"].vendor != "sqlite":
        return False
    name = connections["default"].settings_dict["NAME"]
    with closing(sqlite3.connect(name, timeout=0, isolation_level=None)) as asking:
        try:
            asking.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        asking.execute("ROLLBACK")
        return False


class WorkerProcess:
    """One worker process, from `start` to its end. Both its output streams go to one file."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self, *options: str, env: Mapping[str, str] | None = None, banner: bool = True, within: Sequence[str] = ()
    ) -> WorkerProcess:
        """Start it with these options of `runflowworker`, and wait for its banner unless told not to.

        `within`: a command that runs it, such as `unshare`.
        """
        assert self._process is None, "this worker was started already; take another one"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*within, sys.executable, str(MANAGE), "runflowworker", *options],
                env=environment(**(env or {})),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own: what is left of it, children of --processes included, can be ended at once.
                start_new_session=True,
            )
        return self.wait_banner() if banner else self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "this worker was not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative for a signal; `None` while it runs."""
        return self.process.poll()

    @property
    def outcome(self) -> str:
        """How it stands, in words."""
        if self._process is None:
            return "never started"
        return "running" if self.alive else f"left with {self.returncode}"

    def wait_banner(self, timeout: float = 30.0) -> WorkerProcess:
        """Wait until it has printed its banner: from then on it claims runs."""
        return self.wait_log(lambda log: any(line.startswith(BANNER) for line in log.splitlines()), timeout)

    def wait_log(self, wanted: str | Callable[[str], bool], timeout: float = 20.0) -> WorkerProcess:
        """Wait until its output holds this text, or satisfies this function; fail if it ends before."""
        found = wanted if callable(wanted) else lambda log: wanted in log
        # Whether it lives is asked first: what it printed last must not be missed.
        wait_until(lambda: not self.alive or found(self.log()), timeout, message=f"{wanted!r} not in the log")
        assert found(self.log()), f"the worker left with {self.returncode}:\n{self.log()}"
        return self

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for its end, and return its exit status."""
        return self.process.wait(timeout)

    def kill(self) -> int:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        return self.wait()

    def terminate(self) -> None:
        """SIGTERM: claim nothing more, finish the current steps, hand the runs back. See `wait`."""
        self.signal(signal.SIGTERM)

    def interrupt(self) -> None:
        """SIGINT, as Ctrl-C does."""
        self.signal(signal.SIGINT)

    def stop(self) -> None:
        """SIGSTOP: freeze it, and wait until it stands still.

        On SQLite at a moment when it does not write: frozen with the one write lock, it would freeze the test too.
        """
        wait_until(self._frozen_without_lock, message="the worker does not stand still")

    def cont(self) -> None:
        """SIGCONT: let it go on."""
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def log(self) -> str:
        """Everything it has printed so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def end(self) -> None:
        """Leave nothing of it behind, whatever state it is in."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)

    def _frozen_without_lock(self) -> bool:
        self.signal(signal.SIGSTOP)
        wait_until(lambda: self._state() == "T")
        if not _write_locked():
            return True
        self.cont()
        return False

    def _state(self) -> str:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]


class Workers:
    """Every worker process of one test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.all: list[WorkerProcess] = []

    def new(self) -> WorkerProcess:
        """A worker that is not started yet."""
        self.all.append(WorkerProcess(self._folder / f"worker-{len(self.all) + 1}.log"))
        return self.all[-1]

    def start(self, *options: str, env: Mapping[str, str] | None = None, banner: bool = True) -> WorkerProcess:
        """Start one, with these options of `runflowworker`, and wait for its banner unless told not to."""
        return self.new().start(*options, env=env, banner=banner)

    def start_many(self, number: int, *options: str) -> list[WorkerProcess]:
        """Start several at once, and wait for every banner."""
        started = [self.start(*options, banner=False) for _ in range(number)]
        return [worker.wait_banner() for worker in started]

    def end(self) -> None:
        """Leave nothing behind, and print what each said: pytest shows it where the test failed."""
        for number, worker in enumerate(self.all, start=1):
            worker.end()
            print(f"--- worker {number}, {worker.outcome}:")
            print(worker.log())
