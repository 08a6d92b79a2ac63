"""Steps with `atomic=True`: the function's writes and the step's record commit together, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connection, connections, transaction
from django.db.models import F

from canx_flow import AsyncContext, Context, NotSerializable, Retry, StepFailed, current_step, send_event, workflow
from canx_flow.models import Event, StepRecord, WorkflowRun
from canx_flow.store.db.errors import is_deadlock
from canx_flow.testing import run_until_idle

from .models import Effect
from .waiting import wait_until

pytestmark = pytest.mark.django_db

ONCE = Retry(max_attempts=1)
calls: list[str] = []
deed: Callable[[], Any] = list


def _do() -> Any:
    """Whatever `deed` is by now."""
    return deed()


@workflow("atomic.plain", retry=ONCE)
def plain(ctx: Context) -> Any:
    """One atomic step that does what the test says."""
    return ctx.step("deed", _do, atomic=True)


@workflow("atomic.async", retry=ONCE)
async def asynchronous(ctx: AsyncContext) -> Any:
    """The same in an `async def` workflow."""
    return await ctx.step("deed", _do, atomic=True)


@pytest.fixture
def do(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Say what the step does."""
    calls.clear()

    def say(function: Callable[[], Any]) -> None:
        monkeypatch.setitem(globals(), "deed", function)

    return say


def _write(name: str) -> str:
    calls.append(name)
    Effect.objects.create(name=name)
    return name


@pytest.mark.parametrize("flow", [plain, asynchronous], ids=["def", "async def"])
def test_c033_row_and_record_commit_together(flow: Any, do: Any) -> None:
    """The step's row and its record are both there, and the result is the step's."""
    do(lambda: _write("row"))
    run_id = flow.start()
    run_until_idle()

    assert flow.status(run_id).result == "row"
    assert Effect.objects.filter(name="row").count() == 1
    assert StepRecord.objects.get(run_id=run_id).state == "completed"


@pytest.mark.parametrize("flow", [plain, asynchronous], ids=["def", "async def"])
def test_c036_what_a_failing_step_wrote_is_rolled_back_and_its_error_recorded(flow: Any, do: Any) -> None:
    """No row is left of an attempt that raised."""

    def fail() -> None:
        _write("row")
        raise LookupError("no such book")

    do(fail)
    run_id = flow.start()
    run_until_idle()

    status = flow.status(run_id)
    assert status.state == "failed"
    assert "no such book" in status.error["message"]
    assert not Effect.objects.exists()
    assert StepRecord.objects.get(run_id=run_id).state == "failed"


def test_a_result_that_cannot_be_stored_takes_the_writes_back(do: Any) -> None:
    """The record could not be written, so the row must not be either; the function is not called again."""

    def unstorable() -> object:
        _write("row")
        return object()

    do(unstorable)
    run_id = plain.start()
    run_until_idle()

    assert plain.status(run_id).state == "failed"
    assert NotSerializable.__name__ in plain.status(run_id).error["message"]
    assert calls == ["row"]
    assert not Effect.objects.exists()


def test_a_retried_attempt_leaves_the_rows_of_the_successful_one_only(do: Any) -> None:
    """Two attempts, one row."""

    def fail_once() -> str:
        _write("row")
        if len(calls) == 1:
            raise ConnectionError
        return "done"

    @workflow("atomic.retried", retry=Retry(max_attempts=2, initial=0))
    def retried(ctx: Context) -> str:
        return ctx.step("deed", fail_once, atomic=True)

    do(list)
    run_id = retried.start()
    run_until_idle()

    assert retried.status(run_id).result == "done"
    assert (len(calls), Effect.objects.count()) == (2, 1)
    assert StepRecord.objects.get(run_id=run_id).attempts == 2


def test_on_replay_an_atomic_step_is_not_called_again(do: Any) -> None:
    """A stored atomic result replays like any other."""

    @workflow("atomic.replayed")
    def replayed(ctx: Context) -> str:
        name = ctx.step("deed", _write, "row", atomic=True)
        ctx.wait_for("go", "go")
        return name

    do(list)
    run_id = replayed.start()
    run_until_idle()
    replayed.send(run_id, "go")
    run_until_idle()

    assert replayed.status(run_id).result == "row"
    assert calls == ["row"]


