"""Steps with `atomic=True`: the function's writes and the step's record commit together, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connection, connections, transaction

from canx_flow import AsyncContext, Context, NotSerializable, Retry, StepFailed, workflow
from canx_flow.models import StepRecord
from canx_flow.store.engine import is_deadlock
from canx_flow.testing import run_until_idle

from .models import Effect

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

    def lock_crosswise(first: str, second: str, *, meet: bool) -> None:
        _touch(first)
        if meet:
            both_locked.wait()
        _touch(second)

    def step() -> str:
        calls.append("step")
        lock_crosswise("one", "two", meet=len(calls) == 1)
        Effect.objects.create(name="row")
        return "done"

    do(step)
    run_id = plain.start()
    rival = _in_thread(lambda: _rival(lambda: lock_crosswise("two", "one", meet=True)))
    run_until_idle()
    rival_lost = rival.result(30)

    assert plain.status(run_id).result == "done"
    assert Effect.objects.filter(name="row").count() == 1
    assert StepRecord.objects.get(run_id=run_id).attempts == 1
    assert len(calls) == (1 if rival_lost else 2)


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
