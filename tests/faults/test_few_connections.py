"""A database that has fewer connections than a worker has slots."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TypeVar

from django.db import OperationalError, connections

from canx_flow import get_run

from ..processes import Workers
from ..waiting import wait_until
from ..workflows import crowded
from .servers import Server

T = TypeVar("T")


def _asked(ask: Callable[[], T]) -> T:
    """What the database says to this test, which may find no connection either for a while."""

    def answer() -> list[T]:
        try:
            return [ask()]
        except OperationalError:
            connections["default"].close()
            return []

    return wait_until(answer)[0]


def test_c152_with_fewer_connections_than_slots_runs_go_on(
    small_server: Server, workers: Workers, effects: ModuleType
) -> None:
    """C152: the engine's own come first, at the start and after an outage; what a slot finds none for is repeated."""
    worker = workers.start("--concurrency", "16")
    runs = [crowded.start(f"r{n}") for n in range(16)]
    wait_until(effects.read)
    small_server.crash()
    small_server.start()
    runs += _asked(lambda: crowded.start_many([(f"m{n}",) for n in range(8)]))
    wait_until(lambda: _asked(lambda: {get_run(run_id).state for run_id in runs}) == {"completed"}, 60)
    assert worker.alive
