"""The command as people and init systems meet it: its banner, its signals, its exit codes."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from canx_flow.models import Worker
from canx_flow.states import WorkerState
from canx_flow.worker.loop import WorkerLoop

from ..processes import BANNER, Workers, manage
from ..waiting import wait_until
from ..workflows import two_steps

NO_DATABASE = {
    "sqlite": "sqlite:////no/such/folder/db.sqlite3",
    "postgresql": "postgres://postgres@127.0.0.1:1/test",
    "mysql": "mysql://root@127.0.0.1:1/test",
}


def _children(pid: int) -> list[int]:
    """PIDs of the living children of a process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(stat.parent.name))
    return found


def _alive_workers() -> list[Worker]:
    return list(Worker.objects.filter(state=WorkerState.ALIVE))


def _banners(log: str) -> list[str]:
    return [line for line in log.splitlines() if line.startswith(BANNER)]


def test_a_worker_says_who_it_is(workers: Workers, tier: str) -> None:
    """One line at its start: version, name, PID, queues, database, workflows, concurrency."""
    worker = workers.start("--name", "blue", "--queue", "a", "--queue", "b", "--concurrency", "3")
    (banner,) = _banners(worker.log())
    for said in ("worker blue", f"pid {worker.pid}", "queues a, b", f"{tier} database 'default'", "concurrency 3"):
        assert said in banner
    row = wait_until(_alive_workers)[0]
    assert (row.name, row.queues, row.concurrency, row.pid) == ("blue", '["a", "b"]', 3, worker.pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_worker_leaves_when_asked(workers: Workers, number: signal.Signals) -> None:
    """C104: TERM or INT ends it with 0, long before its time is over, and its row says that it left."""
    worker = workers.start()
    wait_until(_alive_workers)
    worker.signal(number)
    assert worker.wait(10) == 0
    assert not _alive_workers()


def test_a_burst_ends_when_nothing_is_due(workers: Workers, effects: ModuleType) -> None:
    """--burst: it runs what is there and exits with 0."""
    ids = [two_steps.start(str(number)) for number in range(5)]
    worker = workers.start("--burst", banner=False)
    assert worker.wait() == 0
    assert {two_steps.status(run).state for run in ids} == {"completed"}
    assert len(effects.read()) == 10


def test_a_worker_ends_after_its_runs(workers: Workers, effects: ModuleType) -> None:
    """--max-runs: it takes no more than that, and exits with 0."""
    ids = [two_steps.start(str(number)) for number in range(5)]
    worker = workers.start("--max-runs", "2", banner=False)
    assert worker.wait() == 0
    states = sorted(two_steps.status(run).state for run in ids)
    assert states == ["completed"] * 2 + ["pending"] * 3


def test_the_heartbeat_file_is_touched(workers: Workers, tmp_path: Path) -> None:
    """--heartbeat-file: it stays young for as long as the worker lives."""
    file = tmp_path / "alive"
    workers.start("--heartbeat-file", str(file))
    touched = file.stat().st_mtime_ns
    assert wait_until(lambda: file.stat().st_mtime_ns > touched)


def test_several_processes_are_several_workers(workers: Workers) -> None:
    """--processes: one that dies is replaced, and TERM to the parent ends all with 0."""
    parent = workers.start("--processes", "2", "--no-reload")
    first = wait_until(lambda: rows if len(rows := _alive_workers()) == 2 else [])
    assert {row.pid for row in first} == set(_children(parent.pid))
    os.kill(first[0].pid, signal.SIGKILL)
    wait_until(lambda: len({row.pid for row in _alive_workers()} - {row.pid for row in first}) == 1)
    parent.terminate()
    assert parent.wait() == 0
    assert not _alive_workers()


def test_an_interrupt_of_the_whole_group_is_the_parents_matter(workers: Workers) -> None:
    """Ctrl-C reaches the children, too: they leave as their parent says, in good order."""
    parent = workers.start("--processes", "2", "--no-reload")
    wait_until(lambda: len(_alive_workers()) == 2)
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.wait() == 0
    assert not _alive_workers()
    assert "KeyboardInterrupt" not in parent.log()


def test_children_do_not_outlive_their_parent(workers: Workers) -> None:
    """kill -9 of the parent: its workers say goodbye and hand their runs back."""
    parent = workers.start("--processes", "2", "--no-reload")
    wait_until(lambda: len(_alive_workers()) == 2)
    parent.kill()
    wait_until(lambda: not _alive_workers())
    assert set(Worker.objects.values_list("state", flat=True)) == {WorkerState.STOPPED}


def test_a_reloading_worker_obeys_its_parent(workers: Workers) -> None:
    """--reload: the worker is a child of the process that was started, and ends with it."""
    parent = workers.start("--reload")
    (row,) = wait_until(_alive_workers)
    assert [row.pid] == _children(parent.pid)
    parent.terminate()
    assert parent.wait() == 0
    assert not _alive_workers()


@pytest.mark.once
def test_it_refuses_to_start_without_tables(workers: Workers, tmp_path: Path) -> None:
    """Missing migrations: exit 1, and what to do, with several processes as with one."""
    empty = f"sqlite:///{tmp_path / 'empty.sqlite3'}"
    for options in ([], ["--processes", "2"], ["--reload"]):
        worker = workers.start(*options, env={"DATABASE_URL": empty}, banner=False)
        assert worker.wait() == 1
        assert "migrate" in worker.log()
        assert "0001_initial" in worker.log()
        assert "Traceback" not in worker.log()


@pytest.mark.once
@pytest.mark.parametrize("wrong", ['{"LEASE_SECONDS": "long"}', '{"LEASE_SECOND": 3}'])
def test_it_refuses_to_start_with_wrong_settings(wrong: str) -> None:
    """A setting that cannot be meant: exit 1, naming it."""
    ended = manage("runflowworker", "--burst", CANX_FLOW=wrong)
    assert ended.returncode == 1
    assert "LEASE_SECOND" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_it_waits_for_a_database_that_is_away(workers: Workers, tier: str, tmp_path: Path) -> None:
    """At its start, too: it warns, tries again, is known to be alive meanwhile, and leaves with 0 when asked."""
    file = tmp_path / "alive"
    worker = workers.start("--heartbeat-file", str(file), env={"DATABASE_URL": NO_DATABASE[tier]}, banner=False)
    worker.wait_log("The database is away")
    touched = file.stat().st_mtime_ns
    wait_until(lambda: file.stat().st_mtime_ns > touched)
    worker.terminate()
    assert worker.wait(15) == 0
    assert "Traceback" not in worker.log()


def test_a_burst_does_not_wait_for_a_database_that_is_away(workers: Workers, tier: str) -> None:
    """--burst is for scripts: it says why, and exits with 1."""
    worker = workers.start("--burst", env={"DATABASE_URL": NO_DATABASE[tier]}, banner=False)
    assert worker.wait() == 1
    assert "The database is away" in worker.log()


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"concurrency": 0}, "--concurrency"),
        ({"processes": 0}, "--processes"),
        ({"poll_interval": 0.0}, "--poll-interval"),
        ({"poll_interval": float("nan")}, "--poll-interval"),
        ({"shutdown_timeout": -1.0}, "--shutdown-timeout"),
        ({"shutdown_timeout": float("inf")}, "--shutdown-timeout"),
        ({"max_runs": 0}, "--max-runs"),
        ({"queue": [""]}, "--queue"),
        ({"queue": ["a", "b" * 101]}, "--queue"),
        ({"name": "n" * 201}, "--name"),
        ({"heartbeat_file": "/no/such/folder/alive"}, "--heartbeat-file"),
        ({"reload": True}, "--reload"),
        ({"processes": 2}, "--processes"),
    ],
)
def test_wrong_arguments_are_refused_by_name(options: dict[str, Any], named: str) -> None:
    """Exit code 2, before anything else is done; the message names the option."""
    with pytest.raises(CommandError, match=named) as caught:
        call_command("runflowworker", **options)
    assert caught.value.returncode == 2


