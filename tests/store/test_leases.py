"""The life of a worker's row, and recovery: what becomes of the runs of an owner that is not alive."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connections

from canx_flow import signals, states
from canx_flow.core.clock import now
from canx_flow.models import Timer, Worker, WorkflowRun
from canx_flow.states import WorkerState
from canx_flow.store import leases
from canx_flow.store.db import engine

pytestmark = pytest.mark.django_db

MAX = 2  # MAX_RECOVERIES of these tests


@pytest.fixture(autouse=True)
def _few_recoveries(settings: Any) -> None:
    settings.CANX_FLOW = {"MAX_RECOVERIES": MAX}


def _worker(**more: Any) -> UUID:
    return leases.register(host="here", pid=1, **more).id


def _dead_worker() -> UUID:
    worker = _worker()
    assert leases.declare_dead(worker)
    return worker


def _run(owner: UUID | None, state: str = states.RUNNING, **more: Any) -> UUID:
    return WorkflowRun.objects.create(workflow="w", state=state, ready=False, owner_id=owner, epoch=4, **more).id


def _get(run: UUID) -> WorkflowRun:
    return WorkflowRun.objects.get(id=run)


def test_a_worker_registers_with_what_it_is() -> None:
    """Its row says who and where it is and what it takes, and it is alive."""
    worker = leases.register(
        host="web-1",
        pid=7,
        name="blue",
        queues=["a", "b"],
        workflows=[("w", ""), ("w", "2")],
        concurrency=16,
        socket="/tmp/s",
    )
    stored = Worker.objects.get(id=worker.id)
    assert (stored.host, stored.pid, stored.name, stored.concurrency) == ("web-1", 7, "blue", 16)
    assert (stored.queues, stored.workflows, stored.socket) == ('["a", "b"]', '[["w", ""], ["w", "2"]]', "/tmp/s")
    assert [row.id for row in leases.live_workers()] == [worker.id]


def test_two_workers_of_one_name_are_two_workers() -> None:
    """C101: the name is a label; each registers under its own id, and the death of one leaves the other's runs."""
    first, second = _worker(name="blue"), _worker(name="blue")
    mine, other = _run(first), _run(second)
    leases.declare_dead(first)
    assert leases.recover(first) == [mine]
    assert leases.recover(second) == []
    assert _get(other).owner_id == second


def test_a_beat_raises_the_counter() -> None:
    """Each beat adds one and carries what the worker is doing."""
    worker = _worker()
    assert leases.beat(worker, activity='{"run": 1}', abandoned=2)
    assert leases.beat(worker, activity='{"run": 2}', abandoned=3)
    stored = Worker.objects.get(id=worker)
    assert (stored.beat, stored.activity, stored.abandoned) == (2, '{"run": 2}', 3)


@pytest.mark.parametrize("end", [leases.declare_dead, leases.say_goodbye])
def test_an_ended_worker_cannot_beat(end: Any) -> None:
    """C084: the heartbeat of a worker that was found dead, or has left, is refused."""
    worker = _worker()
    assert end(worker)
    assert not leases.beat(worker)
    assert Worker.objects.get(id=worker).beat == 0
    assert leases.live_workers() == []


def test_a_worker_without_a_row_cannot_beat() -> None:
    """A worker whose row was deleted finds out at its next beat."""
    assert not leases.beat(uuid4())


def test_a_worker_ends_once() -> None:
    """Of two watchers one is told that it declared the death; leaving afterwards changes nothing."""
    worker = _worker()
    assert leases.declare_dead(worker)
    assert not leases.declare_dead(worker)
    assert not leases.say_goodbye(worker)
    stored = Worker.objects.get(id=worker)
    assert stored.state == WorkerState.DEAD
    assert stored.ended_at is not None


@pytest.mark.parametrize(
    ("state", "then", "ready"),
    [
        (states.RUNNING, states.PENDING, True),
        (states.STOPPING, states.STOPPING, True),
        (states.PAUSED, states.PAUSED, False),
    ],
)
def test_recovery_takes_the_run_from_its_owner(state: str, then: str, ready: bool) -> None:
    """C097: running goes on as pending, stopping stays stopping, paused stays paused; the old owner is fenced out."""
    owner = _dead_worker()
    run = _run(owner, state)
    assert leases.recover(owner) == [run]
    found = _get(run)
    assert (found.state, found.ready, found.owner_id, found.epoch, found.recoveries) == (then, ready, None, 5, 1)


@pytest.mark.parametrize("state", [states.PENDING, states.SLEEPING, states.PARKED, states.COMPLETED])
def test_recovery_leaves_runs_that_nobody_works_on(state: str) -> None:
    """Only running, paused and stopping runs have an owner to lose."""
    owner = _dead_worker()
    run = _run(owner, state)
    assert leases.recover(owner) == []
    assert _get(run).epoch == 4


def test_nothing_is_recovered_from_a_live_worker() -> None:
    """Whoever asks: while the worker's row is alive, its runs are its own."""
    owner = _worker()
    run = _run(owner)
    assert leases.recover(owner) == []
    assert _get(run).owner_id == owner


def test_recovery_comes_in_batches_by_age() -> None:
    """At most `limit` runs per transaction, the oldest first, until none is left."""
    owner = _dead_worker()
    runs = [_run(owner) for _ in range(5)]
    assert [leases.recover(owner, limit=2) for _ in range(4)] == [runs[:2], runs[2:4], runs[4:], []]


def test_runs_of_a_worker_without_a_row_are_recovered() -> None:
    """An owner that no row knows is not alive."""
    owner = uuid4()
    run = _run(owner)
    assert leases.owners_not_alive() == [owner]
    assert leases.recover(owner) == [run]
    assert leases.owners_not_alive() == []


