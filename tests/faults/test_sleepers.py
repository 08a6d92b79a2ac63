"""Ten thousand sleeping runs are rows, and nothing else."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from django.db import connection

from canx_flow.models import Timer, WorkflowRun

from .. import workflows
from ..processes import WorkerProcess, Workers
from ..waiting import wait_until

SLEEPERS = 10_000
CONCURRENCY = 16
#: Main, heartbeat, committer, watchdog, signals, deadlines, LISTEN.
THREADS = 7
#: Main, heartbeat, committer, LISTEN.
CONNECTIONS = 4


def _threads(worker: WorkerProcess) -> int:
    return len(list(Path(f"/proc/{worker.pid}/task").iterdir()))


def _connections(worker: WorkerProcess) -> int:
    """How many connections to the test database there are, this test's own left out; of a SQLite file: open files."""
    if connection.vendor == "sqlite":
        name = connection.settings_dict["NAME"]
        return sum(_target(file) == name for file in Path(f"/proc/{worker.pid}/fd").iterdir())
    statement = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
        "mysql": "SELECT count(*) FROM information_schema.processlist WHERE db = database() AND id <> connection_id()",
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return int(cursor.fetchone()[0])


def _target(file: Path) -> str:
    try:
        return str(file.readlink())
    except OSError:
        return ""  # Closed meanwhile.


def test_c040_ten_thousand_sleepers_hold_nothing(workers: Workers, effects: ModuleType) -> None:
    """C040: no thread, connection or slot is held for them, and any of them still wakes at once."""
    runs = workflows.sleeper.start_many((number,) for number in range(SLEEPERS))
    worker = workers.start("--concurrency", str(CONCURRENCY))
    sleeping = WorkflowRun.objects.filter(state="sleeping", owner=None)
    # The first question is cheap, and decides nearly every time.
    ready = WorkflowRun.objects.filter(ready=True)
    wait_until(lambda: not ready.exists() and sleeping.count() == SLEEPERS, timeout=120)
    assert Timer.objects.count() == SLEEPERS
    assert _threads(worker) <= CONCURRENCY + THREADS
    # Slots that have nothing to do close their connections after a moment.
    wait_until(lambda: _connections(worker) <= CONNECTIONS, message="connections are held")

    held = {label: workflows.held.start(label) for label in map(str, range(CONCURRENCY))}
    wait_until(lambda: all(effects.count(f"at {label}") for label in held), message="slots are held")
    for label, run in held.items():
        effects.release(label)
        assert workflows.held.result(run, timeout=20) == label

    assert workflows.sleeper.wake(runs[4711])
    assert workflows.sleeper.result(runs[4711], timeout=20) == 4711
    assert sleeping.count() == SLEEPERS - 1