@pytest.mark.once
@pytest.mark.parametrize(
    "options", [["--concurrency", "0"], ["--concurrency", "many"], ["--burst", "--reload"], ["--x"]]
)
def test_wrong_arguments_exit_with_2(options: list[str]) -> None:
    """What the command line gets for them, without a traceback."""
    ended = manage("runflowworker", *options)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


_HUGE = "9" * 5000


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"concurrency": 3_000_000_000}, "--concurrency must be from 1 to 10,000"),
        ({"concurrency": -(10**400)}, "--concurrency must be from 1 to 10,000"),
        ({"processes": 3_000_000_000}, "--processes must be from 1 to 1,000"),
        ({"max_runs": 10**400}, "--max-runs must be from 1 to 1,000,000,000"),
        ({"poll_interval": 1e300}, "--poll-interval must be from 0.001 to 1,000,000,000"),
        ({"poll_interval": float("nan")}, "--poll-interval must be from 0.001 to"),
        ({"shutdown_timeout": float("inf")}, "--shutdown-timeout must be from 0 to 1,000,000,000"),
        ({"shutdown_timeout": -1}, "--shutdown-timeout must be from 0 to"),
        ({"name": "a\udcffb"}, "not text in this terminal's encoding"),
        ({"queue": ["a\udcffb"]}, "not text in this terminal's encoding"),
        ({"heartbeat_file": Path("a\x00b")}, "--heartbeat-file cannot be written"),
    ],
    ids=str,
)
def test_every_number_has_bounds_and_every_text_is_text(options: dict[str, Any], said: str) -> None:
    """Refused with 2 before anything is asked: no worker could be registered with them, and it would try for ever."""
    with pytest.raises(CommandError) as caught:
        call_command("runflowworker", **options)
    assert said in str(caught.value)
    assert caught.value.returncode == 2


