"""Absurd, as its synchronous worker runs by default: one task at a time, a poll every 0.25 s. PostgreSQL only.

`absurd.py client URL` answers the benchmark, `absurd.py worker URL` works.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import absurd_sdk
import absurdctl
import psycopg
from absurd_sdk import Absurd
from answering import answer
from stamps import noop, stamp

QUEUE = "bench"
#: Of children: no task may wait for one of its own queue, since workers could deadlock.
CHILDREN = "children"
_ENDED = f"SELECT count(*) FROM absurd.t_{QUEUE} WHERE state IN ('completed', 'failed')"
_WAITING = f"SELECT count(*) FROM absurd.t_{QUEUE} WHERE state = 'sleeping'"


class Client:
    def __init__(self, url: str) -> None:
        self._url = url
        self._connection = psycopg.connect(url, autocommit=True)

    def prepare(self) -> None:
        self._connection.execute(absurdctl.BUNDLED_SCHEMA_SQL)
        self._app = Absurd(self._url, queue_name=QUEUE)
        self._app.create_queue(QUEUE)
        self._app.create_queue(CHILDREN)

    def start(self, flow: str, argument: Any, times: int) -> list[str]:
        return [str(self._app.spawn(flow, {"given": argument}, queue=QUEUE)["task_id"]) for _ in range(times)]

    def done(self) -> int:
        return int(self._connection.execute(_ENDED).fetchone()[0])

    def is_done(self, run: str) -> bool:
        return bool(self._connection.execute(f"{_ENDED} AND task_id = %s", [run]).fetchone()[0])

    def waiting(self) -> int:
        return int(self._connection.execute(_WAITING).fetchone()[0])

    def wake(self, turn: int) -> None:
        self._app.emit_event(f"go-{turn}", {"turn": turn}, queue_name=QUEUE)


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

    # Its steps follow each other: a task has no branches.
    app.register_task("mapped")(alone)

    @app.register_task("nap")
    def nap(params: dict[str, Any], ctx: Any) -> dict[str, Any]:
        before = ctx.step("before", time.time)
        ctx.sleep_for("nap", params["given"])
        after = ctx.step("after", time.time)
        stamp("lag", after - before - params["given"])
        return {"ok": True}

    _register_beside(app)
    _register_history(app, flow)
    _stamp_loading()
    threading.Thread(target=_serve_children, args=[url], daemon=True).start()
    app.start_worker()


def _register_beside(app: Absurd) -> None:
    """W7 and W13: a task that waits for others."""

    def spawned(task: str, number: int) -> str:
        return str(app.spawn(task, {"given": number}, queue=CHILDREN)["task_id"])

    def await_children(ctx: Any, task: str, count: int) -> dict[str, Any]:
        stamp("first")
        children = [ctx.step(f"child-{n}", lambda number=n: spawned(task, number)) for n in range(count)]
        for child in children:
            ctx.await_task_result(child, queue_name=CHILDREN)
        stamp("last")
        return {"ok": True}

    @app.register_task("family")
    def family(params: dict[str, Any], ctx: Any) -> dict[str, Any]:
        return await_children(ctx, "child", params["given"])

    @app.register_task("naps")
    def naps(params: dict[str, Any], ctx: Any) -> dict[str, Any]:
        return await_children(ctx, "sleeper", params["given"])


def _register_history(app: Absurd, flow: Callable[..., Any]) -> None:
    """W14."""

    @app.register_task("history")
    def history(params: dict[str, Any], ctx: Any) -> None:
        flow(params, ctx)
        stamp("behind")
        for turn in itertools.count():
            ctx.await_event(f"go-{turn}")


def _serve_children(url: str) -> None:
    app = Absurd(url, queue_name=CHILDREN)

    @app.register_task("child")
    def child(params: dict[str, Any], ctx: Any) -> dict[str, Any]:
        return noop(params["given"])

    @app.register_task("sleeper")
    def sleeper(params: dict[str, Any], ctx: Any) -> dict[str, Any]:
        ctx.sleep_for("nap", 1)
        stamp("awake")
        return {"ok": True}

    app.start_worker()


def _stamp_loading() -> None:
    """Tell when a worker has a task and is about to load what that has stored."""
    load = absurd_sdk._create_task_context

    def stamped(*given: Any) -> Any:
        stamp("has")
        return load(*given)

    absurd_sdk._create_task_context = stamped


if __name__ == "__main__":
    work(sys.argv[2]) if sys.argv[1] == "worker" else answer(Client(sys.argv[2]))