def test_a_step_that_loses_its_run_inside_leaves_nothing(do: Any) -> None:
    """Cancelled from within its own function the run stops, and the step in flight is stored all the same."""

    def cancel() -> str:
        assert plain.cancel(run_id)
        return _write("row")

    do(cancel)
    run_id = plain.start()
    run_until_idle()

    assert plain.status(run_id).state == "cancelled"
    assert Effect.objects.count() == 1
    assert StepRecord.objects.get(run_id=run_id).state == "completed"


@pytest.mark.django_db(transaction=True)
def test_c035_a_deadlock_or_serialization_failure_calls_the_step_again_at_once_uncounted(do: Any, tier: str) -> None:
    """The database's victim is called again; the row is written once and no failed attempt is recorded."""
    if tier == "sqlite":
        _provoked_by_hand(do)
        return
    Effect.objects.create(name="one")
    Effect.objects.create(name="two")
    both_locked = threading.Barrier(2, timeout=30)

    def step() -> str:
        calls.append("step")
        if len(calls) > 1:
            rival.result(30)  # Or it might be met again.
        _touch("one")
        if len(calls) == 1:
            both_locked.wait()
            wait_until(lambda: _somebody_waits_for_a_lock(tier))
            _be_the_victim(tier)
        _touch("two")
        Effect.objects.create(name="row")
        return "done"

    def win() -> None:
        for _ in range(20):  # MariaDB chooses whoever has changed less.
            Effect.objects.create(name="rival")
        _touch("two")
        both_locked.wait()
        _touch("one")

    do(step)
    run_id = plain.start()
    rival = _in_thread(lambda: _rival(win))
    run_until_idle()

    assert rival.result(30) is False
    assert plain.status(run_id).result == "done"
    assert Effect.objects.filter(name="row").count() == 1
    assert StepRecord.objects.get(run_id=run_id).attempts == 1
    assert len(calls) == 2


def _somebody_waits_for_a_lock(tier: str) -> bool:
    waiting = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND wait_event_type = 'Lock'",
        "mysql": "SELECT variable_value + 0 FROM information_schema.global_status "
        "WHERE variable_name = 'innodb_row_lock_current_waits'",
    }
    with connection.cursor() as cursor:
        cursor.execute(waiting[tier])
        return bool(cursor.fetchone()[0])


def _be_the_victim(tier: str) -> None:
    """PostgreSQL ends whoever looks first, and looks once: the rival has begun to wait, and would look in a second."""
    if tier == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL deadlock_timeout = '1ms'")


def _provoked_by_hand(do: Any) -> None:
    """SQLite has one writer and therefore no deadlocks; an error that says so is treated alike."""

    def step() -> str:
        _write("row")
        if len(calls) < 4:
            error = OperationalError("deadlock")
            error.__cause__ = Exception()
            error.__cause__.sqlstate = "40001"  # type: ignore[attr-defined]
            raise error
        return "done"

    do(step)
    run_id = plain.start()
    run_until_idle()

    assert plain.status(run_id).result == "done"
    assert (len(calls), Effect.objects.count()) == (4, 1)
    assert StepRecord.objects.get(run_id=run_id).attempts == 1


@pytest.mark.django_db(transaction=True)
def test_c035_a_row_that_changed_since_it_was_read_calls_the_step_again(do: Any, tier: str) -> None:
    """A serialization failure, provoked at REPEATABLE READ: the second call reads the new row, and writes once."""
    if tier == "sqlite":
        pytest.skip("on SQLite nobody writes between a step's first and last statement")
    Effect.objects.create(name="one", value="old")

    def step() -> str:
        calls.append("step")
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            if tier == "mysql":  # On by default from MariaDB 11.6 on; without it the update would pass.
                cursor.execute("SET SESSION innodb_snapshot_isolation = ON")
        value = Effect.objects.get(name="one").value
        if len(calls) == 1:
            _in_thread(lambda: Effect.objects.filter(name="one").update(value="rival")).result(30)
        Effect.objects.filter(name="one").update(value=f"{value}, mine")
        return value

    do(step)
    run_id = plain.start()
    try:
        run_until_idle()
    finally:
        if tier == "mysql":
            connection.close()  # And with it what the session was told.

    assert plain.status(run_id).result == "rival"
    assert Effect.objects.get(name="one").value == "rival, mine"
    assert len(calls) == 2
    assert StepRecord.objects.get(run_id=run_id).attempts == 1


