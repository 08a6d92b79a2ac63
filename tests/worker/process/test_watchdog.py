"""The last resort: a worker that cannot leave by itself is ended, one that can is left alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ...processes import ROOT

PROGRAM = """
import threading
from canx_flow.worker.process import watchdog

watchdog.LAST_GRACE = 0.1

class Stuck:
    def run(self):
        print("runs", flush=True)
        watched.stop()
        if {forced}:
            watched.force()
        threading.Event().wait(60)

    def stop(self): print("stop", flush=True)
    def force(self): print("force", flush=True)

watched = watchdog.Watched(Stuck(), {grace})
watched.run()
"""


@pytest.mark.once
@pytest.mark.parametrize(("grace", "forced", "said"), [(0.1, False, "runs stop"), (60, True, "runs stop force")])
def test_a_worker_that_is_stuck_is_ended(grace: float, forced: bool, said: str) -> None:
    """Exit 3, after its grace time or once it was told to leave at once; orders are handed on."""
    program = PROGRAM.format(grace=grace, forced=forced)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout.split()) == (3, said.split())
    assert "does not leave" in done.stderr
