"""A worker that has registered and takes no turn by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from freezegun import freeze_time

from canx_flow.store.db import engine
from canx_flow.worker.exitcodes import CLEAN
from canx_flow.worker.life import Life
from canx_flow.worker.loop import WorkerLoop
from canx_flow.worker.options import Options
from canx_flow.worker.slots import Slots
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
