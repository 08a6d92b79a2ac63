"""Drivers that something has wrapped: tracers, metrics, and whatever else stands between Django and its driver."""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from ..processes import WorkerProcess
from ..waiting import wait_until
from ..workflows import asums, chaos, waits


def _completed(workflow: Any, run_id: UUID) -> bool:
    return bool(workflow.status(run_id).state == "completed")


@pytest.mark.django_db(transaction=True)
def test_a_wrapped_driver_serves_the_engine(worker: WorkerProcess, effects: ModuleType) -> None:
    """Claims, records, atomic steps, timers and events: what Django can work with, the engine can."""
    worker.start(env={"TRACED": "1"})
    runs: list[tuple[Any, Any]] = [
        *((chaos, chaos.start(f"a{n}")) for n in range(3)),
        *((asums, asums.start(f"c{n}", 3)) for n in range(3)),
    ]
    waiting = waits.start("w")
    wait_until(lambda: waits.status(waiting).state == "waiting", message=worker.log())
    waits.send(waiting, "go", 7)
    for workflow, run_id in [*runs, (waits, waiting)]:
        wait_until(partial(_completed, workflow, run_id), message=worker.log())
    worker.terminate()
    assert worker.wait() == 0
    assert "ERROR" not in worker.log()
    assert "Traceback" not in worker.log()
