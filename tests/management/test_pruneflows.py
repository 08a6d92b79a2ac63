"""`pruneflows` as cron and people use it."""

from __future__ import annotations

import io
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command

from canx_flow.core import clock
from canx_flow.core.identity import first_id_at
from canx_flow.models import Event, RunKey, StepRecord, Timer, Worker, WorkflowRun
from canx_flow.states import WorkerState
from canx_flow.store import forgetting, leases, pruning
from canx_flow.store.db import sqlite

from ..elsewhere import elsewhere
from ..processes import Workers, manage
from ..store.locking import open_transaction
from ..waiting import wait_until
from ..workflows import two_steps

pytestmark = pytest.mark.django_db


def pruneflows(*options: str, **more: Any) -> str:
    """What it prints."""
    out = io.StringIO()
    call_command("pruneflows", *options, stdout=out, stderr=out, **more)
    return out.getvalue()


_numbers = itertools.count()


def ended(days: float = 40, state: str = "completed", workflow: str = "w") -> UUID:
    """A run that ended so many days ago."""
    moment = clock.now() - timedelta(days=days)
    run_id = UUID(int=first_id_at(moment).int + next(_numbers))
    return WorkflowRun.objects.create(
        id=run_id, workflow=workflow, state=state, ready=False, finished_at=moment - timedelta(seconds=1)
    ).id


def left() -> set[UUID]:
    """The runs that are still there."""
    return set(WorkflowRun.objects.values_list("id", flat=True))


def old_event() -> Event:
    """A broadcast that is too old to be read."""
    return Event.objects.create(name="old", delivered=True, created_at=clock.now() - timedelta(days=400))


def left_long_ago() -> UUID:
    """A worker that left two days ago."""
    worker = leases.register(host="h", pid=1)
    Worker.objects.filter(id=worker.id).update(state=WorkerState.STOPPED, ended_at=clock.now() - timedelta(days=2))
    return worker.id


@pytest.mark.django_db(transaction=True)
def test_where_nothing_is_old_no_lock_is_waited_for() -> None:
    """Somebody's transaction writes all the while: SQLite has one lock for all of the database."""
    young = leases.register(host="h", pid=1)
    with open_transaction(lambda: Event.objects.create(name="young")):
        found = elsewhere(lambda: pruneflows("--older-than", "30")).result(30)
    assert found == "Deleted 0 runs, 0 old events, 0 workers that had left.\n"
    assert Worker.objects.get().id == young.id


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["runs", "events", "workers"])
def test_what_finds_the_database_locked_is_tried_again(tier: str, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """The lock of SQLite's writers is not to be had for all the time allowed, and is free at last."""
    if tier != "sqlite":
        pytest.skip("others lock rows: test_a_deadlock_is_tried_again")
    module, name, make = {
        "runs": (pruning, "_prune", ended),
        "events": (forgetting, "forget", old_event),
        "workers": (leases, "forget_ended", left_long_ago),
    }[what]
    make()
    tried, real = [], getattr(module, name)

    def noted(*arguments: Any) -> Any:
        tried.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(module, name, noted)
    monkeypatch.setattr(sqlite, "patience", lambda: 1.0)
    with open_transaction(lambda: Event.objects.create(name="young")):
        pruned = elsewhere(lambda: json.loads(pruneflows("--older-than", "30", "--json")))
        wait_until(lambda: len(tried) > 1 or pruned.done())
    assert pruned.result(30)["deleted"] == {"runs": 0, "events": 0, "workers": 0} | {what: 1}


def test_without_a_retention_nothing_is_deleted() -> None:
    """Neither the option nor the setting: it asks, and does nothing."""
    run_id = ended(days=10_000)
    with pytest.raises(CommandError, match="RETENTION_DAYS") as caught:
        pruneflows()
    assert caught.value.returncode == 2
    assert left() == {run_id}


def test_the_setting_is_the_retention(settings: Any) -> None:
    """Unless --older-than says otherwise."""
    settings.CANX_FLOW = {"RETENTION_DAYS": 30}
    _old, young, fresh = ended(40), ended(20), ended(0.5)
    assert pruneflows() == "Deleted 1 run, 0 old events, 0 workers that had left.\n"
    assert left() == {young, fresh}
    pruneflows("--older-than", "10.5")
    assert left() == {fresh}
    pruneflows("--older-than", "0")
    assert left() == set()


def test_a_dry_run_counts_and_changes_nothing() -> None:
    """By workflow and state, with the sum."""
    for state, name in (("completed", "b"), ("failed", "a"), ("completed", "a"), ("completed", "a")):
        ended(state=state, workflow=name)
    Event.objects.create(name="old", delivered=True, created_at=clock.now() - timedelta(days=400))
    before = left()
    lines = pruneflows("--older-than", "30", "--dry-run").splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["2", "completed", "a"],
        ["1", "failed", "a"],
        ["1", "completed", "b"],
    ]
    assert lines[3].split()[:4] == ["4", "would", "be", "deleted:"]
    found = json.loads(pruneflows("--older-than", "30", "--dry-run", "--json"))
    assert found["runs"] == [
        {"workflow": "a", "state": "completed", "runs": 2},
        {"workflow": "a", "state": "failed", "runs": 1},
        {"workflow": "b", "state": "completed", "runs": 1},
    ]
    assert left() == before
    assert Event.objects.exists()


