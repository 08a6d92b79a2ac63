"""DBOS Transact with its defaults, on PostgreSQL or SQLite.

`dbos_transact.py client URL` answers the benchmark, `dbos_transact.py worker URL` works.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

if sqlite3.sqlite_version_info < (3, 42):
    import pysqlite3
    import pysqlite3.dbapi2

    sys.modules["sqlite3"] = sqlite3 = pysqlite3
    sys.modules["sqlite3.dbapi2"] = pysqlite3.dbapi2

import psycopg
from answering import answer
from dbos import DBOS, DBOSClient
from stamps import noop, stamp

NAME = QUEUE = "bench"
LIMITED = "limited"
AT_ONCE = 32  # items of a map
#: What a limit of ours is called there, and how its value is written. Rates are of a minute.
_LIMITS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "concurrency": ("global_concurrency", int),
    "rate": ("limiter", lambda rate: {"limit": int(rate.removesuffix("/m")), "period": 60}),
    "partition_concurrency": ("partition_concurrency", int),
}


class Client:
    def __init__(self, url: str) -> None:
        self._url = url

    def prepare(self) -> None:
        """A first launch makes the tables."""
        _configure(self._url)
        DBOS.launch()
        DBOS.register_queue(QUEUE)
        DBOS.destroy()
        self._client = DBOSClient(system_database_url=self._url)
        if self._url.startswith("sqlite"):
            connection = sqlite3.connect(self._url.removeprefix("sqlite:///"), timeout=10, isolation_level=None)
            self._ended = "SELECT count(*) FROM workflow_status WHERE status IN ('SUCCESS', 'ERROR')"
        else:
            connection = psycopg.connect(self._url, autocommit=True)
            self._ended = "SELECT count(*) FROM dbos.workflow_status WHERE status IN ('SUCCESS', 'ERROR')"
        self._connection = connection

    def start(self, flow: str, argument: Any, times: int) -> list[str]:
        options = {"workflow_name": flow, "queue_name": QUEUE}
        return [self._client.enqueue(options, argument).get_workflow_id() for _ in range(times)]

    def start_limited(self, flow: str, argument: Any, times: int, limits: dict[str, Any], partitions: int) -> list[str]:
        """The queue is written before its worker begins, which finds it among those of its application."""
        options = {theirs: how(limits[ours]) for ours, (theirs, how) in _LIMITS.items() if ours in limits}
        self._client.register_queue(LIMITED, application_name=NAME, **options)
        ids = []
        for number in range(times):
            enqueued = {"workflow_name": flow, "queue_name": LIMITED}
            if partitions:
                enqueued["queue_partition_key"] = f"tenant-{number % partitions}"
            ids.append(self._client.enqueue(enqueued, argument).get_workflow_id())
        return ids

    def done(self) -> int:
        return int(self._connection.execute(self._ended).fetchone()[0])

    def is_done(self, run: str) -> bool:
        mark = "?" if self._url.startswith("sqlite") else "%s"
        return bool(self._connection.execute(f"{self._ended} AND workflow_uuid = {mark}", [run]).fetchone()[0])


def _configure(url: str) -> None:
    DBOS(config={"name": NAME, "system_database_url": url, "log_level": "WARNING"})


def work(url: str) -> None:
    _configure(url)
    step = DBOS.step()(noop)

    @DBOS.step()
    def now() -> float:
        return time.time()

    @DBOS.workflow(name="flow")
    def flow(steps: int) -> dict[str, Any]:
        for number in range(steps):
            step(number)
        return {"ok": True}

    @DBOS.workflow(name="alone")
    def alone(steps: int) -> dict[str, Any]:
        stamp("first")
        for number in range(steps):
            step(number)
        stamp("last")
        return {"ok": True}

    @DBOS.workflow(name="nap")
    def nap(seconds: float) -> dict[str, Any]:
        before = now()
        DBOS.sleep(seconds)
        after = now()
        stamp("lag", after - before - seconds)
        return {"ok": True}

    @DBOS.workflow(name="child")
    def child(number: int) -> dict[str, Any]:
        return noop(number)

    @DBOS.workflow(name="family")
    def family(children: int) -> dict[str, Any]:
        stamp("first")
        handles = [DBOS.start_workflow(child, number) for number in range(children)]
        for handle in handles:
            handle.get_result()
        stamp("last")
        return {"ok": True}

    _register_beside(step)
    DBOS.launch()
    DBOS.register_queue(QUEUE)
    threading.Event().wait()


def _register_beside(step: Callable[[int], Any]) -> None:
    """W12, W13 and W14."""

    @DBOS.step()
    async def astep(number: int) -> dict[str, Any]:
        return noop(number)

    @DBOS.workflow(name="mapped")
    async def mapped(items: int) -> dict[str, Any]:
        stamp("first")
        for begin in range(0, items, AT_ONCE):
            await asyncio.gather(*(astep(number) for number in range(begin, min(begin + AT_ONCE, items))))
        stamp("last")
        return {"ok": True}

    async def sleep() -> None:
        await DBOS.sleep_async(1)
        stamp("awake")

    @DBOS.workflow(name="naps")
    async def naps(branches: int) -> dict[str, Any]:
        stamp("first")
        await asyncio.gather(*(sleep() for _ in range(branches)))
        stamp("last")
        return {"ok": True}

    @DBOS.workflow(name="history")
    def history(steps: int) -> None:
        stamp("has")
        for number in range(steps):
            step(number)
        stamp("behind")
        DBOS.recv("go", timeout_seconds=3600)


if __name__ == "__main__":
    work(sys.argv[2]) if sys.argv[1] == "worker" else answer(Client(sys.argv[2]))