@pytest.mark.django_db(transaction=True)
def test_c035_a_locked_file_is_waited_for_uncounted(do: Any, tier: str) -> None:
    """On SQLite another writer may keep a step from beginning for a while: that is no failed attempt."""
    if tier != "sqlite":
        pytest.skip("only SQLite locks the whole database")
    locked, over = threading.Event(), threading.Event()
    refused: list[str] = []

    def hold() -> None:
        with transaction.atomic():
            Effect.objects.create(name="rival")
            locked.set()
            over.wait(30)

    def release(execute: Any, sql: str, *arguments: Any) -> Any:
        try:
            return execute(sql, *arguments)
        except OperationalError:
            refused.append(sql)
            over.set()
            rival[0].result(30)
            # Only this one is to be refused: on a slow disk others may well wait for 10 ms.
            connection.connection.execute("PRAGMA busy_timeout = 5000")
            raise

    rival: list[Future[Any]] = []

    @workflow("atomic.busy", retry=ONCE)
    def busy(ctx: Context) -> Any:
        if not rival:
            rival.append(_in_thread(hold))
            assert locked.wait(30)
        return ctx.step("deed", _write, "row", atomic=True)

    do(list)
    run_id = busy.start()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 10")
    try:
        with connection.execute_wrapper(release):
            run_until_idle()
    finally:
        over.set()
        connection.close()  # And with it the short timeout.

    assert busy.status(run_id).result == "row"
    assert refused == ["BEGIN IMMEDIATE"]
    assert calls == ["row"]
    assert StepRecord.objects.get(run_id=run_id).attempts == 1


@pytest.mark.django_db(transaction=True)
def test_after_three_repeats_a_deadlock_is_a_failed_attempt(do: Any) -> None:
    """The fourth deadlock in a row counts, and is the step's failure."""

    def always() -> None:
        calls.append("step")
        error = OperationalError("deadlock")
        error.__cause__ = Exception()
        error.__cause__.sqlstate = "40001"  # type: ignore[attr-defined]
        raise error

    do(always)
    run_id = plain.start()
    run_until_idle()

    assert len(calls) == 4
    assert plain.status(run_id).state == "failed"
    assert StepRecord.objects.get(run_id=run_id).attempts == 1


def _touch(name: str) -> None:
    Effect.objects.filter(name=name).update(value="touched")


def _rival(deadly: Callable[[], None]) -> bool:
    """Whether it was the rival that the database chose as the victim."""
    try:
        with transaction.atomic():
            deadly()
    except DatabaseError as error:
        if not is_deadlock(error):
            raise
        return True
    return False


def _in_thread(call: Callable[[], Any]) -> Future[Any]:
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            future.set_exception(error)
        finally:
            connections.close_all()

    threading.Thread(target=run).start()
    return future


@pytest.mark.parametrize("flow", [plain, asynchronous], ids=["def", "async def"])
def test_the_function_runs_inside_a_transaction(flow: Any, do: Any) -> None:
    """It may use savepoints and hooks as in any `atomic()` block."""
    do(lambda: connection.in_atomic_block)
    run_id = flow.start()
    run_until_idle()

    assert flow.status(run_id).result is True


def test_an_async_function_is_refused() -> None:
    """Django's transactions are synchronous."""

    async def deed() -> None: ...

    @workflow("atomic.refused.async")
    def refused(ctx: Context) -> str:
        with pytest.raises(TypeError, match="plain function"):
            ctx.step("deed", deed, atomic=True)
        return "refused"

    run_id = refused.start()
    run_until_idle()

    assert refused.status(run_id).result == "refused"


