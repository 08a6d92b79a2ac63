"""Real brokers, and real workers of Celery's, on queues of a test's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import pytest

from tests.processes import ROOT, WorkerProcess, Workers, environment
from tests.waiting import wait_until

SETTINGS = "tests.contrib.celery.settings"
BROKERS = {"redis": "redis://127.0.0.1:6379/9", "rabbitmq": "amqp://guest:guest@127.0.0.1:5672//"}


def pytest_ignore_collect() -> bool | None:
    """Leave this folder out where Celery is not installed."""
    return None if find_spec("celery") else True


class CeleryWorker:
    """A process of Celery's, which takes messages of one queue."""

    def __init__(self, env: dict[str, str], log: Path, queue: str, pool: str) -> None:
        self._log = log
        command = [sys.executable, "-m", "celery", "--app", "tests.contrib.celery.app", "worker"]
        command += ["--pool", pool, "--concurrency", "2", "--queues", queue, "--loglevel", "INFO"]
        command += ["--hostname", f"{uuid4().hex[:8]}@test", "--without-gossip", "--without-mingle"]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=env, stdout=output, stderr=output, start_new_session=True
            )
        wait_until(lambda: " ready." in self.said(), 60, message=f"Celery is not up: {self.said()[-2000:]}")

    def said(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """Kill it and its children, as a machine that is switched off."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Far:
    """A broker, its queue, and the processes at both ends."""

    def __init__(self, broker: str, workers: Workers, folder: Path) -> None:
        self.queue = f"canx-{uuid4().hex[:12]}"
        self.broker = broker
        self._ours, self._folder = workers, folder
        self._started: list[CeleryWorker] = []

    @property
    def env(self) -> dict[str, str]:
        """What processes are told."""
        return {"DJANGO_SETTINGS_MODULE": SETTINGS, "CELERY_BROKER_URL": self.broker, "CELERY_QUEUE": self.queue}

    def ours(self) -> WorkerProcess:
        """Start a worker of ours."""
        return self._ours.start(env=self.env)

    def celery(self, queue: str = "", pool: str = "prefork") -> CeleryWorker:
        """Start a worker of Celery's."""
        log = self._folder / f"celery-{len(self._started)}.log"
        self._started.append(CeleryWorker(environment(**self.env), log, queue or self.queue, pool))
        return self._started[-1]

    def leave(self) -> None:
        """End Celery's."""
        for worker in self._started:
            worker.kill()


#: The one on each database, the other on the first.
@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.once)])
def far(request: pytest.FixtureRequest, workers: Workers, tmp_path: Path) -> Iterator[Far]:
    """Each of the brokers."""
    found = Far(BROKERS[request.param], workers, tmp_path)
    yield found
    found.leave()