def test_filters_and_batches() -> None:
    """Workflows and states are alternatives each; with -v 2 every batch is told."""
    gone = [ended(state="failed", workflow="a") for _ in range(5)]
    kept = {ended(state="failed", workflow="b"), ended(workflow="a")}
    options = ("--older-than", "30", "--workflow", "a", "--state", "failed", "--batch-size", "2", "-v", "2")
    lines = pruneflows(*options).splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["2", "2", "1"]
    assert lines[3].startswith("Deleted 5 runs")
    assert left() == kept
    assert not left().intersection(gone)


def test_old_broadcasts_and_workers_are_forgotten_too(settings: Any) -> None:
    """What workers forget now and then, for where none is running: all of it, however much has gathered."""
    settings.CANX_FLOW = {"EVENT_DAYS": 10}
    moment = clock.now() - timedelta(days=11)
    Event.objects.bulk_create(Event(name="old", delivered=True, created_at=moment) for _ in range(1500))
    Event.objects.create(name="young", delivered=True)
    Event.objects.create(name="orphan", run_id=UUID(int=1))
    for ended_at in (moment, clock.now()):
        row = leases.register(host="h", pid=1)
        Worker.objects.filter(id=row.id).update(state=WorkerState.STOPPED, ended_at=ended_at)
    found = json.loads(pruneflows("--older-than", "30", "--json"))
    assert found["deleted"] == {"runs": 0, "events": 1501, "workers": 1}
    assert [event.name for event in Event.objects.all()] == ["young"]
    assert Worker.objects.count() == 1


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--older-than", "-1"], "--older-than"),
        (["--older-than", "nan"], "--older-than"),
        (["--older-than", "0d"], "must be a number of days, such as 30"),
        (["--older-than", "1e9"], "--older-than"),
        (["--older-than", "1", "--batch-size", "0"], "--batch-size"),
        (["--older-than", "1", "--batch-size", "100000"], "--batch-size"),
        (["--older-than", "1", "--state", "running"], "--state"),
    ],
)
def test_wrong_arguments_are_refused_by_name(options: list[str], named: str) -> None:
    """What has not ended cannot be chosen either."""
    with pytest.raises(CommandError, match=named):
        pruneflows(*options)


# -- as a process --------------------------------------------------------------------------------------


@pytest.mark.once
def test_exit_statuses_of_wrong_calls() -> None:
    """2 for arguments, and for no retention; one line each."""
    for options, code in ((["--older-than", "-1"], 2), (["--state", "x"], 2), ([], 2)):
        process = manage("pruneflows", *options)
        assert process.returncode == code
        assert "Traceback" not in process.stderr


def test_beside_live_workers(workers: Workers, effects: ModuleType) -> None:
    """Two of them at once, while runs start and end: nothing fails, and what is left is whole."""
    workers.start()
    ids = [two_steps.using(key=f"run-{number}").start(str(number)) for number in range(60)]
    with ThreadPoolExecutor() as pool:
        options = ("--older-than", "0", "--batch-size", "5")
        for process in pool.map(lambda _: manage("pruneflows", *options), range(2)):
            assert process.returncode == 0, process.stderr
    wait_until(lambda: not WorkflowRun.objects.exclude(state="completed").exists())
    assert manage("pruneflows", "--older-than", "0").returncode == 0
    assert len(effects.read()) == 2 * len(ids)
    assert not WorkflowRun.objects.exists()
    for model in (RunKey, StepRecord, Timer, Event):
        assert not model._default_manager.exists()
