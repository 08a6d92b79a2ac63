"""Absurd, as its synchronous worker runs by default: one task at a time, a poll every 0.25 s. PostgreSQL only.

`absurd.py client URL` answers the benchmark, `absurd.py worker URL` works.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import absurdctl
import psycopg
from absurd_sdk import Absurd
from answering import answer
from stamps import noop, stamp

QUEUE = "bench"
_ENDED = f"SELECT count(*) FROM absurd.t_{QUEUE} WHERE state IN ('completed', 'failed')"


class Client:
    def __init__(self, url: str) -> None:
        self._url = url
        self._connection = psycopg.connect(url, autocommit=True)

    def prepare(self) -> None:
        self._connection.execute(absurdctl.BUNDLED_SCHEMA_SQL)
        self._app = Absurd(self._url, queue_name=QUEUE)
        self._app.create_queue(QUEUE)

    def start(self, flow: str, argument: Any, times: int) -> list[str]:
        return [str(self._app.spawn(flow, {"given": argument}, queue=QUEUE)["task_id"]) for _ in range(times)]

    def done(self) -> int:
        return int(self._connection.execute(_ENDED).fetchone()[0])

    def is_done(self, run: str) -> bool:
        return bool(self._connection.execute(f"{_ENDED} AND task_id = %s", [run]).fetchone()[0])


def work(url: str) -> None:
    app = Absurd(url, queue_name=QUEUE)

    @app.register_task("flow")
    def flow(params: dict[str, Any], ctx: Any) -> dict[str, Any]:
        for number in range(params["given"]):
            ctx.step(f"step-{number}", lambda number=number: noop(number))
        return {"ok": True}

    @app.register_task("alone")
    def alone(params: dict[str, Any], ctx: Any) -> dict[str, Any]:
        stamp("first")
        flow(params, ctx)
        stamp("last")
        return {"ok": True}

    @app.register_task("nap")
    def nap(params: dict[str, Any], ctx: Any) -> dict[str, Any]:
        before = ctx.step("before", time.time)
        ctx.sleep_for("nap", params["given"])
        after = ctx.step("after", time.time)
        stamp("lag", after - before - params["given"])
        return {"ok": True}

    app.start_worker()


if __name__ == "__main__":
    work(sys.argv[2]) if sys.argv[1] == "worker" else answer(Client(sys.argv[2]))
