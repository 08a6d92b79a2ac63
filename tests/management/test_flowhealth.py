"""`flowhealth` as probes and people use it: its exit statuses, its lines, its JSON."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from canx_flow.core import clock
from canx_flow.models import Timer, Worker, WorkflowRun
from canx_flow.states import Kind
from canx_flow.store import leases

from ..processes import Workers, manage
from ..waiting import wait_until
from ..workflows import held
from .test_runflowworker import NO_DATABASE

pytestmark = pytest.mark.django_db


def flowhealth(*options: str, **more: Any) -> tuple[int, str]:
    """Its exit status, and what it prints."""
    out = io.StringIO()
    try:
        call_command("flowhealth", *options, stdout=out, stderr=out, **more)
    except SystemExit as left:
        return int(left.code or 0), out.getvalue()
    return 0, out.getvalue()


def test_healthy_is_0() -> None:
    """A live worker and nothing that waits: a few lines."""
    leases.register(host="web-1", pid=1, name="blue")
    code, text = flowhealth()
    assert code == 0
    assert text.splitlines() == [
        "healthy",
        "  workers   1 live (blue)",
        "  due       none",
        "  retrying  none",
        "  timers    none stuck",
        "  threads   none abandoned",
        "  steps     none without a timeout for over 1 h",
    ]


def test_unhealthy_is_1() -> None:
    """And each problem has a line."""
    code, text = flowhealth()
    assert code == 1
    assert text.splitlines()[0] == "unhealthy"
    assert "problem   no live worker, at least 1 wanted" in text
    assert flowhealth("--min-workers", "0")[0] == 0


def test_json_says_the_same() -> None:
    """For programs, with keys that stay; the exit status is the same."""
    row = leases.register(host="web-1", pid=1, name="blue", queues=["mail"])
    Worker.objects.filter(id=row.id).update(abandoned=1)
    old = clock.now() - timedelta(seconds=600)
    run = WorkflowRun.objects.create(workflow="w", created_at=old)
    Timer.objects.create(run_id=run.id, kind=Kind.SLEEP, step="nap", due_at=old)
    code, text = flowhealth("--json", "--max-age", "3600")
    found = json.loads(text)
    assert (code, found["healthy"], len(found["problems"])) == (1, False, 2)
    looked_at = {"workers", "due", "unserved_queues", "retrying", "stuck_timers", "long_steps", "blocked_event_loops"}
    assert set(found) == {"healthy", "problems", "warnings", "at"} | looked_at
    (worker,) = found["workers"].pop("list")
    assert found["workers"] == {"live": 1, "silent": 0, "abandoned_threads": 1}
    assert (worker["id"], worker["name"], worker["queues"], worker["live"]) == (str(row.id), "blue", ["mail"], True)
    assert found["due"]["count"] == 1
    assert (found["due"]["oldest"]["id"], found["due"]["oldest"]["queue"]) == (str(run.id), "default")
    assert found["due"]["oldest"]["age"] >= 600
    assert found["stuck_timers"]["list"][0]["run"] == str(run.id)
    assert (found["long_steps"], found["blocked_event_loops"]) == ([], [])
    assert found["unserved_queues"] == [{"queue": "default", "due": 1}]
    assert found["retrying"] == {"count": 0, "oldest": None}
    assert len(found["warnings"]) == 1


def test_warnings_are_problems_when_strict() -> None:
    """Threads left behind do not end a worker that works, unless one asks for it."""
    row = leases.register(host="web-1", pid=1)
    Worker.objects.filter(id=row.id).update(abandoned=3)
    code, text = flowhealth()
    assert (code, "warning   3 threads left behind" in text) == (0, True)
    code, text = flowhealth("--strict")
    assert (code, "problem   3 threads left behind" in text) == (1, True)


def test_queues_and_limits(settings: Any) -> None:
    """Every limit of `health.Limits` has its option."""
    settings.CANX_FLOW = {"POLL_SECONDS": 0.01}
    row = leases.register(host="web-1", pid=1, queues=["mail"])
    Worker.objects.filter(id=row.id).update(beat_at=clock.now() - timedelta(seconds=100))
    assert flowhealth("--queue", "mail")[0] == 1
    assert flowhealth("--queue", "mail", "--heartbeat-age", "200")[0] == 0
    assert flowhealth("--queue", "mail", "--heartbeat-age", "200", "--min-workers", "2")[0] == 1
    assert flowhealth("--queue", "mail", "--queue", "other", "--heartbeat-age", "200")[0] == 1
    created = clock.now() - timedelta(seconds=100)
    run = WorkflowRun.objects.create(workflow="w", queue="mail", created_at=created)
    options = ("--queue", "mail", "--heartbeat-age", "200")
    assert flowhealth(*options)[0] == 0
    assert flowhealth(*options, "--max-age", "50")[0] == 1
    Timer.objects.create(run_id=run.id, kind=Kind.SLEEP, due_at=created)
    assert flowhealth(*options)[0] == 1
    assert flowhealth(*options, "--stuck-after", "200")[0] == 0


@pytest.mark.once
@pytest.mark.parametrize(
    "options", [["--max-age", "-1"], ["--stuck-after", "nan"], ["--step-age", "inf"], ["--min-workers", "-1"],
                ["--heartbeat-age", "-0.5"]],
)  # fmt: skip
def test_wrong_arguments_are_refused_by_name(options: list[str]) -> None:
    """Exit status 2, before anything is asked."""
    with pytest.raises(CommandError, match=options[0]) as caught:
        call_command("flowhealth", *options)
    assert caught.value.returncode == 2


# -- as a process --------------------------------------------------------------------------------------


@pytest.mark.once
def test_wrong_arguments_exit_with_2() -> None:
    """Of argparse and of ours, without a traceback."""
    for options in (["--max-age", "long"], ["--max-age", "-1"], ["--nonsense"]):
        ended = manage("flowhealth", *options)
        assert ended.returncode == 2
        assert "Traceback" not in ended.stderr


def test_a_database_that_is_away_is_unhealthy(tier: str) -> None:
    """Exit status 1 and one line, no traceback; for programs JSON that says so."""
    ended = manage("flowhealth", DATABASE_URL=NO_DATABASE[tier])
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "is away" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    ended = manage("flowhealth", "--json", DATABASE_URL=NO_DATABASE[tier])
    assert ended.returncode == 1
    found = json.loads(ended.stdout)
    assert found["healthy"] is False
    assert "is away" in found["problems"][0]


@pytest.mark.once
def test_missing_tables_are_unhealthy(tmp_path: Any) -> None:
    """Exit status 1, and what to do."""
    ended = manage("flowhealth", DATABASE_URL=f"sqlite:///{tmp_path / 'empty.sqlite3'}")
    assert ended.returncode == 1
    assert "migrate" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_beside_a_real_worker(workers: Workers, effects: ModuleType) -> None:
    """Healthy while it lives, with the step that it is in; not when it is gone."""
    run_id = held.start("it")
    worker = workers.start("--name", "blue")
    reported = Worker.objects.filter(activity__contains=str(run_id))
    wait_until(reported.exists)
    ended = manage("flowhealth", "--json", "--step-age", "0")
    assert ended.returncode == 0, ended.stdout
    found = json.loads(ended.stdout)
    assert [entry["name"] for entry in found["workers"]["list"]] == ["blue"]
    assert [(long["run"], long["step"]) for long in found["long_steps"]] == [(str(run_id), "held")]
    assert manage("flowhealth", "--step-age", "0", "--strict").returncode == 1
    assert "running  held, " in manage("flow", "show", str(run_id)).stdout
    effects.release("it")
    worker.terminate()
    assert worker.wait() == 0
    assert manage("flowhealth").returncode == 1
