"""Workers whose clocks disagree."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from canx_flow.models import Worker
from canx_flow.states import WorkerState
from tests import workflows
from tests.processes import Workers
from tests.waiting import wait_until


def test_p15_workers_ten_minutes_apart_bury_nobody_and_sleep_by_the_clock_that_reads(
    workers: Workers, effects: ModuleType, settings: Any
) -> None:
    """Heartbeats are counters, so no clock kills a worker; a sleep is over when its reader's clock says so."""
    settings.CANX_FLOW = {"LEASE_SECONDS": 1, "POLL_SECONDS": 0.1}
    behind = workers.start("--name", "behind", "--queue", "behind")
    ahead = workers.start("--name", "ahead", "--queue", "ahead", env={"TESTS_CLOCK_SHIFT": "600"})

    def beats() -> dict[str, int]:
        return dict(Worker.objects.filter(state=WorkerState.ALIVE).values_list("name", "beat"))

    # Each beats every sixth of a lease: thirty beats are five leases, time enough to bury the other.
    wait_until(lambda: all(beats().get(name, 0) >= 30 for name in ("behind", "ahead")), 60)
    assert set(beats()) == {"behind", "ahead"}

    # By the clock that is ahead, five minutes have passed and fifteen have not.
    due = workflows.two_steps.using(queue="behind", delay=300).start("due")
    not_due = workflows.two_steps.using(queue="behind", delay=900).start("not due")
    wait_until(lambda: workflows.two_steps.status(due).state == "completed")

    assert workflows.two_steps.status(not_due).state == "sleeping"
    assert "is dead" not in behind.log() + ahead.log()
    assert "found dead" not in behind.log() + ahead.log()