def test_at_most_once_is_refused_beside_it() -> None:
    """An atomic step is exactly-once already."""

    @workflow("atomic.refused.once")
    def refused(ctx: Context) -> str:
        with pytest.raises(ValueError, match="atomic"):
            ctx.step("deed", list, atomic=True, at_most_once=True)
        return "refused"

    run_id = refused.start()
    run_until_idle()

    assert refused.status(run_id).result == "refused"


def test_a_failure_of_an_atomic_step_can_be_caught_and_replays() -> None:
    """StepFailed is the same for every kind of step."""

    @workflow("atomic.caught", retry=ONCE)
    def caught(ctx: Context) -> str:
        try:
            ctx.step("deed", _fail, atomic=True)
        except StepFailed as failure:
            answer = f"{failure.attempts} {failure.is_a(LookupError)}"
        ctx.wait_for("go", "go")
        return answer

    run_id = caught.start()
    run_until_idle()
    caught.send(run_id, "go")
    run_until_idle()

    assert caught.status(run_id).result == "1 True"


def _fail() -> None:
    raise LookupError


# -- or not at all ---------------------------------------------------------------------------------


class _Crash(KeyboardInterrupt):
    """Ends an inline worker in the middle of what it does, as a kill would."""


@pytest.mark.django_db(transaction=True)
def test_c034_a_crash_after_the_commit_leaves_row_and_record(do: Any) -> None:
    """Resumed, the run finds the record: the row is there once, and the function is not called again."""
    crashed: list[int] = []

    @workflow("atomic.crash-after")
    def crashes(ctx: Context) -> str:
        name = ctx.step("deed", _write, "row", atomic=True)
        if not crashed:
            crashed.append(1)
            raise _Crash
        return name

    do(list)
    run_id = crashes.start()
    with pytest.raises(_Crash):
        run_until_idle()
    assert Effect.objects.count() == StepRecord.objects.count() == 1
    run_until_idle()

    assert crashes.status(run_id).result == "row"
    assert calls == ["row"]
    assert Effect.objects.count() == 1


@pytest.mark.parametrize("flow", [plain, asynchronous], ids=["def", "async def"])
def test_c033_a_crash_before_the_commit_leaves_neither(flow: Any, do: Any) -> None:
    """What the function had written is gone with its worker; called again, it writes once, as attempt 1."""

    def crash_once() -> int:
        _write("row")
        if len(calls) == 1:
            raise _Crash
        step = current_step()
        return step.attempt

    do(crash_once)
    run_id = flow.start()
    with pytest.raises(_Crash):
        run_until_idle()
    assert not Effect.objects.exists()
    assert not StepRecord.objects.exists()
    run_until_idle()

    assert flow.status(run_id).result == 1
    assert (len(calls), Effect.objects.count()) == (2, 1)


