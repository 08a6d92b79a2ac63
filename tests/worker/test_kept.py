"""The journals that a worker keeps of the runs it has suspended: what they save, and what they must never hide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import OperationalError, connections

from canx_flow import Context, Retry, client, workflow
from canx_flow.core import clock, registry
from canx_flow.core.changes import Change, Record, Settle
from canx_flow.core.claimed import ClaimedRun, Standing
from canx_flow.core.journal import Journal
from canx_flow.models import StepRecord, Timer, WorkflowRun
from canx_flow.replay import executor
from canx_flow.replay.branch import Branch
from canx_flow.states import PENDING, SLEEPING, SUSPENDED, Kind, RecordState
from canx_flow.store import claims, events, leases, timers, writes
from canx_flow.store.db import engine
from canx_flow.testing.port import InlinePort
from canx_flow.worker import kept as keeping
from canx_flow.worker.kept import KeptJournals
from canx_flow.worker.life import Life
from tests.processes import Workers
from tests.workflows import async_hundreds, hundreds

pytestmark = pytest.mark.django_db


def _fail() -> None:
    raise RuntimeError("no luck")


@workflow("kept.any")
def anything(ctx: Context, waits: list[str]) -> list[Any]:
    """Steps, and after each of them a wait of the kind that is named."""
    seen = []
    for wait in waits:
        seen.append(ctx.step("note", str, wait))
        if wait == "sleep":
            ctx.sleep("nap", 1)
        elif wait == "event":
            seen.append(ctx.wait_for("news", "news"))
        elif wait == "timeout":
            seen.append(ctx.wait_for("news", "news", timeout=1, default="none"))
        else:
            ctx.step("luck", _fail, retry=Retry(max_attempts=3, initial=1, jitter=0))
    return seen


class Worker(InlinePort):
    """What a worker does of a turn, on this test's connection, with the journals it keeps."""

    def __init__(self) -> None:
        self.owner = leases.register(host="here", pid=1, workflows=registry.identities()).id
        super().__init__("default", self.owner)
        self.kept = KeptJournals()
        self.root: Branch | None = None

    def entered(self, root: Branch) -> None:
        self.root = root

    def claim(self) -> ClaimedRun:
        (run,) = claims.claim(connections["default"], self.owner, 5, registry.identities())
        self.kept.give([run], None)
        return run

    def load(self, run: ClaimedRun) -> None:
        claims.load(connections["default"], [run])

    def activate(self, run: ClaimedRun) -> str:
        state = executor.run_sync(run, anything, self)
        if state in SUSPENDED:
            assert self.root is not None
            self.kept.keep(run, self.root.journal)
        return state

    def turn(self) -> str:
        run = self.claim()
        self.load(run)
        return self.activate(run)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """One that keeps the shortest journals, too; timers are due when a test says so."""
    monkeypatch.setattr(keeping, "LEAST_RECORDS", 1)
    with clock.held(going_back=True):
        yield Worker()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the records that were read from the database."""
    names: list[str] = []

    def noted(*row: Any) -> Record:
        names.append(row[1])
        return Record(*row)

    monkeypatch.setattr(claims, "Record", noted)
    return names


def later() -> None:
    """Let a wait of a second end."""
    clock.shift(timedelta(seconds=2))
    while timers.fire("default").acted:
        pass


def _content(journal: Journal | None) -> Any:
    assert journal is not None
    rows = [
        (r.seq, r.name, r.kind, r.state, r.attempts, r.epoch, r.result, r.errors, r.event_id)
        for r in journal.records.values()
    ]
    return sorted(rows), journal.last_seq, journal.unfinished, journal.events


def stored(run: ClaimedRun) -> Any:
    """What a worker would load that has kept nothing."""
    other = ClaimedRun(run.id, "", "", "", "", run.epoch, 0, "", {}, Standing())
    claims.load(connections["default"], [other])
    return _content(other.journal)


def test_every_wake_up_reads_only_what_may_have_changed(worker: Worker, read: list[str]) -> None:
    """However long the run is, one record is read for each sleep that has ended."""
    anything.start(["sleep"] * 6)
    for _ in range(6):
        assert worker.turn() == "sleeping"
        later()
    assert worker.turn() == "completed"
    assert read == ["nap", *(f"nap#{n}" for n in range(2, 7))]


@pytest.mark.parametrize("wait", ["sleep", "timeout", "event", "failure"])
def test_what_a_wait_has_come_to_is_seen(worker: Worker, wait: str) -> None:
    """A kept journal is the database's after any kind of wait, and the run goes on from it as from a loaded one."""
    run_id = anything.start([wait, wait])
    worker.turn()
    for _ in range(2):
        if wait == "event":
            client.send(run_id, "news", 1)
            events.deliver_directed("default")
        later()
        run = worker.claim()
        assert run.journal is not None
        worker.load(run)
        assert _content(run.journal) == stored(run)
        worker.activate(run)


