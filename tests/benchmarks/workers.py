"""Real `runflowworker` processes, and what they used up when they have ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from .measure import cpu_seconds, peak_bytes
from .places import Place

ROOT = Path(__file__).resolve().parent.parent.parent


#: Seconds after which a worker hangs: it is ended, and says where every thread stands.
PATIENCE = 300.0
_LOOK = 0.05


class Worker:
    """One worker process, from its banner to its end; `peak_bytes` is known once it has ended."""

    def __init__(self, place: Place, *options: str, patience: float = PATIENCE, **environment: str) -> None:
        self._errors = TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self.spawned_at = time.time()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "django", "runflowworker", "--no-reload", *options],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PYTHONFAULTHANDLER": "1",
                **place.environment(),
                **environment,
            },
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._alarm = threading.Timer(patience, self.process.send_signal, [signal.SIGABRT])
        self._alarm.daemon = True
        self._alarm.start()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.ready_at = time.time()
        self._cpu_at_banner = cpu_seconds(self.process.pid)
        self.peak_bytes = 0
        self.ended_with: int | None = None
        if not line.startswith(b"canx_flow "):
            self.process.kill()
            raise RuntimeError(f"no worker: {self._said()}")

    @property
    def pid(self) -> int:
        return self.process.pid

    def cpu(self) -> float:
        """CPU seconds since its banner: Django's own start is left out."""
        return cpu_seconds(self.pid) - self._cpu_at_banner

    def wait(self) -> float:
        """Wait for its end; CPU seconds since its banner."""
        status, usage = self._reaped()
        self._alarm.cancel()
        self.process.returncode = self.ended_with = os.waitstatus_to_exitcode(status)
        if self.ended_with not in (0, -signal.SIGKILL):
            raise RuntimeError(f"the worker left with {self.ended_with}: {self._said()}")
        return usage.ru_utime + usage.ru_stime - self._cpu_at_banner

    def _reaped(self) -> tuple[int, Any]:
        """Its exit status and what it used, once it has ended; its memory can only be asked for before."""
        while True:
            self.peak_bytes = max(self.peak_bytes, peak_bytes(self.pid))
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                return status, usage
            time.sleep(_LOOK)

    def stop(self) -> float:
        """Let it leave in good order; as `wait`."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        self.process.kill()
        self.wait()

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-4000:]


@contextmanager
def working(place: Place, *options: str, patience: float = PATIENCE, **environment: str) -> Iterator[Worker]:
    """A worker for the length of a block; it has ended when the block has."""
    worker = Worker(place, *options, patience=patience, **environment)
    try:
        yield worker
    except BaseException:
        if worker.ended_with is None:
            worker.kill()
        raise
    if worker.ended_with is None:
        worker.stop()