@pytest.mark.once
@pytest.mark.parametrize(
    "words",
    [
        ["runflowworker", "--concurrency", "3000000000"],
        ["runflowworker", "--concurrency", f"-{_HUGE}"],
        ["runflowworker", "--poll-interval", _HUGE],
        ["runflowworker", "--name", "caf\udce9"],
        ["flowhealth", "--max-age", _HUGE],
        ["flowhealth", "--min-workers", _HUGE],
        ["flowhealth", "--queue", "caf\udce9"],
        ["pruneflows", "--older-than", _HUGE],
        ["pruneflows", "--batch-size", _HUGE],
        ["pruneflows", "--older-than", "1", "--workflow", "caf\udce9"],
    ],
    ids=lambda words: " ".join(words)[:40].encode("ascii", "replace").decode(),
)
def test_what_no_program_can_take_ends_with_2_and_one_line(words: list[str]) -> None:
    """Numbers of thousands of digits, and bytes that are no text: as from a script that went wrong."""
    ended = manage(*words)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.once
def test_what_a_parent_says_to_its_children_is_not_for_people() -> None:
    """The help shows every public option, and none that is not."""
    text = manage("runflowworker", "--help").stdout
    for option in ("--queue", "--concurrency", "--processes", "--poll-interval", "--burst", "--max-runs", "--name"):
        assert option in text
    for option in ("--shutdown-timeout", "--heartbeat-file", "--reload", "--no-reload"):
        assert option in text
    assert "--obey" not in text


@pytest.mark.django_db(transaction=True)
def test_it_can_be_called_from_code(effects: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """call_command runs the worker in this process, and gives the signals back."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    run = two_steps.start("here")
    call_command("runflowworker", burst=True)
    assert two_steps.result(run, timeout=5) == "here"
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert len(_banners(capsys.readouterr().out)) == 1


@pytest.mark.django_db
def test_inside_a_transaction_it_refuses_and_names_what_to_call() -> None:
    """In a TestCase a worker's threads would see none of its rows, and the test's own connection would be closed."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    run = two_steps.start("here")
    with pytest.raises(CommandError, match=r"inside a transaction on 'default'.*run_until_idle\(\)"):
        call_command("runflowworker", burst=True)
    assert two_steps.status(run).state == "pending"
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.django_db(transaction=True)
def test_beside_a_test_it_runs_in_a_thread(effects: ModuleType) -> None:
    """As for a LiveServerTestCase: it leaves no connection open, for which the test database could not be dropped."""
    run = two_steps.start("there")
    thread = threading.Thread(target=call_command, args=("runflowworker",), kwargs={"max_runs": 1})
    thread.start()
    assert two_steps.result(run, timeout=20) == "there"
    thread.join(20)
    assert not thread.is_alive()
    if connection.vendor == "postgresql":
        others = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )
        with connection.cursor() as cursor:
            # A backend outlives its client by a moment.
            assert wait_until(lambda: cursor.execute(others) or not cursor.fetchall())


@pytest.mark.once
@pytest.mark.django_db(transaction=True)
def test_a_fatal_end_is_its_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the loop answers is what the command exits with."""
    monkeypatch.setattr(WorkerLoop, "run", lambda _loop: 1)
    with pytest.raises(SystemExit) as caught:
        call_command("runflowworker", burst=True)
    assert caught.value.code == 1