def _other_worker(worker: Worker, run_id: UUID) -> None:
    later()
    Worker().turn()
    later()


def _recovered(worker: Worker, run_id: UUID) -> None:
    later()
    dead = Worker()
    dead.claim()
    leases.declare_dead(dead.owner)
    assert leases.recover(dead.owner) == [run_id]


def _handed_back(worker: Worker, run_id: UUID) -> None:
    later()
    (run,) = claims.claim(connections["default"], worker.owner, 1, registry.identities())
    writes.write(connections["default"], worker.owner, [Change(run.id, run.epoch, settle=Settle(PENDING))])


def _failed_and_retried(worker: Worker, run_id: UUID) -> None:
    """By its deadline: what has failed of it may be tried again."""
    Timer.objects.create(run_id=run_id, kind=Kind.DEADLINE, due_at=clock.now())
    while timers.fire("default").acted:
        pass
    client.retry(run_id)
    later()


def _another_generation(worker: Worker, run_id: UUID) -> None:
    later()
    WorkflowRun.objects.filter(id=run_id).update(generation=1)


def _deleted_by_hand(worker: Worker, run_id: UUID) -> None:
    later()
    StepRecord.objects.filter(run_id=run_id, name="nap").delete()


@pytest.mark.parametrize(
    "between",
    [_other_worker, _recovered, _handed_back, _failed_and_retried, _another_generation, _deleted_by_hand],
)
def test_all_is_loaded_again_where_others_may_have_written(
    worker: Worker, between: Callable[[Worker, UUID], None]
) -> None:
    """After another claim than the next one, a new generation, or where the open records are not those kept."""
    run_id = anything.start(["sleep"] * 4)
    worker.turn()
    before = worker.root.journal if worker.root is not None else None
    between(worker, run_id)
    run = worker.claim()
    worker.load(run)
    assert run.journal is not before or between is _deleted_by_hand
    assert _content(run.journal) == stored(run)


def _paused_and_resumed(run_id: UUID) -> None:
    client.pause(run_id)
    client.resume(run_id)


def _woken_by_hand(run_id: UUID) -> None:
    client.wake(run_id)


@pytest.mark.parametrize("between", [_paused_and_resumed, _woken_by_hand])
def test_controls_write_no_records(worker: Worker, between: Callable[[UUID], None]) -> None:
    """A run that was paused, resumed or woken by hand goes on from what is kept: that is what is stored."""
    run_id = anything.start(["sleep"] * 2)
    worker.turn()
    between(run_id)
    later()
    run = worker.claim()
    assert run.journal is not None
    worker.load(run)
    assert _content(run.journal) == stored(run)


def test_a_suspension_that_comes_too_late_reads_only_what_may_have_changed(worker: Worker, read: list[str]) -> None:
    """An event that comes while the run suspends keeps it awake; it goes on with what it has."""
    run_id = anything.start(["sleep", "event", "sleep"])
    worker.turn()
    later()
    hand_in = worker.store.hand_in
    sent: list[bool] = []

    def sending(change: Change) -> Any:
        if change.settle is not None and not sent:
            sent.append(events.send("default", "news", "1", run_id=run_id))
        return hand_in(change)

    worker.store.hand_in = sending  # type: ignore[method-assign]
    run = worker.claim()
    worker.load(run)
    assert worker.activate(run) == SLEEPING
    assert read == ["nap", "news"]
    assert worker.root is not None
    assert _content(worker.root.journal) == stored(run)


