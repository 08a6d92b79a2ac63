"""The committer: what a thread hands in is answered, whatever the background thread did meanwhile."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from itertools import pairwise
from queue import SimpleQueue
from typing import Any
from uuid import UUID

import pytest

from canx_flow.core import clock
from canx_flow.core.changes import Change, Outcome, Record, Settle, Suspension, Wait, Waits
from canx_flow.models import StepRecord, WorkflowRun
from canx_flow.store import leases, writes
from canx_flow.worker import committer as committer_module
from canx_flow.worker.committer import Committer
from tests.waiting import wait_until

from ..store.locking import locked_runs


@pytest.mark.django_db(transaction=True)
def test_a_locked_run_is_stored_though_the_background_thread_had_gone_to_sleep(
    tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that is on its way when the background thread finds nothing to do, and comes back busy, is not lost."""
    if tier == "sqlite":
        pytest.skip("there is one writer at a time: no single row is locked")
    owner = leases.register(host="here", pid=1).id
    run = WorkflowRun.objects.create(workflow="w", state="running", ready=False, owner_id=owner, epoch=1)
    committer = Committer("default", owner)
    real = writes.write
    writing = threading.Event()

    def slow(*arguments: Any) -> list[Outcome]:
        monkeypatch.setattr(writes, "write", real)
        writing.set()
        wait_until(lambda: not committer._bell.armed)
        return real(*arguments)

    monkeypatch.setattr(writes, "write", slow)
    with locked_runs([run.id]):
        pending = committer.store(Change(run.id, 1, inserts=[_record("a")]))
        waiting = threading.Thread(target=pending.wait, daemon=True)
        waiting.start()
        assert writing.wait(10)
        committer.start()
        assert wait_until(lambda: pending.held)
    try:
        assert wait_until(lambda: pending.outcome).stored
    finally:
        waiting.join(10)
        committer.stop()


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of changes in each batch that is written from now on."""
    found: list[int] = []
    real = writes.write

    def counted(*arguments: Any) -> list[Outcome]:
        found.append(len(arguments[-1]))
        return real(*arguments)

    monkeypatch.setattr(writes, "write", counted)
    return found


def _record(name: str) -> Record:
    now = clock.now()
    return Record(1, name, "step", "completed", 1, 1, "null", started_at=now, finished_at=now)


def _stored(committer: Committer, owner: UUID, count: int) -> None:
    """So many runs have one record each stored, all handed in before the first is written."""
    runs = [WorkflowRun(workflow="w", state="running", ready=False, owner_id=owner, epoch=1) for _ in range(count)]
    WorkflowRun.objects.bulk_create(runs)
    changes = [Change(run.id, 1, inserts=[_record("a")]) for run in runs]
    tickets = [committer.store(change) for change in changes]
    committer.start()
    assert all(ticket.wait().stored for ticket in tickets)
    committer.stop()
    assert StepRecord.objects.filter(run__in=runs).count() == count


@pytest.mark.django_db(transaction=True)
def test_an_idle_connection_takes_what_waits_in_small_groups(sizes: list[int]) -> None:
    """Runs that were committed together go on together: while there is time, they are not all committed together."""
    owner = leases.register(host="here", pid=1).id
    _stored(Committer("default", owner), owner, 48)
    assert len(sizes) >= 2
    assert sizes[0] == 16


@pytest.mark.django_db(transaction=True)
def test_a_busy_connection_takes_more_and_more_at_once(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each commit takes long, there are few of them: the groups grow as the connection has no time left."""
    owner = leases.register(host="here", pid=1).id
    counted = writes.write

    def slow(*arguments: Any) -> list[Outcome]:
        time.sleep(0.03)  # A disk far away.
        return counted(*arguments)

    monkeypatch.setattr(writes, "write", slow)
    _stored(Committer("default", owner), owner, 400)
    assert max(sizes) > 64
    assert len(sizes) <= 16


