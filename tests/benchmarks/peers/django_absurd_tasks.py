"""django-absurd, with its defaults: a module of tasks, as Django wants it, and the program. PostgreSQL only.

`django_absurd_tasks.py client URL` answers the benchmark, `django_absurd_tasks.py worker URL` works, with a process
beside it for the queue of children: no task may wait for one of its own queue.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import django
from django.conf import settings


def configure(url: str) -> None:
    server = urlsplit(url)
    settings.configure(
        DATABASES={"default": {
            "ENGINE": "django.db.backends.postgresql", "NAME": server.path[1:], "USER": server.username,
            "PASSWORD": server.password or "", "HOST": server.hostname, "PORT": server.port, "CONN_MAX_AGE": None,
        }},
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_absurd"],
        TASKS={"default": {
            "BACKEND": "django_absurd.backends.AbsurdBackend", "OPTIONS": {"QUEUES": {"default": {}, "children": {}}},
        }},
        USE_TZ=True, SECRET_KEY="only for benchmarks", DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )  # fmt: skip
    django.setup()


if not settings.configured:
    configure(os.environ.get("BENCH_URL") or sys.argv[2])

import absurd_sdk  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.tasks import task  # noqa: E402
from django_absurd import aget_absurd_context, get_absurd_context  # noqa: E402
from stamps import noop, stamp  # noqa: E402

_ENDED = "SELECT count(*) FROM absurd.t_default WHERE state IN ('completed', 'failed')"
_WAITING = "SELECT count(*) FROM absurd.t_default WHERE state = 'sleeping'"


def _steps(count: int) -> None:
    ctx = get_absurd_context()
    for number in range(count):
        ctx.step(f"step-{number}", lambda number=number: noop(number))


@task
def flow(given: int) -> dict[str, Any]:
    _steps(given)
    return {"ok": True}


@task
def alone(given: int) -> dict[str, Any]:
    stamp("first")
    _steps(given)
    stamp("last")
    return {"ok": True}


#: Its steps follow each other: a task has no branches.
mapped = alone


@task
def history(given: int) -> None:
    _steps(given)
    stamp("behind")
    ctx = get_absurd_context()
    for turn in itertools.count():
        ctx.await_event(f"go-{turn}")


@task
def child(given: int) -> dict[str, Any]:
    return noop(given)


@task
def sleeper(given: int) -> dict[str, Any]:
    get_absurd_context().sleep_for("nap", 1)
    stamp("awake")
    return {"ok": True}


@task
async def family(given: int) -> dict[str, Any]:
    return await _await_children(child, given)


@task
async def naps(given: int) -> dict[str, Any]:
    return await _await_children(sleeper, given)


async def _await_children(called: Any, count: int) -> dict[str, Any]:
    stamp("first")
    ctx = aget_absurd_context()

    async def spawned(number: int) -> str:
        return str((await called.using(queue_name="children").aenqueue(number)).id)

    children = [await ctx.step(f"child-{number}", lambda number=number: spawned(number)) for number in range(count)]
    # As its pages say: there is no way to wait for a task. The pause is that of Absurd's own.
    for one in children:
        while not (await called.aget_result(one)).is_finished:  # noqa: ASYNC110 - nothing tells it of the end
            await asyncio.sleep(0.05)
    stamp("last")
    return {"ok": True}


@task
def nap(given: float) -> dict[str, Any]:
    ctx = get_absurd_context()
    before = ctx.step("before", time.time)
    ctx.sleep_for("nap", given)
    after = ctx.step("after", time.time)
    stamp("lag", after - before - given)
    return {"ok": True}


class Client:
    def prepare(self) -> None:
        call_command("migrate", verbosity=0)

    def start(self, flow: str, argument: Any, times: int) -> list[str]:
        import django_absurd_tasks as tasks

        return [str(getattr(tasks, flow).enqueue(argument).id) for _ in range(times)]

    def done(self) -> int:
        return self._ask(_ENDED)

    def is_done(self, run: str) -> bool:
        return bool(self._ask(f"{_ENDED} AND task_id::text = %s", run.rpartition(":")[2]))

    def waiting(self) -> int:
        return self._ask(_WAITING)

    def wake(self, turn: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT absurd.emit_event('default', %s, '{}')", [f"go-{turn}"])

    def _ask(self, query: str, *given: Any) -> int:
        with connection.cursor() as cursor:
            cursor.execute(query, given)
            return int(cursor.fetchone()[0])


def _stamp_loading() -> None:
    """Tell when a worker has a task and is about to load what that has stored."""
    load = absurd_sdk._create_async_task_context

    async def stamped(*given: Any) -> Any:
        stamp("has")
        return await load(*given)

    absurd_sdk._create_async_task_context = stamped


def _work() -> None:
    beside = subprocess.Popen([sys.executable, __file__, "children", sys.argv[2]])
    try:
        call_command("absurd_worker")
    finally:
        beside.kill()
        beside.wait()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        _stamp_loading()
        _work()
    elif sys.argv[1] == "children":
        call_command("absurd_worker", queue="children")
    else:
        from answering import answer

        answer(Client())
