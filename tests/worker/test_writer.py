"""What a batch meets: the data of one row fails that row's run; everything else passes, and is waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from django.db import connections, models

from canx_flow import Context, workflow
from canx_flow.core import clock
from canx_flow.core.changes import Change, Outcome, Record, Settle
from canx_flow.models import Event, StepRecord, Timer, WorkflowRun
from canx_flow.store import leases, writes
from canx_flow.store.db import engine
from canx_flow.worker import writer
from canx_flow.worker.committer import Committer
from canx_flow.worker.outages import OutageLog
from canx_flow.worker.ticket import Ticket
from canx_flow.worker.write_delays import Delays
from tests.lost import worker
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    # Threads of a worker leave connections to the garbage collector, as their process does when it ends.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def owner(transactional_db: None) -> UUID:
    """A live worker."""
    return leases.register(host="here", pid=1).id


@pytest.fixture
def committer(owner: UUID) -> Iterator[Committer]:
    """That worker's, at work."""
    committer = Committer("default", owner)
    committer.start()
    yield committer
    committer.abandon()
    committer.stop()
    wait_until(lambda: not committer._thread.is_alive())


def _runs(owner: UUID, count: int) -> list[UUID]:
    runs = [WorkflowRun(workflow="w", state="running", ready=False, owner_id=owner, epoch=1) for _ in range(count)]
    WorkflowRun.objects.bulk_create(runs)
    return [run.id for run in runs]


def _change(run_id: UUID, name: str = "a", result: str = "null") -> Change:
    now = clock.now()
    record = Record(1, name, "step", "completed", 1, 1, result, started_at=now, finished_at=now)
    return Change(run_id, 1, inserts=[record])


def _handed_in(committer: Committer, changes: list[Change]) -> list[Ticket]:
    """All at once, and waited for."""
    tickets = [committer.store(change) for change in changes]
    for ticket in tickets:
        threading.Thread(target=ticket.wait, daemon=True).start()
    return tickets


@contextmanager
def _refusing(tier: str, name: str = "") -> Iterator[None]:
    """The table takes no records for a while, or none of this name: a trigger, as an operator or a migration has it."""
    when = f"NEW.name = '{name}'" if name else "1 = 1"
    table, place = StepRecord._meta.db_table, "canx_flow_refusing"
    signal = f"IF {when} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; END IF;"
    made = {
        "sqlite": [f"CREATE TRIGGER {place} BEFORE INSERT ON {table} WHEN {when} BEGIN SELECT RAISE(ABORT, 'no'); END"],
        "mysql": [f"CREATE TRIGGER {place} BEFORE INSERT ON {table} FOR EACH ROW BEGIN {signal} END"],
        "postgresql": [
            f"CREATE FUNCTION {place}() RETURNS trigger AS 'BEGIN RAISE ''no''; END' LANGUAGE plpgsql",
            f"CREATE TRIGGER {place} BEFORE INSERT ON {table} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION {place}()",
        ],
    }[tier]
    dropped = [f"DROP FUNCTION {place} CASCADE" if tier == "postgresql" else f"DROP TRIGGER {place}"]
    _execute(made)
    try:
        yield
    finally:
        _execute(dropped)


def _execute(statements: list[str]) -> None:
    with connections["default"].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _warnings(log: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in log.records if "does not take" in r.getMessage()]