@pytest.mark.parametrize("flow", [plain, asynchronous], ids=["def", "async def"])
def test_a_worker_that_has_lost_the_run_commits_neither(flow: Any, do: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The fence is asked last: refused there, the function's writes are rolled back with its record."""

    def lose_once() -> str:
        _write("row")
        if len(calls) == 1:  # As a recovery does, when another worker takes the run.
            WorkflowRun.objects.filter(id=run_id).update(epoch=F("epoch") + 1)
        return "done"

    do(lose_once)
    run_id = flow.start()
    run_until_idle()
    assert not Effect.objects.exists()
    assert not StepRecord.objects.exists()
    assert "Write refused" in caplog.text
    run_until_idle()

    assert flow.status(run_id).result == "done"
    assert (len(calls), Effect.objects.count()) == (2, 1)


def test_system_exit_takes_the_writes_back(do: Any) -> None:
    """Whatever leaves the function, what it wrote goes with it."""

    def leave() -> None:
        _write("row")
        raise SystemExit(1)

    do(leave)
    run_id = plain.start()
    run_until_idle()

    assert plain.status(run_id).state == "failed"
    assert not Effect.objects.exists()
    assert StepRecord.objects.get(run_id=run_id).attempts == 1


def test_runs_and_events_of_an_atomic_step_are_part_of_it(do: Any) -> None:
    """What an attempt started and sent is gone with it, and is there once after the one that succeeds."""

    @workflow("atomic.child")
    def child(ctx: Context) -> None:
        calls.append("child")

    def start() -> Any:
        calls.append("step")
        child_id = child.start()
        assert send_event("news")
        if calls.count("step") == 1:
            raise LookupError
        return child_id

    @workflow("atomic.starter", retry=Retry(max_attempts=2, initial=0))
    def starter(ctx: Context) -> Any:
        return ctx.step("deed", start, atomic=True)

    do(list)
    run_id = starter.start()
    run_until_idle()

    assert [run.id for run in child.runs] == [starter.status(run_id).result]
    assert Event.objects.count() == 1
    assert sorted(calls) == ["child", "step", "step"]


@pytest.mark.django_db(transaction=True)
def test_hooks_run_after_the_commit_of_the_attempt_that_succeeded(do: Any) -> None:
    """`on_commit` in an atomic step: not for the attempt that was rolled back, and not before the record is stored."""
    seen: list[Any] = []

    def hook() -> None:
        records = _in_thread(lambda: list(StepRecord.objects.values_list("state", flat=True))).result(30)
        seen.append((connection.in_atomic_block, records))

    def step() -> None:
        calls.append("step")
        transaction.on_commit(hook)
        if len(calls) == 1:
            raise LookupError

    @workflow("atomic.hooks", retry=Retry(max_attempts=2, initial=0))
    def hooks(ctx: Context) -> None:
        ctx.step("deed", step, atomic=True)

    do(list)
    run_id = hooks.start()
    run_until_idle()

    assert hooks.status(run_id).state == "completed"
    assert seen == [(False, ["completed"])]


@pytest.mark.django_db(databases=["default", "other"])
def test_writes_to_another_database_are_not_covered(do: Any) -> None:
    """They are committed by themselves, whatever becomes of the step: documented, and shown here."""

    def fail() -> None:
        Effect.objects.create(name="here")
        Effect.objects.using("other").create(name="there")
        raise LookupError

    do(fail)
    run_id = plain.start()
    run_until_idle()

    assert plain.status(run_id).state == "failed"
    assert not Effect.objects.exists()
    assert Effect.objects.using("other").count() == 1


@pytest.mark.django_db(databases=["default", "other"])
def test_the_transaction_is_on_the_database_of_the_runs(do: Any, settings: Any) -> None:
    """With CANX_FLOW["DATABASE"] set, its writes are the ones that go with the record."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "DATABASE": "other"}

    def fail() -> None:
        Effect.objects.create(name="here")
        Effect.objects.using("other").create(name="there")
        raise LookupError

    do(fail)
    run_id = plain.start()
    run_until_idle()

    assert plain.status(run_id).state == "failed"
    assert Effect.objects.count() == 1
    assert not Effect.objects.using("other").exists()


def test_a_caught_database_error_does_not_poison_the_step(do: Any) -> None:
    """A function may try a write in a savepoint of its own, and go on when that is refused."""

    def careful() -> str:
        Effect.objects.create(name="first", once="taken")
        try:
            with transaction.atomic():
                Effect.objects.create(name="second", once="taken")
        except DatabaseError:
            return "taken"
        return "free"

    do(careful)
    run_id = plain.start()
    run_until_idle()

    assert plain.status(run_id).result == "taken"
    assert Effect.objects.count() == 1


def test_a_broken_transaction_is_a_failed_attempt(do: Any) -> None:
    """A refused write that is swallowed without a savepoint has broken the transaction: nothing of it commits."""

    def careless() -> str:
        Effect.objects.create(name="first", once="taken")
        try:
            Effect.objects.create(name="second", once="taken")
        except DatabaseError:
            transaction.set_rollback(True)
        return "done"

    do(careless)
    run_id = plain.start()
    run_until_idle()

    assert plain.status(run_id).state == "failed"
    assert not Effect.objects.exists()
    assert StepRecord.objects.get(run_id=run_id).state == "failed"


@pytest.mark.django_db(transaction=True)
def test_a_hook_that_fails_after_the_commit_does_not_undo_a_stored_step(do: Any) -> None:
    """The first stored result wins: what failed after it was only the telling of it."""

    def write() -> str:
        transaction.on_commit(_fail)
        return _write("row")

    do(write)
    run_id = plain.start()
    run_until_idle()

    assert plain.status(run_id).result == "row"
    assert calls == ["row"]
    assert Effect.objects.count() == 1
    assert StepRecord.objects.get(run_id=run_id).state == "completed"


@pytest.mark.django_db(transaction=True)
def test_a_hook_that_fails_after_the_commit_does_so_with_retries_left_too(do: Any) -> None:
    """The retry that the failure seemed to ask for finds the stored result instead."""

    @workflow("atomic.hook", retry=Retry(max_attempts=5, initial=60))
    def hooked(ctx: Context) -> str:
        return ctx.step("deed", _write_and_hook, atomic=True)

    do(list)
    run_id = hooked.start()
    run_until_idle()

    assert hooked.status(run_id).result == "row"
    assert calls == ["row"]


def _write_and_hook() -> str:
    transaction.on_commit(_fail)
    return _write("row")


@pytest.mark.django_db(transaction=True)
def test_every_hook_of_a_stored_step_is_called_and_those_that_fail_are_told(
    do: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """One ERROR line for each, with the run, the step and the traceback; the others are called all the same."""

    def write() -> str:
        transaction.on_commit(_fail)
        transaction.on_commit(lambda: calls.append("second"))
        transaction.on_commit(partial(_fail), robust=True)
        transaction.on_commit(_leave)
        transaction.on_commit(lambda: calls.append("last"))
        return _write("row")

    do(write)
    run_id = plain.start()
    run_until_idle()

    assert plain.status(run_id).result == "row"
    assert calls == ["row", "second", "last"]
    told = [record for record in caplog.records if record.name == "canx_flow.run"]
    assert [(r.levelname, r.__dict__["run_id"], r.__dict__["step"]) for r in told] == [
        ("ERROR", str(run_id), "deed")
    ] * 3
    assert all(record.exc_info for record in told)


def _leave() -> None:
    raise SystemExit


def _enter_by_hand() -> None:
    transaction.atomic().__enter__()
    _write("lost")


@pytest.mark.parametrize("flow", [plain, asynchronous], ids=["def", "async def"])
@pytest.mark.parametrize("in_a_test_case", [True, False], ids=["TestCase", "TransactionTestCase"])
def test_an_atomic_step_that_leaves_a_block_open_fails_inline_too(
    flow: Any, do: Any, request: pytest.FixtureRequest, in_a_test_case: bool
) -> None:
    """What it wrote is rolled back, and the test's own transaction stands as before."""
    if not in_a_test_case:
        request.getfixturevalue("transactional_db")
    depth = len(connection.atomic_blocks)
    do(_enter_by_hand)
    run_id = flow.start()
    run_until_idle()

    status = flow.status(run_id)
    assert (status.state, "InsideTransaction" in str(status.error)) == ("failed", True)
    assert len(connection.atomic_blocks) == depth
    assert not Effect.objects.exists()
    do(lambda: _write("kept"))
    run_id = flow.start()
    run_until_idle()
    assert flow.status(run_id).result == "kept"


@pytest.mark.django_db(transaction=True)
def test_an_atomic_step_is_refused_where_autocommit_is_off(do: Any) -> None:
    """`atomic()` would commit nothing at its end, and the step would be told that it is stored."""
    do(lambda: _write("row"))
    run_id = plain.start()
    connection.set_autocommit(False)
    try:
        run_until_idle()
        status = plain.status(run_id)
        connection.commit()
    finally:
        connection.rollback()
        connection.set_autocommit(True)
    assert (status.state, "autocommit is off" in str(status.error)) == ("failed", True)
    assert not Effect.objects.exists()
