"""A database that takes everything and answers nothing: a worker goes on with other connections, and obeys."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest
from django.db import connections
from pytest_django import Settings

from canx_flow.core import clock
from canx_flow.models import Timer

from ..processes import WorkerProcess, Workers
from ..waiting import wait_until
from ..workflows import held, naps, sums
from .servers import Server, Wire, children

#: What is sent on one of the engine's connections only.
_SAID = {"heartbeat": "SET {}beat{}", "committer": "INTO canx_flow_steprecord", "all": ""}


@pytest.mark.parametrize("which", _SAID)
@pytest.mark.usefixtures("short_lease")
def test_c151_a_connection_that_stands_still_is_given_up(
    own_server: Server, wire: Wire, workers: Workers, effects: ModuleType, which: str
) -> None:
    """C151: TCP is fine, new connections work: the worker goes on with those, says so, and obeys."""
    worker = workers.start(env={"DATABASE_URL": own_server.url_at(wire.port)})
    run = held.start("x")
    wait_until(lambda: effects.count("at x"))
    quote = connections["default"].ops.quote_name("")[0]
    assert wire.stand_still(_SAID[which].format(quote, quote).encode())
    effects.release("x")
    more = sums.start("y", 3)
    assert held.result(run, timeout=40) == "x"
    assert sums.result(more, timeout=40) == 6
    worker.wait_log("has had no answer")
    if which == "committer":
        worker.wait_log("wait to be stored")
    worker.terminate()
    assert worker.wait() == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("terms", [1, 2])
def test_c151_a_worker_obeys_while_its_database_does_not_answer(
    request: pytest.FixtureRequest, settings: Settings, tier: str, terms: int, processes: int
) -> None:
    """C151: by its --shutdown-timeout or at once, whatever its threads wait for in C."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LEASE_SECONDS": 60}  # Its own deadline must not come first.
    stuck = _locked if tier == "sqlite" else _frozen
    with stuck(request, "--processes", str(processes), "--shutdown-timeout", "1" if terms == 1 else "60") as worker:
        # psycopg looks for signals ten times a second while it waits, but others wait in C for as long as it takes.
        if tier == "mysql":
            _wait_until_stuck([worker.pid] if processes == 1 else children(worker.pid))
        for _ in range(terms):
            worker.signal(signal.SIGTERM)
            # Two that come at once would be one.
            assert worker.alive
            wait_until(lambda: not _pending(worker, signal.SIGTERM))
        assert worker.wait(15) == 3


def _wait_until_stuck(pids: list[int]) -> None:
    """Until the main thread of one of these processes has waited for something for longer than a worker's turn is."""
    seen: list[list[str]] = []

    def same() -> bool:
        seen.append([_waits(pid) for pid in pids])
        return len(seen) > 40 and any(len(set(of_one)) == 1 for of_one in zip(*seen[-40:], strict=True))

    wait_until(same, message="no worker waits for its database")


def _waits(pid: int) -> str:
    status = Path(f"/proc/{pid}/task/{pid}/status").read_text()
    return next(line for line in status.splitlines() if line.startswith("voluntary_ctxt_switches"))


def _pending(worker: WorkerProcess, number: signal.Signals) -> bool:
    """Whether a signal was sent and not yet taken by the process."""
    status = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in status if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask & 1 << number - 1 for mask in masks)


@contextmanager
def _frozen(request: pytest.FixtureRequest, *options: str) -> Iterator[WorkerProcess]:
    """A worker whose server's processes stand still."""
    server: Server = request.getfixturevalue("own_server")
    worker: WorkerProcess = request.getfixturevalue("worker")
    worker.start(*options)
    run = sums.start("x", 1)
    wait_until(lambda: sums.status(run).state == "completed")
    server.freeze()
    try:
        yield worker
    finally:
        server.thaw()


@contextmanager
def _locked(request: pytest.FixtureRequest, *options: str) -> Iterator[WorkerProcess]:
    """A worker whose file is locked by another process's transaction."""
    worker: WorkerProcess = request.getfixturevalue("worker")
    worker.start(*options)
    run = naps.start("x", 2.0)
    wait_until(lambda: naps.status(run).state == "sleeping")
    with closing(sqlite3.connect(connections["default"].settings_dict["NAME"], isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        # Since the timer is due the worker waits for the lock, to fire it.
        due_at = Timer.objects.get(run_id=run).due_at
        wait_until(lambda: clock.now() - due_at > timedelta(seconds=1))
        yield worker
        holder.execute("ROLLBACK")