def test_owners_that_are_not_alive_are_found() -> None:
    """Dead and departed owners are listed once each; live ones and those that own nothing are not."""
    live, idle, dead, gone = _worker(), _dead_worker(), _dead_worker(), _worker()
    leases.say_goodbye(gone)
    for owner in (live, dead, dead, gone):
        _run(owner)
    _run(idle, states.COMPLETED)
    assert set(leases.owners_not_alive()) == {dead, gone}
    assert len(leases.owners_not_alive()) == 2


def test_leaving_is_no_crash() -> None:
    """C103: what a worker that said goodbye left behind is recovered without counting against the run."""
    owner = _worker()
    run = _run(owner, recoveries=leases.ALONE_FROM + MAX)
    leases.say_goodbye(owner)
    assert leases.recover(owner) == [run]
    assert (_get(run).state, _get(run).recoveries) == (states.PENDING, leases.ALONE_FROM + MAX)


def test_a_run_that_kills_its_workers_is_parked(caplog: pytest.LogCaptureFixture) -> None:
    """C102: after MAX_RECOVERIES crashes while claimed alone it is parked with the reason, its neighbour unharmed."""
    heard: list[dict[str, Any]] = []

    def hear(sender: Any, **kwargs: Any) -> None:
        heard.append(kwargs)

    owner = _dead_worker()
    last_chance = _run(owner, recoveries=leases.ALONE_FROM + MAX - 2)
    killer = _run(owner, recoveries=leases.ALONE_FROM + MAX - 1)
    timer = Timer.objects.create(run_id=killer, kind="deadline", due_at=now())
    kept = Timer.objects.create(run_id=last_chance, kind="deadline", due_at=now())
    signals.run_parked.connect(hear)
    try:
        with caplog.at_level(logging.ERROR, "canx_flow.run"):
            assert leases.recover(owner) == [last_chance, killer]
    finally:
        signals.run_parked.disconnect(hear)
    found = _get(killer)
    assert (found.state, found.ready, found.owner_id, found.epoch) == (states.PARKED, False, None, 5)
    assert found.recoveries == leases.ALONE_FROM + MAX
    assert found.reason.startswith("TooManyRecoveries")
    assert _get(last_chance).state == states.PENDING
    assert Timer.objects.get(id=timer.id).held
    assert not Timer.objects.get(id=kept.id).held
    assert [record.levelname for record in caplog.records if str(killer) in record.getMessage()] == ["ERROR"]
    assert [kwargs["run_id"] for kwargs in heard] == [killer]


@pytest.mark.parametrize("state", [states.STOPPING, states.PAUSED])
def test_a_run_that_is_to_end_or_to_rest_is_not_parked(state: str) -> None:
    """A stopping run keeps its decided end and a paused one its pause, however often they were recovered."""
    owner = _dead_worker()
    run = _run(owner, state, recoveries=99)
    assert leases.recover(owner) == [run]
    assert (_get(run).state, _get(run).recoveries) == (state, 100)


def test_ended_workers_are_forgotten() -> None:
    """Rows of workers that ended long ago go, unless they still own a run; the living stay."""
    live, owning, recent, old = _worker(), _dead_worker(), _dead_worker(), _dead_worker()
    _run(owning)
    Worker.objects.filter(id__in=[live, owning, old]).update(ended_at=now() - timedelta(days=2))
    assert leases.forget_ended(now() - timedelta(days=1)) == 1
    assert set(Worker.objects.values_list("id", flat=True)) == {live, owning, recent}


@pytest.mark.django_db(transaction=True)
def test_recovery_does_not_wait_for_a_locked_run(tier: str) -> None:
    """P13: a run that somebody's open transaction has locked is left for the next time; its neighbours go on."""
    if not connections["default"].features.has_select_for_update_skip_locked:
        pytest.skip(f"{tier} skips no locks")
    owner = _dead_worker()
    locked, free = _run(owner), _run(owner)
    view = engine.open_connection("default")
    try:
        with engine.transaction(view), view.cursor() as cursor:
            key = WorkflowRun._meta.pk.get_db_prep_value(locked, view)
            cursor.execute(f"SELECT id FROM {WorkflowRun._meta.db_table} WHERE id = %s FOR UPDATE", [key])
            assert leases.recover(owner) == [free]
    finally:
        engine.reset(view)
    assert leases.recover(owner) == [locked]


@pytest.mark.django_db(databases=["default", "other"])
def test_workers_live_in_the_configured_database(settings: Any) -> None:
    """`CANX_FLOW["DATABASE"]` says where workers register and runs are recovered."""
    settings.CANX_FLOW = {"DATABASE": "other"}
    worker = _worker()
    leases.declare_dead(worker)
    run = WorkflowRun.objects.using("other").create(workflow="w", state=states.RUNNING, owner_id=worker)
    assert leases.recover(worker) == [run.id]
    assert not Worker.objects.using("default").exists()


@pytest.mark.django_db
def test_a_claim_whose_answer_was_lost_is_found_behind_any_number_of_known_ones() -> None:
    """Those that the worker knows do not use up what one look may find."""
    owner = leases.register(host="here", pid=1).id
    WorkflowRun.objects.bulk_create(
        WorkflowRun(workflow="w", state="running", ready=False, owner_id=owner, epoch=1) for _ in range(8)
    )
    *known, lost = WorkflowRun.objects.order_by("id").values_list("id", flat=True)
    assert leases.disown(owner, {(run_id, 1) for run_id in known}, limit=3) == [lost]
    assert WorkflowRun.objects.get(id=lost).ready
