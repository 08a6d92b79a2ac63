"""A worker that has registered and takes no turn by itself; and activations of single runs in a worker's world."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections
from freezegun import freeze_time

from canx_flow.core import registry
from canx_flow.replay import executor
from canx_flow.store import claims, leases
from canx_flow.store.db import engine
from canx_flow.worker.committer import Committer
from canx_flow.worker.exitcodes import CLEAN
from canx_flow.worker.lease import Lease
from canx_flow.worker.life import Life
from canx_flow.worker.loop import WorkerLoop
from canx_flow.worker.options import Options
from canx_flow.worker.port import WorkerPort
from canx_flow.worker.slots import Slots
from canx_flow.worker.threads import StepThreads
from canx_flow.worker.turn import Turn
from canx_flow.worker.wakeup import Listener
from tests.waiting import wait_until
from tests.worker.lives import StandingClock


@pytest.fixture
def clock() -> StandingClock:
    """The worker asks this one."""
    return StandingClock()


@pytest.fixture
def life(clock: StandingClock) -> Iterator[Life]:
    """A worker with two slots that has registered and takes no turn by itself; the wall's clock stands, too."""
    listener = Listener("a-turn")
    loop = WorkerLoop(Options(concurrency=2, poll_seconds=10.0), clock)
    with freeze_time("2026-03-01 12:00:00"), engine.use_engine_connection("default"):
        life = loop.begin(listener)
        assert life is not None
        life.parts.start()
        wait_until(life.parts.vitals.connected)
        told: set[str] = set()
        wait_until(lambda: told.update(listener.wait(0)) or told >= {"fresh", "ready"})
        life.parts.turn._poll(clock.now)
        try:
            yield life
        finally:
            life.parts.slots.in_flight = 0
            life._end(CLEAN)
            listener.close()


@pytest.fixture
def turn(life: Life) -> Turn:
    """Its turn."""
    return life.parts.turn


@pytest.fixture
def slots(life: Life) -> Slots:
    """Its slots."""
    return life.parts.slots


Activate = Callable[[Any], str]


@pytest.fixture
def activate(transactional_db: None) -> Iterator[Activate]:
    """Starts a run of a workflow, and returns the state in which one activation leaves it: a worker's, without turns.

    What a test declares as `worker.any` is forgotten afterwards.
    """
    owner = leases.register(host="here", pid=1).id
    heartbeat: Any = Lease(60)
    heartbeat.last_beat = float("inf")
    committer, threads = Committer("default", owner), StepThreads(lambda: None)
    committer.start()
    port = WorkerPort("default", owner, committer, heartbeat, threads)

    def activated(flow: Any) -> str:
        flow.start()
        [run] = claims.claim(connections["default"], owner, 1, registry.identities())
        claims.load(connections["default"], [run])
        if flow.is_async:
            return asyncio.run(executor.run_async(run, flow, port))
        return executor.run_sync(run, flow, port)

    yield activated
    threads.close()
    port.store.close()
    committer.abandon()
    committer.stop()
    wait_until(lambda: not committer._thread.is_alive())
    registry.forget("worker.any")
