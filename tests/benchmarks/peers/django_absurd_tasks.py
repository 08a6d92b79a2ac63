"""django-absurd, with its defaults: a module of tasks, as Django wants it, and the program. PostgreSQL only.

`django_absurd_tasks.py client URL` answers the benchmark, `django_absurd_tasks.py worker URL` works.
"""

from __future__ import annotations

import os
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
        TASKS={"default": {"BACKEND": "django_absurd.backends.AbsurdBackend"}},
        USE_TZ=True, SECRET_KEY="only for benchmarks", DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )  # fmt: skip
    django.setup()


if not settings.configured:
    configure(os.environ.get("BENCH_URL") or sys.argv[2])

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.tasks import task  # noqa: E402
from django_absurd import get_absurd_context  # noqa: E402
from stamps import noop, stamp  # noqa: E402

_ENDED = "SELECT count(*) FROM absurd.t_default WHERE state IN ('completed', 'failed')"


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

    def _ask(self, query: str, *given: Any) -> int:
        with connection.cursor() as cursor:
            cursor.execute(query, given)
            return int(cursor.fetchone()[0])


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        call_command("absurd_worker")
    else:
        from answering import answer

        answer(Client())