def test_what_is_no_rows_fault_is_waited_for_and_told_once(
    committer: Committer, owner: UUID, tier: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A table that takes nothing for a while fails no run: all are stored when it does."""
    with _refusing(tier):
        tickets = _handed_in(committer, [_change(run_id) for run_id in _runs(owner, 8)])
        assert wait_until(lambda: committer._writer.delays.failures > 5)
        assert committer.failing
        assert not any(ticket.outcome for ticket in tickets)
        assert len(_warnings(caplog)) == 1
    assert wait_until(lambda: all(ticket.outcome and ticket.outcome.stored for ticket in tickets))
    assert not committer.failing
    assert StepRecord.objects.count() == 8


def test_what_one_run_cannot_store_now_holds_up_no_other(committer: Committer, owner: UUID, tier: str) -> None:
    """It is put off, longer each time; its neighbours are stored meanwhile, and its own later changes after it."""
    bad, *good = _runs(owner, 4)
    with _refusing(tier, "bad"):
        [put_off] = _handed_in(committer, [_change(bad, "bad")])
        assert wait_until(lambda: put_off.held)
        later = committer.store(_change(bad, "later"))
        for number in range(5):
            tickets = _handed_in(committer, [_change(run_id, str(number)) for run_id in good])
            assert wait_until(lambda: all(ticket.outcome and ticket.outcome.stored for ticket in tickets))  # noqa: B023
        assert (put_off.outcome, later.outcome) == (None, None)
    assert wait_until(lambda: later.outcome and later.outcome.stored)
    assert put_off.outcome is not None
    assert put_off.outcome.stored
    assert set(StepRecord.objects.filter(run_id=bad).values_list("name", flat=True)) == {"bad", "later"}


def test_the_data_of_one_row_fails_that_row_only(committer: Committer, owner: UUID) -> None:
    """A number that no column holds: its change is refused with the error, the others of its batch are stored."""
    bad, *good = _runs(owner, 4)
    change = _change(bad)
    change.inserts[0].attempts = 2**70
    tickets = _handed_in(committer, [change, *map(_change, good)])
    assert wait_until(lambda: all(ticket.outcome for ticket in tickets))
    outcomes = [ticket.outcome for ticket in tickets if ticket.outcome]
    assert [outcome.stored for outcome in outcomes] == [False, True, True, True]
    assert outcomes[0].error is not None
    assert not committer.failing


@pytest.mark.parametrize("error", [MemoryError(), TypeError("a wrapped driver"), SystemError("odd")])
def test_what_every_change_meets_is_no_runs_defect(
    committer: Committer, owner: UUID, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that is short, or a driver that somebody has wrapped badly: nothing fails, however long that lasts."""
    real = writes.write
    tries: list[int] = []

    def broken(*_arguments: Any) -> list[Outcome]:
        tries.append(1)
        raise error

    monkeypatch.setattr(writer, "_FIRST_BACKOFF", 0.01)
    committer._writer.delays = Delays(0.001, 0.01)
    monkeypatch.setattr(writes, "write", broken)
    tickets = _handed_in(committer, [_change(run_id) for run_id in _runs(owner, 3)])
    assert wait_until(lambda: len(tries) > 60)
    assert not any(ticket.outcome for ticket in tickets)
    monkeypatch.setattr(writes, "write", real)
    assert wait_until(lambda: all(ticket.outcome and ticket.outcome.stored for ticket in tickets))


def test_a_defect_that_only_one_change_meets_fails_its_run(
    committer: Committer, owner: UUID, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a few tries, counted, and once it is seen that an empty change of the same run is taken."""
    real = writes.write
    bad, good = _runs(owner, 2)
    tries: list[int] = []

    def broken(*arguments: Any) -> list[Outcome]:
        if any(change.run_id == bad and change.inserts for change in arguments[-1]):
            tries.append(1)
            raise TypeError("a defect")
        return real(*arguments)

    committer._writer.delays = Delays(0.001, 0.01)
    monkeypatch.setattr(writes, "write", broken)
    failed, stored = _handed_in(committer, [_change(bad), _change(good)])
    assert wait_until(lambda: failed.outcome and stored.outcome)
    assert stored.outcome is not None
    assert stored.outcome.stored
    assert failed.outcome is not None
    assert isinstance(failed.outcome.error, TypeError)
    assert 5 <= len(tries) <= 20
    assert "cannot be written, after 5 tries" in caplog.text


def test_a_memory_error_never_fails_a_run(committer: Committer, owner: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though only this change meets it, again and again: memory is short for the large first."""
    real = writes.write
    tries: list[int] = []

    def broken(*arguments: Any) -> list[Outcome]:
        if arguments[-1][0].inserts and len(tries) < 30:
            tries.append(1)
            raise MemoryError
        return real(*arguments)

    committer._writer.delays = Delays(0.001, 0.01)
    monkeypatch.setattr(writes, "write", broken)
    [ticket] = _handed_in(committer, [_change(_runs(owner, 1)[0])])
    assert wait_until(lambda: ticket.outcome and ticket.outcome.stored)


def test_a_schema_that_changes_under_a_session_costs_a_new_session(
    committer: Committer, owner: UUID, tier: str, caplog: pytest.LogCaptureFixture
) -> None:
    """PostgreSQL: "cached plan must not change result type", for the life of a session: nobody hears of it."""
    if tier != "postgresql":
        pytest.skip("only PostgreSQL's plans know the type of a result")
    (run_id,) = _runs(owner, 1)
    table = WorkflowRun._meta.db_table
    assert committer.store(_change(run_id, "before")).wait().stored
    try:
        _execute([f"ALTER TABLE {table} ALTER COLUMN state TYPE varchar(20)"])
        assert committer.store(_change(run_id, "after")).wait().stored
    finally:
        _execute([f"ALTER TABLE {table} ALTER COLUMN state TYPE varchar(16)"])
    assert committer.store(_change(run_id, "again")).wait().stored
    assert _warnings(caplog) == []


def test_a_row_too_large_for_the_server_fails_its_run_only(committer: Committer, owner: UUID, tier: str) -> None:
    """MariaDB hangs up on whoever sends more than `max_allowed_packet`: its neighbours are stored."""
    if tier != "mysql":
        pytest.skip("only MySQL and MariaDB have such a limit")
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT @@max_allowed_packet")
        limit = cursor.fetchone()[0]
    if limit > 64_000_000:
        pytest.skip("this server takes more than a test should send")
    large, *small = _runs(owner, 4)
    tickets = _handed_in(committer, [_change(large, result="x" * (limit + 1)), *map(_change, small)])
    assert wait_until(lambda: all(ticket.outcome for ticket in tickets), 60)
    outcomes = [ticket.outcome for ticket in tickets if ticket.outcome]
    assert [outcome.stored for outcome in outcomes] == [False, True, True, True]
    assert "max_allowed_packet" in str(outcomes[0].error)


def test_an_abandoned_committer_refuses_what_was_put_off(owner: UUID, tier: str) -> None:
    """A worker that must leave leaves: nobody waits for a table that takes nothing."""
    committer = Committer("default", owner)
    committer.start()
    with _refusing(tier):
        [ticket] = _handed_in(committer, [_change(_runs(owner, 1)[0])])
        assert wait_until(lambda: ticket.held)
        committer.abandon()
        assert wait_until(lambda: ticket.outcome) == Outcome(False)
    committer.stop()
    wait_until(lambda: not committer._thread.is_alive())


@contextmanager
def _deadlock_once() -> Iterator[None]:
    """PostgreSQL finds a deadlock in the first change of a paused run. What a sequence has counted is not undone."""
    table, place = WorkflowRun._meta.db_table, "canx_flow_deadlock"
    function = (
        "BEGIN IF nextval(''canx_flow_deadlock'') = 1 THEN RAISE ''a deadlock'' USING ERRCODE = ''40P01''; END IF; "
        "RETURN NEW; END"
    )
    trigger = f"{place} BEFORE UPDATE ON {table} FOR EACH ROW WHEN (OLD.state = 'paused') EXECUTE FUNCTION {place}()"
    _execute([
        f"CREATE SEQUENCE {place}",
        f"CREATE FUNCTION {place}() RETURNS trigger AS '{function}' LANGUAGE plpgsql",
        f"CREATE TRIGGER {trigger}",
    ])  # fmt: skip
    try:
        yield
    finally:
        _execute([f"DROP FUNCTION {place} CASCADE", f"DROP SEQUENCE {place}"])


def test_an_end_that_is_stored_is_not_denied_for_its_neighbour_s_deadlock(owner: UUID, tier: str) -> None:
    """On PostgreSQL a batch with a paused run is written in two steps: the repeat finds the first of them done."""
    if tier != "postgresql":
        pytest.skip("elsewhere a batch is one transaction")
    ended, paused = _runs(owner, 2)
    WorkflowRun.objects.filter(id=paused).update(state="paused")
    changes = [Change(run_id, 1, settle=Settle("completed", result="1")) for run_id in (ended, paused)]
    writing = writer.Writer("default", owner, OutageLog())
    try:
        with _deadlock_once():
            outcomes = writing.write(changes)
    finally:
        engine.reset(writing.connection)
    assert [(outcome.stored, outcome.state) for outcome in outcomes] == [(True, "completed"), (True, "paused")]


@contextmanager
def _with_a_column_of_tomorrow() -> Iterator[None]:
    """Each table has one more column, NOT NULL, with a default in the database, as `test_migrations` asks for it."""
    added = []
    for model in (WorkflowRun, StepRecord, Timer, Event):
        field = models.IntegerField(db_default=7)
        field.set_attributes_from_name("tomorrow")
        field.model = model
        added.append((model, field))
    with connections["default"].schema_editor() as editor:
        for model, field in added:
            editor.add_field(model, field)
    try:
        yield
    finally:
        _execute([f"ALTER TABLE {model._meta.db_table} DROP COLUMN tomorrow" for model, _ in added])


@workflow("writer.everything")
def everything(ctx: Context) -> Any:
    """A step, a sleep and a wait: every kind of row."""
    ctx.step("one", lambda: 1)
    ctx.sleep("nap", 0.1)
    return ctx.wait_for("wait", "go")


def test_today_s_statements_leave_out_the_columns_of_tomorrow() -> None:
    """A worker and a sender of this version go on while a deployment has the next version's tables already."""
    with _with_a_column_of_tomorrow(), worker():
        [one] = everything.start_many([()])
        two = everything.using(key="k").start()
        for run_id in (one, two):
            wait_until(lambda: everything.status(run_id).state == "waiting")  # noqa: B023
            everything.send(run_id, "go", "went", dedup_id="d")
            assert everything.result(run_id, timeout=20) == "went"


@workflow("writer.named")
def named(ctx: Context, name: str) -> str:
    """One step of this name."""
    return str(ctx.step(name, lambda: "done"))


def test_a_run_that_cannot_be_stored_keeps_its_worker_from_no_other(
    tier: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What one run alone cannot store is put off, and the worker goes on claiming: it has a connection to write on."""
    with worker(), _refusing(tier, "bad"):
        bad = named.start("bad")
        wait_until(lambda: _warnings(caplog))
        good = [named.start(f"good{n}") for n in range(3)]
        wait_until(lambda: all(named.status(run_id).state == "completed" for run_id in good))
        assert named.status(bad).state == "running"
