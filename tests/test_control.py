"""What people may do to a run: cancel, pause, resume, retry, rerun, wake, send, whatever state it is in."""

from __future__ import annotations

import contextvars
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import OperationalError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from freezegun import freeze_time

from canx_flow import (
    AsyncContext,
    Context,
    InvalidState,
    Retry,
    RunCancelled,
    RunNotFound,
    StepFailed,
    client,
    workflow,
)
from canx_flow.core import clock, registry
from canx_flow.core.identity import uuid7
from canx_flow.models import StepRecord, Timer, WorkflowRun
from canx_flow.store import claims, leases, timers
from canx_flow.testing import advance, run_until_idle

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def fail(*_: Any) -> None:
    """A step that never succeeds."""
    raise ValueError("no")


@workflow("control.any")
def anything(ctx: Context, what: str = "") -> str:
    """Ends at once, or gets stuck where `what` says."""
    match what:
        case "sleep":
            ctx.sleep("nap", HOUR)
        case "wait":
            ctx.wait_for("answer", "answered")
        case "retry":
            ctx.step("flaky", fail)
        case "fail":
            raise ValueError("no")
        case "undo":
            ctx.step("book", str, compensate=str)
            ctx.sleep("nap", HOUR)
        case "undone" | "undo failed":
            ctx.step("book", str, compensate=fail if what == "undo failed" else str, retry=Retry(max_attempts=1))
            raise ValueError("no")
    return what


@pytest.fixture
def calls() -> list[str]:
    """What the steps of a test did."""
    return []


# -- runs in every state -----------------------------------------------------------------------------


def suspended(what: str) -> UUID:
    """A run that has got stuck, or has ended."""
    run_id = anything.start(what)
    run_until_idle()
    return run_id


def paused() -> UUID:
    """A sleeping run that was paused."""
    run_id = suspended("sleep")
    anything.pause(run_id)
    return run_id


def parked() -> UUID:
    """A run whose workflow nobody knows, though it has the name of one that is known."""
    run_id = anything.start()
    WorkflowRun.objects.filter(id=run_id).update(version="gone")
    run_until_idle()
    return run_id


def owned(run_id: UUID) -> UUID:
    """The run, claimed by a live worker that does nothing with it."""
    worker = leases.register(host="elsewhere", pid=1)
    claimed = claims.claim(connections["default"], worker.id, 1, registry.identities())
    assert [run.id for run in claimed] == [run_id]
    return run_id


def stopping_to_cancelled() -> UUID:
    """A run that was cancelled while a worker had it."""
    run_id = owned(anything.start())
    anything.cancel(run_id)
    return run_id


def stopping_to_failed() -> UUID:
    """A run whose deadline passed while a worker had it."""
    run_id = anything.using(timeout=2 * HOUR).start("sleep")
    run_until_idle()
    anything.wake(run_id)
    timers.fire("default")
    owned(run_id)
    clock.shift(2 * HOUR)
    timers.fire("default")
    return run_id


def parked_while_stopping() -> UUID:
    """A run that was cancelled, and that nobody can undo."""
    run_id = suspended("undo")
    anything.cancel(run_id)
    WorkflowRun.objects.filter(id=run_id).update(version="gone")
    run_until_idle()
    return run_id


def cancelled() -> UUID:
    """A run that was cancelled."""
    run_id = anything.start()
    anything.cancel(run_id)
    return run_id


MAKE: dict[str, Callable[[], UUID]] = {
    "pending": anything.start,
    "sleeping": lambda: suspended("sleep"),
    "sleeping, delayed": lambda: anything.using(delay=HOUR).start(),
    "waiting": lambda: suspended("wait"),
    "retrying": lambda: suspended("retry"),
    "paused": paused,
    "parked": parked,
    "running": lambda: owned(anything.start()),
    "stopping": stopping_to_cancelled,
    "stopping, will fail": stopping_to_failed,
    "sleeping, to be undone": lambda: suspended("undo"),
    "parked, will be cancelled": parked_while_stopping,
    "failed": lambda: suspended("fail"),
    "failed, undone": lambda: suspended("undone"),
    "failed, not all undone": lambda: suspended("undo failed"),
    "completed": lambda: suspended(""),
    "cancelled": cancelled,
}
CALLS = ("cancel", "pause", "resume", "retry", "send", "wake")
#: Per state, what each of CALLS answers, and the state it leaves. None: the state stays. The table of the contract.
TABLE: dict[str, tuple[tuple[Any, str | None], ...]] = {
    "pending": (
        (True, "cancelled"), (True, "paused"), (True, None), (InvalidState, None), (True, None), (False, None)
    ),
    "sleeping": (
        (True, "cancelled"), (True, "paused"), (True, None), (InvalidState, None), (True, None), (True, None)
    ),
    "sleeping, delayed": (
        (True, "cancelled"), (True, "paused"), (True, None), (InvalidState, None), (True, None), (True, None)
    ),
    "waiting": (
        (True, "cancelled"), (True, "paused"), (True, None), (InvalidState, None), (True, None), (False, None)
    ),
    "retrying": (
        (True, "cancelled"), (True, "paused"), (True, None), (InvalidState, None), (True, None), (True, None)
    ),
    "paused": (
        (True, "cancelled"), (True, None), (True, "pending"), (InvalidState, None), (True, None), (True, None)
    ),
    "parked": (
        (True, "cancelled"), (True, "paused"), (True, None), (True, "pending"), (True, None), (False, None)
    ),
    "running": (
        (True, "stopping"), (True, "paused"), (True, None), (InvalidState, None), (True, None), (False, None)
    ),
    "stopping": (
        (True, None), (False, None), (False, None), (InvalidState, None), (True, None), (False, None)
    ),
    "stopping, will fail": (
        (False, None), (False, None), (False, None), (InvalidState, None), (True, None), (False, None)
    ),
    "sleeping, to be undone": (
        (True, "stopping"), (True, "paused"), (True, None), (InvalidState, None), (True, None), (True, None)
    ),
    "parked, will be cancelled": (
        (True, None), (False, None), (False, None), (True, "stopping"), (True, None), (False, None)
    ),
    "failed": (
        (False, None), (False, None), (False, None), (True, "pending"), (True, None), (False, None)
    ),
    "failed, undone": (
        (False, None), (False, None), (False, None), (InvalidState, None), (True, None), (False, None)
    ),
    "failed, not all undone": (
        (False, None), (False, None), (False, None), (True, "stopping"), (True, None), (False, None)
    ),
    "completed": (
        (False, None), (False, None), (False, None), (InvalidState, None), (InvalidState, None), (False, None)
    ),
    "cancelled": (
        (True, None), (False, None), (False, None), (InvalidState, None), (InvalidState, None), (False, None)
    ),
}  # fmt: skip