@pytest.mark.django_db(transaction=True)
def test_runs_that_somebody_has_locked_cost_their_neighbours_one_look_a_tick(
    tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many they are and however often others commit, one look asks about all of them."""
    if tier == "sqlite":
        pytest.skip("there is one writer at a time: no single row is locked")
    owner = leases.register(host="here", pid=1).id
    runs = [WorkflowRun(workflow="w", state="running", ready=False, owner_id=owner, epoch=1) for _ in range(11)]
    free, *others = WorkflowRun.objects.bulk_create(runs)
    looks: list[int] = []
    real = writes._why_missed

    def counted(*arguments: Any) -> Any:
        looks.append(len(arguments[-1]))
        return real(*arguments)

    monkeypatch.setattr(writes, "_why_missed", counted)
    committer = Committer("default", owner)
    committer.start()

    async def neighbour() -> None:
        for number in range(100):
            assert (await committer.store(Change(free.id, 1, inserts=[_record(str(number))])).wait_async()).stored

    with locked_runs([run.id for run in others]):
        began = time.monotonic()
        waiting = [committer.store(Change(run.id, 1, inserts=[_record("a")])) for run in others]
        asyncio.run(neighbour())
        ticks = (time.monotonic() - began) / 0.01
        assert 0 < len(looks) <= ticks + 3
        assert max(looks) == 10
    assert all(pending.wait().stored for pending in waiting)
    committer.stop()


@pytest.fixture
def no_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The background thread does nothing that it is not asked for."""
    monkeypatch.setattr(committer_module, "TICK", 600.0)


def _running(owner: UUID, count: int) -> list[WorkflowRun]:
    runs = [WorkflowRun(workflow="w", state="running", ready=False, owner_id=owner, epoch=1) for _ in range(count)]
    WorkflowRun.objects.bulk_create(runs)
    return runs


class _Bell:
    """The committer's, and how long each wait for it may last."""

    def __init__(self, bell: SimpleQueue[None]) -> None:
        self.put, self.empty, self._get = bell.put, bell.empty, bell.get
        self.waits: list[float | None] = []

    def get(self, *, timeout: float | None) -> None:
        self.waits.append(timeout)
        self._get(timeout=timeout)


def _armed(committer: Committer, run: WorkflowRun) -> None:
    """Have one change stored; the background thread sleeps until its next tick."""
    bell: Any = _Bell(committer._bell._rings)
    committer._bell._rings = bell
    committer.start()
    assert committer.store(Change(run.id, 1, inserts=[_record("before")])).wait().stored
    assert wait_until(lambda: bell.waits[-1:] == [committer_module.TICK] and bell.empty())


@pytest.mark.usefixtures("no_tick")
@pytest.mark.django_db(transaction=True)
def test_what_nobody_waits_for_is_stored_at_once_and_told_of() -> None:
    """The background thread leads for it; asked later, the answer is there."""
    owner = leases.register(host="here", pid=1).id
    (run,) = _running(owner, 1)
    committer = Committer("default", owner)
    _armed(committer, run)
    told: list[tuple[Outcome, str]] = []

    def call(outcome: Outcome) -> None:
        told.append((outcome, threading.current_thread().name))

    try:
        pending = committer.store(Change(run.id, 1, inserts=[_record("a")]))
        pending.then(call)
        assert wait_until(lambda: told)
        assert (told[0][0].stored, told[0][1]) == (True, "canx_flow committer")
        assert pending._call is None
        pending.then(call)
        assert told[1] == (told[0][0], threading.current_thread().name)
    finally:
        committer.stop()


@pytest.mark.usefixtures("no_tick")
@pytest.mark.django_db(transaction=True)
def test_a_leader_leaves_nothing_behind_that_nobody_waits_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends with its own change; what was handed in meanwhile is stored next, and one call that breaks harms none."""
    owner = leases.register(host="here", pid=1).id
    runs = _running(owner, 3)
    committer = Committer("default", owner)
    _armed(committer, runs[0])
    real = writes.write
    told: list[str] = []

    def broken(outcome: Outcome) -> None:
        raise ValueError("not to be raised in the committer")

    def call(outcome: Outcome) -> None:
        assert outcome.stored
        told.append(threading.current_thread().name)

    def and_more(*arguments: Any) -> list[Outcome]:
        monkeypatch.setattr(writes, "write", real)
        committer.store(Change(runs[1].id, 1, inserts=[_record("a")])).then(broken)
        committer.store(Change(runs[2].id, 1, inserts=[_record("a")])).then(call)
        return real(*arguments)

    monkeypatch.setattr(writes, "write", and_more)
    try:
        assert committer.store(Change(runs[0].id, 1, inserts=[_record("a")])).wait().stored
        assert wait_until(lambda: told) == ["canx_flow committer"]
    finally:
        committer.stop()
    assert "not to be raised in the committer" in caplog.text


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Which thread has written each batch from now on, and how many changes were in it."""
    found: list[tuple[str, int]] = []
    real = writes.write

    def noted(*arguments: Any) -> list[Outcome]:
        found.append((threading.current_thread().name, len(arguments[-1])))
        return real(*arguments)

    monkeypatch.setattr(writes, "write", noted)
    return found


@pytest.mark.usefixtures("no_tick")
@pytest.mark.django_db(transaction=True)
def test_a_run_alone_stores_what_it_hands_in_itself(writers: list[tuple[str, int]]) -> None:
    """It waits for no other thread, step after step."""
    owner = leases.register(host="here", pid=1).id
    (run,) = _running(owner, 1)
    committer = Committer("default", owner)
    _armed(committer, run)
    del writers[:]
    try:
        assert committer.store(Change(run.id, 1, inserts=[_record("a")])).wait().stored
    finally:
        committer.stop()
    assert writers == [(threading.current_thread().name, 1)]


@pytest.mark.usefixtures("no_tick")
@pytest.mark.django_db(transaction=True)
def test_what_several_runs_hand_in_is_stored_by_the_background_thread(writers: list[tuple[str, int]]) -> None:
    """Whoever of them waits: each thread that writes batches keeps memory for that, and there may be hundreds."""
    owner = leases.register(host="here", pid=1).id
    runs = _running(owner, 3)
    committer = Committer("default", owner)
    _armed(committer, runs[0])
    del writers[:]
    try:
        tickets = [committer.store(Change(run.id, 1, inserts=[_record("a")])) for run in runs]
        assert all(ticket.wait().stored for ticket in tickets)
    finally:
        committer.stop()
    assert writers == [("canx_flow committer", 3)]


@pytest.mark.usefixtures("no_tick")
@pytest.mark.django_db(transaction=True)
def test_who_comes_while_a_run_stores_its_own_is_stored_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has found somebody who leads, and so has asked nobody: whoever has led does."""
    owner = leases.register(host="here", pid=1).id
    first, second = _running(owner, 2)
    committer = Committer("default", owner)
    _armed(committer, first)
    real = writes.write
    waiting: list[threading.Thread] = []

    def while_another_comes(*arguments: Any) -> list[Outcome]:
        monkeypatch.setattr(writes, "write", real)
        pending = committer.store(Change(second.id, 1, inserts=[_record("a")]))
        waiting.append(threading.Thread(target=pending.wait, daemon=True))
        waiting[0].start()
        found.append(wait_until(lambda: pending.is_awaited))
        return real(*arguments)

    found: list[object] = []
    monkeypatch.setattr(writes, "write", while_another_comes)
    try:
        assert committer.store(Change(first.id, 1, inserts=[_record("a")])).wait().stored
        assert found == [True]
        waiting[0].join(10)
        assert StepRecord.objects.filter(run=second).exists()
    finally:
        committer.stop()


_GOES_ON = (
    "An error inside canx_flow, in the committer (please report it): the committer goes on, and what was not stored is "
    "tried again"
)


@pytest.mark.usefixtures("no_tick")
@pytest.mark.django_db(transaction=True)
def test_the_background_thread_goes_on_after_what_breaks_in_it(caplog: pytest.LogCaptureFixture) -> None:
    """Every run waits for it: what the worker does when a wait opens is no reason to end."""
    owner = leases.register(host="here", pid=1).id
    runs = _running(owner, 3)

    def broken(_change: Change) -> None:
        raise ValueError("not to end the committer")

    committer = Committer("default", owner, on_stored=broken)
    _armed(committer, runs[0])
    sleeping = Settle("sleeping", suspension=Suspension((Wait("nap", "sleep", clock.now()),)))
    try:
        for run in runs[1:]:
            change = Change(run.id, 1, waits=Waits(opens=(Wait("nap", "sleep", clock.now()),)), settle=sleeping)
            told = threading.Event()
            committer.store(change).then(lambda _outcome, told=told: told.set())
            assert told.wait(10)
    finally:
        committer.stop()
    assert [record.message for record in caplog.records].count(_GOES_ON) == 2


@pytest.mark.django_db(transaction=True)
def test_nobody_waits_for_a_committer_that_was_abandoned() -> None:
    """Its background thread has ended, perhaps: whatever comes late is refused at once, however much lies there."""
    owner = leases.register(host="here", pid=1).id
    runs = _running(owner, 3)
    committer = Committer("default", owner)
    committer.start()
    committer.abandon()
    committer.stop()
    assert wait_until(lambda: not committer._thread.is_alive())
    tickets = [committer.store(Change(run.id, 1, inserts=[_record("a")])) for run in runs]
    refused: list[bool] = []
    waiting = [threading.Thread(target=lambda t=t: refused.append(t.wait().stored), daemon=True) for t in tickets]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join(10)
    assert refused == [False] * 3
    committer.store(Change(runs[0].id, 1)).then(lambda outcome: refused.append(outcome.stored))
    refused.append(asyncio.run(asyncio.wait_for(committer.store(Change(runs[0].id, 1)).wait_async(), 10)).stored)
    assert refused == [False] * 5
    assert not StepRecord.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("order", [("broken", "sound"), ("sound", "broken", "sound")], ids=" ".join)
def test_an_event_loop_that_has_broken_keeps_no_other_from_going_on(order: tuple[str, ...]) -> None:
    """A worker has another one then, and what tasks of both have handed in may be stored together."""
    owner = leases.register(host="here", pid=1).id
    committer = Committer("default", owner)
    loops = {name: asyncio.new_event_loop() for name in dict.fromkeys(order)}
    tasks: list[tuple[str, Any]] = []
    for name, run in zip(order, _running(owner, len(order)), strict=True):
        ticket = committer.store(Change(run.id, 1, inserts=[_record("a")]))
        tasks.append((name, loops[name].create_task(ticket.wait_async())))
        loops[name].run_until_complete(asyncio.sleep(0))
    loops["broken"].close()
    committer.start()
    try:
        for name, task in tasks:
            if name == "sound":
                assert loops[name].run_until_complete(asyncio.wait_for(task, 10)).stored
            else:
                task._log_destroy_pending = False
                task.get_coro().close()
    finally:
        committer.stop()
        loops["sound"].close()
    assert StepRecord.objects.count() == len(order)


class _Broken(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        raise ValueError("a filter of the project's")


@pytest.mark.django_db(transaction=True)
def test_logging_that_breaks_does_not_end_the_background_thread() -> None:
    """The thread that everybody waits for lives on, whatever the project does with what it says."""
    owner = leases.register(host="here", pid=1).id
    runs = _running(owner, 2)

    def broken(_change: Change) -> None:
        raise ValueError("not to end the committer")

    committer = Committer("default", owner, on_stored=broken)
    committer.start()
    filtering = _Broken()
    logging.getLogger("canx_flow.worker").addFilter(filtering)
    sleeping = Settle("sleeping", suspension=Suspension((Wait("nap", "sleep", clock.now()),)))
    told: list[bool] = []
    try:
        for run in runs:
            change = Change(run.id, 1, waits=Waits(opens=(Wait("nap", "sleep", clock.now()),)), settle=sleeping)
            committer.store(change).then(lambda outcome: told.append(outcome.stored))
        assert wait_until(lambda: len(told) == 2)
        committer.store(Change(runs[0].id, 1)).then(lambda _outcome: told.append(True))
        assert wait_until(lambda: len(told) == 3)
    finally:
        logging.getLogger("canx_flow.worker").removeFilter(filtering)
        committer.stop()
    assert told == [True] * 3


@pytest.mark.django_db(transaction=True)
def test_a_change_s_error_is_told_though_logging_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a change that cannot be stored is told why, whatever the project does with the log."""

    real = writes.write

    def broken(*arguments: Any) -> list[Outcome]:
        if any(change.inserts for change in arguments[-1]):
            raise ValueError("no value for this column")
        return real(*arguments)

    monkeypatch.setattr(writes, "write", broken)
    owner = leases.register(host="here", pid=1).id
    [run] = _running(owner, 1)
    committer = Committer("default", owner)
    committer.start()
    filtering = _Broken()
    logging.getLogger("canx_flow.worker").addFilter(filtering)
    try:
        outcome = committer.store(Change(run.id, 1, inserts=[_record("a")])).wait()
    finally:
        logging.getLogger("canx_flow.worker").removeFilter(filtering)
        committer.stop()
    assert isinstance(outcome.error, ValueError)


@pytest.mark.django_db(transaction=True)
def test_what_breaks_while_a_batch_is_written_loses_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it was, such as a logging filter of the project's: the changes are written when it is over."""
    owner = leases.register(host="here", pid=1).id
    runs = _running(owner, 3)
    committer = Committer("default", owner)
    real = committer._writer.write
    broke: list[int] = []

    def breaking(changes: Any) -> list[Outcome]:
        if not broke:
            broke.append(len(changes))
            raise MemoryError
        return real(changes)

    monkeypatch.setattr(committer._writer, "write", breaking)
    tickets = [committer.store(Change(run.id, 1, inserts=[_record("a")])) for run in runs]
    committer.start()
    try:
        assert all(ticket.wait().stored for ticket in tickets)
    finally:
        committer.stop()
    assert broke == [3]


@pytest.mark.django_db(transaction=True)
def test_other_processes_get_their_turn_at_the_one_lock(tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's is left free for half as long as a batch has held it; where rows are locked, nothing is waited for."""
    owner = leases.register(host="here", pid=1).id
    runs = _running(owner, 40)
    committer = Committer("default", owner)
    spans: list[tuple[float, float]] = []
    real = writes.write

    def slow(*arguments: Any) -> list[Outcome]:
        began = time.monotonic()
        time.sleep(0.05)
        outcomes = real(*arguments)
        spans.append((began, time.monotonic()))
        return outcomes

    monkeypatch.setattr(writes, "write", slow)
    tickets = [committer.store(Change(run.id, 1, inserts=[_record("a")])) for run in runs]
    committer.start()
    assert all(ticket.wait().stored for ticket in tickets)
    committer.stop()
    assert len(spans) > 1
    gaps = [after[0] - before[1] for before, after in pairwise(spans)]
    if tier == "sqlite":
        assert min(gaps) >= 0.025
    else:
        assert min(gaps) < 0.025
