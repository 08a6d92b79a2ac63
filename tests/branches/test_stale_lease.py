"""Branches that wait until their worker's lease holds again: what has come meanwhile counts, as ever, before a step."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from canx_flow.models import StepRecord, WorkflowRun
from canx_flow.worker.lease import Lease
from canx_flow.worker.port import WorkerLease

from ..lost import Worker, worker
from ..waiting import wait_until
from .either import declared

pytestmark = [
    pytest.mark.django_db(transaction=True),
    # Threads of a worker leave connections to the garbage collector, as their process does when it ends.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class _Stale:
    """The leases of this process: whether they seem to hold no more, and what has come of that."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now, self.waited_for, self.stopped = threading.Event(), threading.Event(), threading.Event()
        is_fresh, wait_fresh, stop = Lease.is_fresh, WorkerLease.wait_fresh, WorkerLease.stop

        def wait(lease: WorkerLease) -> bool:
            self.waited_for.set()
            return wait_fresh(lease)

        def stopped(lease: WorkerLease) -> None:
            stop(lease)
            self.stopped.set()

        patch.setattr(Lease, "is_fresh", lambda lease: not self.now.is_set() and is_fresh(lease))
        patch.setattr(WorkerLease, "wait_fresh", wait)
        patch.setattr(WorkerLease, "stop", stopped)


@pytest.fixture
def stale(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[_Stale]:
    """Which hold, until the test says so."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LEASE_SECONDS": 1.5}  # The heart beats often enough.
    stale = _Stale(monkeypatch)
    yield stale
    stale.now.clear()


def _decide(flow: Any, run_id: Any, effects: ModuleType, *_: Any) -> None:
    effects.release("primary")
    wait_until(lambda: StepRecord.objects.filter(run_id=run_id, kind="race").exists())


def _pause(flow: Any, run_id: Any, *_: Any) -> None:
    assert flow.pause(run_id)


def _stop(_flow: Any, _run_id: Any, _effects: ModuleType, working: Worker, stale: _Stale) -> None:
    working.loop.stop()
    assert stale.stopped.wait(20)


@pytest.mark.parametrize("happens", [_decide, _pause, _stop], ids=["decided", "paused", "stopping"])
def test_no_step_begins_after_what_has_come_while_the_lease_was_waited_for(
    kind: str, happens: Any, stale: _Stale, effects: ModuleType
) -> None:
    """Its race is decided, its run is paused, or its worker is told to leave: the step is not called."""

    async def falls_back(ctx: Any) -> None:
        await ctx.step("first", stale.now.set)
        await ctx.step("second", effects.append, "called")

    async def body(ctx: Any) -> Any:
        return await ctx.race(primary=lambda c: c.step("gate", effects.gate, "primary"), fallback=falls_back)

    flow = declared(kind, body)
    with worker() as working:
        run_id = flow.start()
        assert stale.waited_for.wait(20)
        wait_until(lambda: effects.count("at primary"))
        happens(flow, run_id, effects, working, stale)
        stale.now.clear()
        effects.release("primary")
        wait_until(lambda: WorkflowRun.objects.filter(id=run_id, owner=None).exists())
    assert "called" not in effects.read()