# -- how many ---------------------------------------------------------------------------------------


def _kept_of(kept: KeptJournals, records: int, text: str = "") -> ClaimedRun:
    run = ClaimedRun(uuid4(), "", "", "", "", 1, 0, "", {}, Standing())
    journal = Journal(Record(n, f"s#{n}", Kind.STEP, RecordState.COMPLETED, result=text) for n in range(1, records + 1))
    kept.keep(run, journal)
    return run


def _is_kept(kept: KeptJournals, run: ClaimedRun) -> bool:
    again = ClaimedRun(run.id, "", "", "", "", run.epoch + 1, run.generation, "", {}, Standing())
    kept.give([again], None)
    return again.journal is not None


def test_short_journals_are_not_kept() -> None:
    """To load them takes no longer than to ask what has changed."""
    kept = KeptJournals()
    assert not _is_kept(kept, _kept_of(kept, keeping.LEAST_RECORDS - 1))
    assert _is_kept(kept, _kept_of(kept, keeping.LEAST_RECORDS))


def test_those_left_alone_longest_go_first() -> None:
    """All together take so many bytes at most, their results included; one that is larger is never kept."""
    kept = KeptJournals()
    text = "x" * (keeping.MOST_BYTES // keeping.LEAST_RECORDS // 3)
    runs = [_kept_of(kept, keeping.LEAST_RECORDS, text) for _ in range(4)]
    assert [_is_kept(kept, run) for run in runs] == [False, False, True, True]
    assert not _is_kept(kept, _kept_of(kept, keeping.LEAST_RECORDS, 3 * text))


def test_a_journal_is_given_once() -> None:
    """Whoever has it extends it."""
    kept = KeptJournals()
    run = _kept_of(kept, keeping.LEAST_RECORDS)
    assert (_is_kept(kept, run), _is_kept(kept, run)) == (True, False)
    assert kept._size == 0


@pytest.mark.django_db(transaction=True)
def test_nothing_is_kept_over_an_outage(life: Life) -> None:
    """A database that was away may have come back without its last commits."""
    kept = life.parts.port.kept
    run = _kept_of(kept, keeping.LEAST_RECORDS)
    life._database_is_back()
    assert not _is_kept(kept, run)


class _DeadlockError(Exception):
    sqlstate = "40P01"


class _LockedError(Exception):
    sqlite_errorcode = 5


@pytest.mark.parametrize("cause", [_DeadlockError(), _LockedError()], ids=["deadlock", "locked"])
@pytest.mark.django_db(transaction=True)
def test_what_is_kept_stays_though_others_were_in_the_way(life: Life, cause: Exception) -> None:
    """The turn is repeated on the same connection."""
    kept, turn = life.parts.port.kept, life.parts.turn
    turn.take(())
    run = _kept_of(kept, keeping.LEAST_RECORDS)
    error = OperationalError("others were in the way")
    error.__cause__ = cause
    life._survive(error)
    life._take_turn(())
    assert kept._kept.keys() == {run.id}


@pytest.mark.django_db(transaction=True)
def test_nothing_is_kept_over_another_connection(life: Life) -> None:
    """The server may have closed one that was idle, and a new one may be another server's, without its last commits."""
    kept, turn = life.parts.port.kept, life.parts.turn
    turn.take(())
    _kept_of(kept, keeping.LEAST_RECORDS)
    turn.take(())
    assert kept._kept
    connections["default"].connection.close()
    with engine.transaction(connections["default"]):
        pass  # On a new one, without a word.
    turn.take(())
    assert not kept._kept


@pytest.mark.django_db(transaction=True)
def test_long_runs_go_on_in_a_worker(workers: Workers) -> None:
    """Runs of hundreds of records, plain and async, sleep again and again on one worker, and come to their end."""
    runs = [hundreds.start(300, 10), async_hundreds.start(300, 10)]
    workers.start()
    for run_id in runs:
        assert client.result(run_id, timeout=60) == [*range(300), *range(10)]