def test_every_state_is_in_the_table() -> None:
    """Each state can be made, is what its name says, and has a row."""
    assert set(MAKE) == set(TABLE)
    for name, make in MAKE.items():
        state = anything.status(make()).state
        assert state == name.partition(",")[0]
        WorkflowRun.objects.all().delete()


@pytest.mark.parametrize("twin", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize(("state", "call"), [(state, call) for state in MAKE for call in CALLS])
def test_every_call_in_every_state(state: str, call: str, twin: bool) -> None:
    """Each control call answers what the contract's table says, leaves that state, and else changes nothing."""
    run_id = MAKE[state]()
    answer, left_in = TABLE[state][CALLS.index(call)]
    row = WorkflowRun.objects.filter(id=run_id).values()
    before = row.get()
    arguments = ("answered",) if call == "send" else ()
    function = async_to_sync(getattr(anything, f"a{call}")) if twin else getattr(anything, call)
    if isinstance(answer, bool):
        # The async twins are given text: ids may be either.
        assert function(str(run_id) if twin else run_id, *arguments) is answer
    else:
        with pytest.raises(answer, match=str(run_id)):
            function(run_id, *arguments)
    after = row.get()
    assert after["state"] == (left_in or before["state"])
    if left_in is None and (call, answer) != ("wake", True):
        assert after == before
    if after["state"] in ("completed", "failed", "cancelled"):
        assert not Timer.objects.filter(run_id=run_id).exists()


@pytest.mark.once
@pytest.mark.parametrize("state", MAKE)
def test_rerun_is_possible_in_every_state(state: str) -> None:
    """A run may be started anew whatever became of it; it stays as it is."""
    run_id = MAKE[state]()
    row = WorkflowRun.objects.filter(id=run_id).values()
    before = row.get()
    again = anything.rerun(run_id)
    assert again != run_id
    assert anything.status(again).state == "pending"
    assert row.get() == before


@pytest.mark.once
@pytest.mark.parametrize("run_id", [UUID(int=7), str(UUID(int=7)), "order-7", "", None, 7])
@pytest.mark.parametrize("call", [*CALLS, "rerun", "status", "result"])
@pytest.mark.parametrize("twin", [False, True], ids=["plain", "async"])
def test_an_unknown_run_is_not_found(call: str, run_id: Any, twin: bool) -> None:
    """An id that no run has, and anything that is no UUID: RunNotFound, from every call."""
    arguments = ("answered",) if call == "send" else ()
    function = async_to_sync(getattr(anything, f"a{call}")) if twin else getattr(anything, call)
    with pytest.raises(RunNotFound):
        function(run_id, *arguments)


@pytest.mark.once
@pytest.mark.parametrize("call", [*CALLS, "rerun", "status", "result"])
def test_a_run_of_another_workflow_is_not_found(call: str) -> None:
    """A workflow's verbs reach its own runs only, of all its versions; the client's reach every run."""

    @workflow("control.other", version="2")
    def other(ctx: Context) -> None: ...

    @workflow("control.other")
    def unversioned(ctx: Context) -> None: ...

    run_id = other.start()
    row = WorkflowRun.objects.filter(id=run_id).values()
    before = row.get()
    arguments = ("answered",) if call == "send" else ()
    with pytest.raises(RunNotFound, match=str(run_id)):
        getattr(anything, call)(run_id, *arguments)
    assert row.get() == before
    assert unversioned.status(run_id).version == "2"
    assert client.get_run(run_id).version == "2"
    assert client.pause(str(run_id)) is True
    assert async_to_sync(client.aresume)(run_id) is True
    assert async_to_sync(client.acancel)(run_id) is True
    assert async_to_sync(client.aget_run)(run_id).state == "cancelled"


@pytest.mark.parametrize(
    ("state", "call"), [("sleeping", "cancel"), ("sleeping", "pause"), ("paused", "resume"), ("failed", "retry")]
)
@pytest.mark.parametrize("twin", [False, True], ids=["plain", "async"])
def test_who_and_why_are_stored_with_the_run(state: str, call: str, twin: bool) -> None:
    """Every control call takes a reason and a person; the last one is on the run."""
    run_id = MAKE[state]()
    ada = User.objects.create(username="ada")
    function = async_to_sync(getattr(anything, f"a{call}")) if twin else getattr(anything, call)
    with freeze_time(clock.now()):
        moment = clock.now()
        assert function(run_id, "the customer called", by=ada) is True
    run = WorkflowRun.objects.get(id=run_id)
    assert (run.control, run.control_reason, run.control_by) == (call, "the customer called", "ada")
    assert run.control_at == moment


@pytest.mark.parametrize(
    ("state", "call"),
    [
        ("sleeping", "cancel"), ("running", "cancel"), ("waiting", "pause"), ("paused", "resume"),
        ("sleeping", "wake"), ("failed", "retry"), ("parked", "retry"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("bulk", [False, True], ids=["one", "bulk"])
def test_a_run_is_locked_first_and_written_by_its_primary_key(state: str, call: str, bulk: bool, tier: str) -> None:
    """No condition on another column, through whose index MySQL may come upon rows that others have locked."""
    if bulk and call not in ("cancel", "retry"):
        pytest.skip("there is no bulk of it")
    run_id = MAKE[state]()
    verb = getattr(anything.runs.filter(id=run_id), call) if bulk else lambda: getattr(anything, call)(run_id)
    with CaptureQueriesContext(connection) as queries:
        verb()
    asked = [query["sql"].replace("`", "").replace('"', "") for query in queries]
    locking = [sql for sql in asked if not sql.startswith(("SAVEPOINT", "RELEASE"))][1 if bulk else 0]
    assert "FOR NO KEY UPDATE" in locking or "FOR UPDATE" in locking or tier == "sqlite"
    written = [sql.partition(" WHERE ")[2] for sql in asked if sql.startswith("UPDATE canx_flow_workflowrun")]
    assert written
    for condition in written:
        assert re.fullmatch(r"(canx_flow_workflowrun\.)?id (IN \([^()]*\)|= \S*)", condition), condition


# -- cancel ------------------------------------------------------------------------------------------


def test_c081_the_step_in_flight_is_stored_and_nothing_after_it_starts(calls: list[str]) -> None:
    """Cancelled in the middle of a step: the run is stopping until that step is over, and then cancelled."""

    def charge(run_id: UUID) -> str:
        assert stopped.cancel(run_id, "changed my mind") is True
        assert stopped.status(run_id).state == "stopping"
        assert stopped.cancel(run_id) is True
        calls.append("charge")
        return "receipt"

    @workflow("control.c081")
    def stopped(ctx: Context) -> None:
        ctx.step("charge", charge, ctx.run_id)
        ctx.step("ship", calls.append, "ship")

    run_id = stopped.start()
    run_until_idle()
    status = stopped.status(run_id)
    assert (status.state, status.reason, calls) == ("cancelled", "changed my mind", ["charge"])
    record = StepRecord.objects.get(run_id=run_id)
    assert (record.name, record.state, record.result) == ("charge", "completed", '"receipt"')
    with pytest.raises(RunCancelled, match="changed my mind"):
        stopped.result(run_id)


@pytest.mark.parametrize("then", ["return", "sleep", "wait", "retry", "fail"])
def test_c081_a_cancelled_run_ends_cancelled_however_its_body_goes_on(then: str) -> None:
    """Whether the body would end, fail or suspend after the step in flight: no further attempt, and no timer."""
    attempts: list[int] = []

    def cancel_then(run_id: UUID) -> None:
        attempts.append(1)
        stopped.cancel(run_id)
        if then == "retry":
            raise ConnectionError("try again")

    @workflow("control.c081-then")
    def stopped(ctx: Context) -> str:
        ctx.step("cancel", cancel_then, ctx.run_id)
        match then:
            case "sleep":
                ctx.sleep("nap", HOUR)
            case "wait":
                ctx.wait_for("answer", "answered")
            case "fail":
                raise ValueError("no")
        return "done"

    run_id = stopped.start()
    assert advance(timedelta(days=1)) == 1
    status = stopped.status(run_id)
    assert (status.state, status.result, status.error, len(attempts)) == ("cancelled", None, None, 1)
    assert not Timer.objects.filter(run_id=run_id).exists()


def test_c081_an_async_run_is_cancelled_in_the_same_way(calls: list[str]) -> None:
    """The step in flight of an `async def` workflow is stored, and the next is not called."""

    async def charge(run_id: UUID) -> None:
        assert await stopped.acancel(run_id) is True
        calls.append("charge")

    @workflow("control.c081-async")
    async def stopped(ctx: AsyncContext) -> None:
        await ctx.step("charge", charge, ctx.run_id)
        await ctx.step("ship", calls.append, "ship")

    run_id = stopped.start()
    run_until_idle()
    assert (stopped.status(run_id).state, calls) == ("cancelled", ["charge"])
    assert StepRecord.objects.filter(run_id=run_id, state="completed").count() == 1


def test_c081_an_atomic_step_in_flight_is_stored_with_its_writes() -> None:
    """What an atomic step wrote before it was cancelled commits with its record."""

    def charge(run_id: UUID) -> None:
        User.objects.create(username="charged")
        stopped.cancel(run_id)

    @workflow("control.c081-atomic")
    def stopped(ctx: Context) -> None:
        ctx.step("charge", charge, ctx.run_id, atomic=True)
        ctx.step("ship", fail)

    run_id = stopped.start()
    run_until_idle()
    assert stopped.status(run_id).state == "cancelled"
    assert User.objects.filter(username="charged").exists()
    assert StepRecord.objects.get(run_id=run_id).state == "completed"


def test_c082_cancel_of_a_finished_run_changes_nothing_and_says_so() -> None:
    """A run that has completed or failed keeps its end and its result; the answer is False."""
    completed, failed = suspended(""), suspended("fail")
    assert anything.cancel(completed, "too late") is False
    assert anything.cancel(failed, "too late") is False
    assert (anything.status(completed).state, anything.status(completed).reason) == ("completed", "")
    assert (anything.status(failed).state, anything.status(failed).reason) == ("failed", "ValueError")
    assert anything.result(completed) == ""


def test_c083_cancel_twice_answers_the_same() -> None:
    """The second cancel of a run is True as the first was, and the first reason stays."""
    run_id = suspended("sleep")
    assert anything.cancel(run_id, "first") is True
    assert anything.cancel(run_id, "second") is True
    assert anything.status(run_id).reason == "first"


def test_a_cancelled_run_is_over_at_once() -> None:
    """With nothing in flight there is nothing to wait for: its timers are gone and it never runs again."""
    run_id = suspended("sleep")
    with freeze_time(clock.now() + MINUTE):
        anything.cancel(run_id)
        status = anything.status(run_id)
        assert (status.state, status.finished_at, status.waits) == ("cancelled", clock.now(), ())
        assert advance(2 * HOUR) == 0


def test_a_cancel_that_is_rolled_back_never_was() -> None:
    """It belongs to the caller's transaction."""
    run_id = suspended("sleep")
    with transaction.atomic():
        assert anything.cancel(run_id) is True
        transaction.set_rollback(True)
    assert anything.status(run_id).state == "sleeping"
    advance(HOUR)
    assert anything.status(run_id).state == "completed"


@pytest.mark.parametrize("ends", ["completed", "failed"])
def test_c084_a_stale_workers_write_is_refused(ends: str, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that was found dead in the middle of a step stores nothing more, once another has ended the run."""
    started: list[int] = []

    def step() -> int:
        started.append(len(started) + 1)
        if started == [1]:
            owner = WorkflowRun.objects.get().owner_id
            assert owner is not None
            assert leases.declare_dead(owner)
            assert leases.recover(owner)
            # Another worker, somewhere else.
            contextvars.Context().run(run_until_idle)
            assert leases.beat(owner) is False
            return 1
        if ends == "failed":
            raise ValueError("no")
        return 2

    @workflow("control.c084", retry=Retry(max_attempts=1))
    def contested(ctx: Context) -> int:
        got = ctx.step("contested", step)
        ctx.step("never", started.append, 99)
        return got

    run_id = contested.start()
    with caplog.at_level(logging.WARNING, "canx_flow.run"):
        run_until_idle()
    assert contested.status(run_id).state == ends
    assert started == ([1, 2, 99] if ends == "completed" else [1, 2])
    assert contested.status(run_id).result == (2 if ends == "completed" else None)
    refused = [record.message for record in caplog.records if "refused" in record.message]
    assert len(refused) == 1
    assert str(run_id) in refused[0]
    assert "contested" in refused[0]


# -- pause and resume --------------------------------------------------------------------------------


def test_c087_a_paused_run_starts_no_step(calls: list[str]) -> None:
    """Paused while it sleeps it stays so over restarts and beyond its timer; resumed, it goes on where it was."""

    @workflow("control.c087")
    def sleeper(ctx: Context) -> None:
        ctx.step("before", calls.append, "before")
        ctx.sleep("nap", HOUR)
        ctx.step("after", calls.append, "after")

    with freeze_time(START):
        run_id = sleeper.start()
        run_until_idle()
        assert sleeper.pause(run_id)
        for _ in range(3):
            assert advance(HOUR) == 0
        status = sleeper.status(run_id)
        assert (status.state, status.step, status.resume_at) == ("paused", "nap", START + HOUR)
        assert sleeper.resume(run_id)
        run_until_idle()
        assert sleeper.status(run_id).finished_at == START + 3 * HOUR
    assert calls == ["before", "after"]


def test_c087_timers_keep_their_time_while_paused() -> None:
    """A pause shorter than the sleep changes nothing about its end."""
    with freeze_time(START):
        run_id = anything.start("sleep")
        run_until_idle()
        anything.pause(run_id)
        advance(20 * MINUTE)
        anything.resume(run_id)
        run_until_idle()
        status = anything.status(run_id)
        assert (status.state, status.resume_at) == ("sleeping", START + HOUR)
        advance(40 * MINUTE)
        assert anything.status(run_id).finished_at == START + HOUR


def test_a_run_paused_before_its_first_activation_starts_on_resume(calls: list[str]) -> None:
    """A pending run that is paused is not claimed."""

    @workflow("control.paused-pending")
    def plain(ctx: Context) -> None:
        ctx.step("work", calls.append, "work")

    run_id = plain.start()
    plain.pause(run_id)
    assert run_until_idle() == 0
    assert plain.status(run_id).started_at is None
    plain.resume(run_id)
    run_until_idle()
    assert (plain.status(run_id).state, calls) == ("completed", ["work"])


@pytest.mark.parametrize("then", ["step", "return", "sleep", "wait", "fail"])
def test_c088_the_step_in_flight_is_kept_and_the_run_stays_paused(then: str, calls: list[str]) -> None:
    """Paused in the middle of a step: its result is stored, nothing else is settled; resumed, the rest happens once."""

    def first(run_id: UUID) -> str:
        calls.append("first")
        assert pausing.pause(run_id) is True
        assert pausing.pause(run_id) is True
        return "kept"

    @workflow("control.c088")
    def pausing(ctx: Context) -> str:
        got = ctx.step("first", first, ctx.run_id)
        match then:
            case "step":
                ctx.step("second", calls.append, "second")
            case "sleep":
                ctx.sleep("nap", HOUR)
            case "wait":
                ctx.wait_for("answer", "answered", timeout=HOUR, default=None)
            case "fail":
                raise ValueError("no")
        return got

    run_id = pausing.start()
    run_until_idle()
    assert (pausing.status(run_id).state, calls) == ("paused", ["first"])
    assert WorkflowRun.objects.get(id=run_id).owner_id is None
    assert StepRecord.objects.get(run_id=run_id, name="first").result == '"kept"'
    assert advance(2 * HOUR) == 0
    pausing.resume(run_id)
    advance(HOUR)
    status = pausing.status(run_id)
    assert (status.state, status.result) == (("failed", None) if then == "fail" else ("completed", "kept"))
    assert calls == (["first", "second"] if then == "step" else ["first"])


def test_c088_a_failed_attempt_is_kept_too() -> None:
    """The attempt in flight fails: it is counted, and the next one waits for the resume although its time has come."""
    attempts: list[str] = []

    def flaky(run_id: UUID) -> str:
        attempts.append("call")
        if len(attempts) == 1:
            pausing.pause(run_id)
            raise ConnectionError("no")
        return "yes"

    @workflow("control.c088-retry")
    def pausing(ctx: Context) -> str:
        return ctx.step("flaky", flaky, ctx.run_id)

    run_id = pausing.start()
    run_until_idle()
    status = pausing.status(run_id)
    assert (status.state, status.step, status.attempt) == ("paused", "flaky", 2)
    assert advance(HOUR) == 0
    pausing.resume(run_id)
    run_until_idle()
    assert (pausing.status(run_id).result, len(attempts)) == ("yes", 2)
    assert StepRecord.objects.get(run_id=run_id).attempts == 2


def test_a_run_paused_and_resumed_within_one_step_runs_on(calls: list[str]) -> None:
    """Its owner never lets go: resumed before the step was over, it is running again."""

    def hesitate(run_id: UUID) -> None:
        pausing.pause(run_id)
        assert pausing.status(run_id).state == "paused"
        pausing.resume(run_id)
        assert pausing.status(run_id).state == "running"

    @workflow("control.hesitate")
    def pausing(ctx: Context) -> None:
        ctx.step("hesitate", hesitate, ctx.run_id)
        ctx.step("go on", calls.append, "on")

    run_id = pausing.start()
    assert run_until_idle() == 1
    assert (pausing.status(run_id).state, calls) == ("completed", ["on"])


def test_a_run_paused_then_cancelled_within_one_step_is_cancelled() -> None:
    """A paused run that still has an owner is stopping until its step is over."""

    def stop(run_id: UUID) -> None:
        stopped.pause(run_id)
        assert stopped.cancel(run_id) is True
        assert stopped.status(run_id).state == "stopping"

    @workflow("control.pause-cancel")
    def stopped(ctx: Context) -> None:
        ctx.step("stop", stop, ctx.run_id)
        ctx.step("never", fail)

    run_id = stopped.start()
    run_until_idle()
    assert stopped.status(run_id).state == "cancelled"


@pytest.mark.parametrize("state", ["sleeping", "sleeping, delayed", "waiting", "retrying", "pending"])
def test_pause_and_resume_are_idempotent(state: str) -> None:
    """A second pause, a second resume: True, and nothing changes."""
    run_id = MAKE[state]()
    row = WorkflowRun.objects.filter(id=run_id).values()
    for call in (anything.pause, anything.resume):
        assert call(run_id, "once") is True
        before, timers_before = row.get(), list(Timer.objects.values())
        assert call(run_id, "twice") is True
        assert (row.get(), list(Timer.objects.values())) == (before, timers_before)


def test_a_timeout_that_fell_due_while_paused_acts_on_resume() -> None:
    """A wait that should have given up gives up when the run goes on, not before."""

    @workflow("control.paused-wait")
    def waiter(ctx: Context) -> Any:
        return ctx.wait_for("answer", "answered", timeout=HOUR, default="nobody")

    run_id = waiter.start()
    run_until_idle()
    waiter.pause(run_id)
    advance(2 * HOUR)
    assert waiter.status(run_id).state == "paused"
    waiter.resume(run_id)
    run_until_idle()
    assert waiter.status(run_id).result == "nobody"


@pytest.mark.parametrize("passed", [False, True])
def test_a_delayed_start_is_paused_and_resumed(passed: bool) -> None:
    """Resumed before its time it sleeps on until then; resumed later it starts at once."""
    with freeze_time(START):
        run_id = anything.using(delay=HOUR).start()
        assert anything.pause(run_id)
        assert advance(2 * HOUR if passed else HOUR / 2) == 0
        assert anything.resume(run_id)
        assert anything.status(run_id).state == "sleeping"
        assert run_until_idle() == (1 if passed else 0)
        assert advance(HOUR) == (0 if passed else 1)
        assert anything.status(run_id).started_at == START + (2 * HOUR if passed else HOUR)


def test_a_run_that_waits_out_an_outage_can_be_paused_and_resumed() -> None:
    """Resumed, it tries again now; if the database is still away it waits again, and does not fail."""
    away = [True]

    @workflow("control.outage")
    def reading(ctx: Context) -> str:
        if away:
            raise OperationalError("the server is gone")
        return "read"

    run_id = reading.start()
    run_until_idle()
    assert reading.status(run_id).state == "retrying"
    reading.pause(run_id)
    reading.resume(run_id)
    run_until_idle()
    assert reading.status(run_id).state == "retrying"
    away.clear()
    advance(HOUR)
    assert reading.status(run_id).result == "read"


# -- retry -------------------------------------------------------------------------------------------


def test_c089_a_retried_run_keeps_finished_steps_and_runs_the_failed_one_again(calls: list[str]) -> None:
    """Only the step that ended the run is called again; what it returned then counts."""
    broken = [True]

    def pay() -> str:
        calls.append("pay")
        if broken:
            raise ValueError("declined")
        return "paid"

    @workflow("control.c089", retry=Retry(max_attempts=1))
    def order(ctx: Context) -> str:
        ctx.step("reserve", calls.append, "reserve")
        return ctx.step("pay", pay)

    run_id = order.start()
    run_until_idle()
    assert order.status(run_id).state == "failed"
    broken.clear()
    assert order.retry(run_id, "the bank is back") is True
    status = order.status(run_id)
    assert (status.state, status.error, status.reason, status.finished_at) == ("pending", None, "", None)
    run_until_idle()
    status = order.status(run_id)
    assert (status.state, status.result, status.error) == ("completed", "paid", None)
    assert calls == ["reserve", "pay", "pay"]


def test_c089_the_failed_step_gets_a_fresh_attempt_count() -> None:
    """With three attempts allowed, a retried step has three more, and its failure says three."""
    attempts: list[int] = []

    def pay() -> None:
        attempts.append(len(attempts) + 1)
        raise ValueError(f"declined {len(attempts)}")

    @workflow("control.c089-fresh", retry=Retry(max_attempts=3, initial=1, jitter=0))
    def order(ctx: Context) -> None:
        ctx.step("pay", pay)

    run_id = order.start()
    advance(HOUR)
    assert attempts == [1, 2, 3]
    order.retry(run_id)
    run_until_idle()
    assert (order.status(run_id).state, order.status(run_id).attempt) == ("retrying", 2)
    advance(HOUR)
    assert attempts == [1, 2, 3, 4, 5, 6]
    status = order.status(run_id)
    assert status.error is not None
    assert (status.state, status.error["step"]) == ("failed", "pay")
    assert "3 attempts" in status.error["message"]
    assert "declined 6" in status.error["message"]


def test_c089_failures_that_the_body_caught_stay(calls: list[str]) -> None:
    """A step whose failure was caught is not called again by a retry: its failure replays."""
    broken = [True]

    def optional() -> None:
        calls.append("optional")
        raise ValueError("no")

    def required() -> None:
        calls.append("required")
        if broken:
            raise KeyError("no")

    @workflow("control.c089-caught", retry=Retry(max_attempts=1))
    def order(ctx: Context) -> str:
        try:
            ctx.step("optional", optional)
        except StepFailed as error:
            caught = error.step
        ctx.step("required", required)
        return caught

    run_id = order.start()
    run_until_idle()
    broken.clear()
    order.retry(run_id)
    run_until_idle()
    assert order.status(run_id).result == "optional"
    assert calls == ["optional", "required", "required"]


def test_c089_a_failure_of_the_body_itself_is_retried_too(calls: list[str]) -> None:
    """A bug between the steps, fixed and deployed: the retried run replays its steps and goes past it."""
    broken = [True]

    @workflow("control.c089-body")
    def order(ctx: Context) -> str:
        ctx.step("reserve", calls.append, "reserve")
        if broken:
            raise KeyError("a bug")
        return "fixed"

    run_id = order.start()
    run_until_idle()
    broken.clear()
    order.retry(run_id)
    run_until_idle()
    assert (order.status(run_id).result, calls) == ("fixed", ["reserve"])


def test_c089_a_retried_step_that_gave_up_is_called_again() -> None:
    """At most once per attempt count: a retry is a decision of people to call it again."""
    attempts: list[str] = []

    def once() -> str:
        attempts.append("call")
        if len(attempts) == 1:
            raise ValueError("no")
        return "yes"

    @workflow("control.c089-once")
    def order(ctx: Context) -> str:
        return ctx.step("once", once, at_most_once=True)

    run_id = order.start()
    advance(HOUR)
    assert (order.status(run_id).state, attempts) == ("failed", ["call"])
    order.retry(run_id)
    run_until_idle()
    assert order.status(run_id).result == "yes"


class OrderError(Exception):
    """What the workflows below make of a failed step."""


def raised_from(ctx: Context, pay: Callable[[], Any]) -> None:
    """The body's own exception, raised from the step's."""
    try:
        ctx.step("pay", pay)
    except StepFailed as error:
        raise OrderError("could not pay") from error


def raised_while(ctx: Context, pay: Callable[[], Any]) -> None:
    """The body's own exception, raised where the step's was caught."""
    try:
        ctx.step("pay", pay)
    except StepFailed:
        raise OrderError(f"could not pay at {ctx.now()}")  # noqa: B904 - this is what is tried


def raised_in_a_group(ctx: Context, pay: Callable[[], Any]) -> None:
    """The failures of two steps, as one."""
    failures = []
    for name in ("pay", "pay again"):
        try:
            ctx.step(name, pay)
        except StepFailed as error:
            failures.append(error)
    if failures:
        raise ExceptionGroup("could not pay", failures)


@pytest.mark.parametrize("body", [raised_from, raised_while, raised_in_a_group])
def test_c089_the_step_that_led_to_another_exception_is_called_again(body: Any) -> None:
    """However the body wraps the failure that ends the run, a retry gives that step a fresh attempt count."""
    broken, attempts = [True], []

    def pay() -> None:
        attempts.append(len(attempts) + 1)
        if broken:
            raise ConnectionError("the bank is away")

    @workflow("control.c089-led-to", retry=Retry(max_attempts=2, initial=1))
    def order(ctx: Context) -> str:
        body(ctx, pay)
        return "paid"

    run_id = order.start()
    advance(HOUR)
    calls = len(attempts)
    status = order.status(run_id)
    assert status.error is not None
    assert (status.state, status.error["step"]) == ("failed", "pay")
    order.retry(run_id)
    advance(HOUR)
    assert len(attempts) == 2 * calls
    assert order.status(run_id).state == "failed"
    broken.clear()
    order.retry(run_id)
    run_until_idle()
    assert order.status(run_id).result == "paid"


def test_c089_a_failure_with_a_way_out_stays(calls: list[str]) -> None:
    """A step whose failure was answered with another step is not called again, though a bug came in that clause."""
    broken = [True]

    def card() -> None:
        calls.append("card")
        raise ValueError("declined")

    @workflow("control.c089-way-out", retry=Retry(max_attempts=1))
    def order(ctx: Context) -> str:
        try:
            ctx.step("card", card)
        except StepFailed:
            ctx.step("account", calls.append, "account")
            if broken:
                raise KeyError("a bug")  # noqa: B904 - this is what is tried
        return "paid"

    run_id = order.start()
    run_until_idle()
    error = order.status(run_id).error
    assert error is not None
    assert "step" not in error
    broken.clear()
    order.retry(run_id)
    run_until_idle()
    assert (order.status(run_id).result, calls) == ("paid", ["card", "account"])


@pytest.mark.once
def test_c090_retry_of_a_run_that_is_not_failed_is_refused_by_name() -> None:
    """InvalidState says which state the run is in."""
    run_id = suspended("sleep")
    with pytest.raises(InvalidState, match="sleeping"):
        anything.retry(run_id)


# -- rerun -------------------------------------------------------------------------------------------


def test_rerun_starts_the_same_again_under_a_new_id() -> None:
    """Input, version, queue, priority, subject, first attributes and timeout are the old run's; its key is not."""
    ada = User.objects.create(username="ada")

    @workflow("control.rerun", version="1")
    def order(ctx: Context, number: int, *, when: datetime) -> list[Any]:
        ctx.set_attributes(stage="done", seen=True)
        return [number, when]

    @workflow("control.rerun", version="2")
    def newer(ctx: Context) -> None: ...

    options = {"queue": "slow", "priority": 7, "timeout": 3600, "subject": ada, "attributes": {"stage": "new"}}
    old = order.using(key="order-7", **options).start(7, when=START)
    run_until_idle()
    new = newer.rerun(old, "once more", by=ada)
    first, second = WorkflowRun.objects.get(id=old), WorkflowRun.objects.get(id=new)
    assert (first.key, second.key) == ("order-7", None)
    assert (second.version, second.queue, second.priority, second.timeout) == ("1", "slow", 7, 3600.0)
    assert (second.subject, second.attributes, second.state) == (ada, {"stage": "new"}, "pending")
    assert (second.control_reason, second.control_by) == ("once more", "ada")
    run_until_idle()
    assert order.result(new) == order.result(old) == [7, START]
    assert order.status(new).attributes == {"stage": "done", "seen": True}


def test_rerun_of_a_keyed_run_leaves_its_key_alone() -> None:
    """The key still finds the first run."""
    old = anything.using(key="k").start()
    anything.rerun(old)
    anything.rerun(old)
    assert anything.using(key="k").start() == old
    assert anything.runs.count() == 3


# -- in bulk -----------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_c095_ten_thousand_runs_are_cancelled_by_filter_in_bounded_transactions() -> None:
    """Bulk cancel counts what it did, leaves what the filter leaves out, and locks a few hundred rows at a time."""

    @workflow("control.c095")
    def many(ctx: Context, number: int) -> None: ...

    many.start_many((number,) for number in range(10_000))
    kept = many.using(priority=1).start(0)
    done = many.start(0)
    many.cancel(done)
    with CaptureQueriesContext(connection) as captured:
        counts = many.runs.filter(priority=0).cancel("a mistake", by="ada")
    assert counts == {"cancelled": 10_000, "stopping": 0, "unchanged": 1}
    assert many.runs.states("cancelled").count() == 10_001
    assert many.runs.filter(reason="a mistake", control_by="ada").count() == 10_000
    assert many.status(kept).state == "pending"
    commits = [query for query in captured if query["sql"] == "COMMIT"]
    assert len(commits) >= 10
    assert len(captured) < 300


def test_c095_bulk_cancel_counts_each_outcome() -> None:
    """Runs without an owner are cancelled, those at work are stopping, ended ones stay as they are."""
    for state in ("sleeping", "waiting", "retrying", "paused", "parked", "failed", "completed", "cancelled"):
        MAKE[state]()
    for state in ("running", "sleeping, delayed", "pending"):
        MAKE[state]()
    counts = anything.runs.cancel()
    assert counts == {"cancelled": 7, "stopping": 1, "unchanged": 3}
    assert anything.runs.cancel() == {"cancelled": 0, "stopping": 0, "unchanged": 11}
    assert not Timer.objects.exists()
    assert anything.runs.none().cancel() == {"cancelled": 0, "stopping": 0, "unchanged": 0}


def test_a_bulk_verb_counts_a_run_once_however_many_rows_a_join_has_of_it() -> None:
    """As many as are found by their records, of which each has several."""
    for _ in range(2):
        run_id = suspended("undo")
        StepRecord.objects.bulk_create(
            StepRecord(run_id=run_id, seq=seq, name=f"s{seq}", kind="step", state="completed", started_at=clock.now())
            for seq in range(10, 400)
        )
    found = anything.runs.filter(records__state="completed")
    assert found.count() > 500
    assert found.cancel(undo=False) == {"cancelled": 2, "stopping": 0, "unchanged": 0}
    assert found.retry() == {"retried": 0, "unchanged": 2}


def test_bulk_retry_counts_each_outcome() -> None:
    """Failed and parked runs go on, the others are counted as unchanged."""
    failed = [suspended("fail") for _ in range(3)]
    lost = parked()
    asleep = suspended("sleep")
    assert anything.runs.retry("again", by="ada") == {"retried": 4, "unchanged": 1}
    assert {anything.status(run_id).state for run_id in (*failed, lost)} == {"pending"}
    assert anything.status(asleep).state == "sleeping"
    assert anything.runs.filter(control="retry", control_reason="again", control_by="ada").count() == 4
    assert anything.runs.states("failed").retry() == {"retried": 0, "unchanged": 0}


def test_bulk_retry_leaves_the_timers_of_paused_runs_alone() -> None:
    """What goes on beside a paused run does not make the paused one's timers act."""
    asleep = suspended("sleep")
    anything.pause(asleep)
    parked()
    assert anything.runs.retry() == {"retried": 1, "unchanged": 1}
    assert Timer.objects.get(run_id=asleep).held


def test_ten_thousand_are_retried_in_few_statements() -> None:
    """Bulk retry takes a few hundred runs at a time, not one after the other."""
    suspended("fail")
    (failed,) = anything.runs.states("failed")
    for _ in range(1, 600):
        failed.pk = None
        failed.id = uuid7()
        failed.save(force_insert=True)
    with CaptureQueriesContext(connection) as captured:
        assert anything.runs.retry() == {"retried": 600, "unchanged": 0}
    assert len(captured) < 60


@pytest.mark.once
def test_bulk_verbs_have_async_twins() -> None:
    """As on any queryset of Django: `acancel`, `aretry`."""
    suspended("fail")
    assert async_to_sync(anything.runs.aretry)() == {"retried": 1, "unchanged": 0}
    assert async_to_sync(anything.runs.acancel)("enough") == {"cancelled": 1, "stopping": 0, "unchanged": 0}
