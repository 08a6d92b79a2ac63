"""What is told of a run: signals after the commit, and its failures in the log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connections, transaction
from django.dispatch import Signal

from canx_flow import AsyncContext, Context, Retry, conf, get_run, signals, workflow
from canx_flow.core import clock, registry
from canx_flow.models import StepRecord, WorkflowRun
from canx_flow.store import claims, leases, timers
from canx_flow.testing import advance, run_until_idle

from .models import Effect

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
NAMES = {id(signal): name for name, signal in vars(signals).items() if isinstance(signal, Signal)}


@dataclass
class Heard:
    """Everything that was sent, in order: (name of the signal, what came with it)."""

    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    #: Called with each, while it is being sent.
    then: Callable[[str, UUID], object] | None = None

    def receive(self, signal: Signal, sender: Any, **kwargs: Any) -> None:
        name = NAMES[id(signal)]
        self.told.append((name, {"sender": sender, **kwargs}))
        if self.then is not None:
            self.then(name, kwargs["run_id"])

    @property
    def names(self) -> list[str]:
        """The signals, in order; a step's with the step."""
        return [f"{name} {kwargs['step']}" if "step" in kwargs else name for name, kwargs in self.told]


@pytest.fixture
def heard() -> Iterator[Heard]:
    """What a receiver of all nine signals is told during a test."""
    heard = Heard()
    for signal in signals.ALL:
        signal.connect(heard.receive, weak=False)
    yield heard
    for signal in signals.ALL:
        signal.disconnect(heard.receive)


@workflow("told.plain", retry=Retry(max_attempts=2, jitter=0))
def plain(ctx: Context, what: str = "") -> str:
    """Two steps and a sleep between them; `what` is how it goes wrong."""
    ctx.step("first", act, what)
    ctx.sleep("nap", HOUR)
    ctx.step("second", len, "ab")
    if what == "fail":
        raise KeyError("no")
    return "done"


def act(what: str) -> str:
    """Fails where asked to; the first time only, or always."""
    if what == "flaky":
        attempts = StepRecord.objects.filter(name="first").count()
        if attempts == 0:
            raise ConnectionError("once")
    if what == "broken":
        raise ConnectionError("always")
    return what


# -- each signal -----------------------------------------------------------------------------------------------


@pytest.mark.once
def test_the_signals_of_a_life(heard: Heard) -> None:
    """Started once, suspended, resumed, completed; each step once, however often it is replayed."""
    run_id = plain.start()
    assert heard.told == []
    advance(HOUR)
    assert heard.names == [
        "run_started", "step_completed first", "run_suspended",
        "run_resumed", "step_completed second", "run_completed",
    ]  # fmt: skip
    for _, kwargs in heard.told:
        assert (kwargs["sender"], kwargs["run_id"], kwargs["workflow"]) == (plain, run_id, "told.plain")
    assert heard.told[2][1]["state"] == "sleeping"
    assert heard.told[1][1]["attempt"] == 1


@pytest.mark.once
def test_the_signals_of_an_async_life(heard: Heard) -> None:
    """An `async def` workflow tells the same."""

    @workflow("told.async")
    async def asynchronous(ctx: AsyncContext) -> None:
        await ctx.step("first", act, "")
        await ctx.step("atomic", act, "", atomic=True)
        await ctx.sleep("nap", HOUR)

    asynchronous.start()
    advance(HOUR)
    assert heard.names == [
        "run_started", "step_completed first", "step_completed atomic", "run_suspended", "run_resumed",
        "run_completed",
    ]  # fmt: skip


@pytest.mark.once
def test_each_failed_attempt_is_told(heard: Heard) -> None:
    """`step_failed` comes with the attempt and its error; then the attempt that succeeds."""
    plain.start("flaky")
    advance(10)
    assert heard.names == [
        "run_started", "step_failed first", "run_suspended",
        "run_resumed", "step_completed first", "run_suspended",
    ]  # fmt: skip
    failed, suspended, completed = heard.told[1][1], heard.told[2][1], heard.told[4][1]
    assert (failed["attempt"], failed["error"]["type"], failed["error"]["message"]) == (
        1,
        "builtins.ConnectionError",
        "once",
    )
    assert (suspended["state"], completed["attempt"]) == ("retrying", 2)


@pytest.mark.once
def test_a_failed_run_is_told(heard: Heard) -> None:
    """The last attempt, then the run; a retry resumes it."""
    run_id = plain.start("broken")
    advance(10)
    assert heard.names == [
        "run_started", "step_failed first", "run_suspended", "run_resumed", "step_failed first", "run_failed",
    ]  # fmt: skip
    heard.told.clear()
    plain.retry(run_id)
    assert heard.names == []
    run_until_idle()
    assert heard.names == ["run_resumed", "step_failed first", "run_suspended"]


def test_a_run_that_its_deadline_ends_is_told(heard: Heard) -> None:
    """Suspended or with a step in flight: `run_failed`, once."""
    plain.using(timeout=60).start()
    advance(HOUR)
    assert heard.names == ["run_started", "step_completed first", "run_suspended", "run_failed"]
    heard.told.clear()

    def late() -> None:
        clock.shift(HOUR)
        timers.fire("default")

    @workflow("told.late", timeout=60)
    def busy(ctx: Context) -> None:
        ctx.step("late", late)

    busy.start()
    run_until_idle()
    assert heard.names == ["run_started", "step_completed late", "run_failed"]


@pytest.mark.django_db(transaction=True)
def test_a_run_cancelled_from_outside_is_told_after_the_commit(heard: Heard) -> None:
    """Not before, not if it is rolled back, not twice; in bulk, one for each run."""
    run_ids = {plain.start() for _ in range(4)}
    first = run_ids.pop()
    with transaction.atomic():
        plain.cancel(first)
        transaction.set_rollback(True)
    assert heard.told == []
    with transaction.atomic():
        plain.cancel(first)
        assert heard.told == []
    plain.cancel(first)
    assert [(name, kwargs["run_id"], kwargs["sender"]) for name, kwargs in heard.told] == [
        ("run_cancelled", first, plain)
    ]
    heard.told.clear()
    plain.runs.cancel()
    assert heard.names == ["run_cancelled"] * 3
    assert {kwargs["run_id"] for _, kwargs in heard.told} == run_ids


def test_a_run_cancelled_at_work_is_told_when_it_ends(heard: Heard) -> None:
    """Its step in flight first, and then `run_cancelled`, from the worker that had it."""

    @workflow("told.stopped")
    def stopped(ctx: Context) -> None:
        ctx.step("stop", stopped.cancel, ctx.run_id)

    stopped.start()
    run_until_idle()
    assert heard.names == ["run_started", "step_completed stop", "run_cancelled"]


def test_a_parked_run_is_told(heard: Heard) -> None:
    """With its reason: a mismatch, a workflow that nobody knows, too many crashes."""
    mismatched = plain.start()
    run_until_idle()
    StepRecord.objects.filter(run_id=mismatched, name="first").update(kind="sleep")
    plain.wake(mismatched)
    heard.told.clear()
    run_until_idle()
    assert heard.names == ["run_resumed", "run_parked"]
    assert heard.told[1][1]["reason"].startswith("HistoryMismatch")
    heard.told.clear()
    plain.cancel(mismatched)
    run_until_idle()
    assert heard.names == ["run_cancelled"]
    heard.told.clear()

    unknown = plain.start()
    WorkflowRun.objects.filter(id=unknown).update(version="gone")
    run_until_idle()
    assert [(name, kwargs["run_id"], kwargs["sender"]) for name, kwargs in heard.told] == [
        ("run_parked", unknown, None)
    ]
    assert heard.told[0][1]["reason"].startswith("UnknownWorkflow")
    heard.told.clear()

    killer = plain.start()
    WorkflowRun.objects.filter(id=killer).update(recoveries=3 + conf.get().max_recoveries - 1)
    worker = leases.register(host="elsewhere", pid=1)
    claims.claim(connections["default"], worker.id, 1, registry.identities(), alone=True)
    leases.declare_dead(worker.id)
    leases.recover(worker.id)
    assert heard.names == ["run_parked"]
    assert heard.told[0][1]["reason"].startswith("TooManyRecoveries")


# -- receivers -------------------------------------------------------------------------------------------------


@pytest.mark.once
def test_a_receiver_of_one_workflow_hears_of_its_runs_only() -> None:
    """The sender is the workflow, as in `connect(receiver, sender=plain)`."""
    told: list[UUID] = []

    def receive(run_id: UUID, **_: Any) -> None:
        told.append(run_id)

    @workflow("told.other")
    def other(ctx: Context) -> None: ...

    signals.run_completed.connect(receive, sender=other)
    try:
        plain.start()
        run_id = other.start()
        advance(HOUR)
    finally:
        signals.run_completed.disconnect(receive, sender=other)
    assert told == [run_id]


@pytest.mark.once
@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("what", ["", "flaky", "broken", "fail"])
def test_a_failing_receiver_is_logged_and_never_breaks_a_run(
    heard: Heard, caplog: pytest.LogCaptureFixture, what: str, asynchronous: bool
) -> None:
    """Every receiver of every signal raises: the run goes as it would, and each failure is in the log."""

    @workflow("told.harassed", retry=Retry(max_attempts=2, jitter=0))
    async def harassed(ctx: AsyncContext, what: str) -> str:
        await ctx.step("first", act, what)
        await ctx.sleep("nap", HOUR)
        if what == "fail":
            raise KeyError("no")
        return "done"

    def fail(name: str, run_id: UUID) -> None:
        raise ValueError(f"receiver of {name}")

    heard.then = fail
    chosen = harassed if asynchronous else plain
    run_id = chosen.start(what)
    with caplog.at_level(logging.ERROR, "django.dispatch"):
        advance(2 * HOUR)
    status = chosen.status(run_id)
    assert status.state == ("failed" if what in {"broken", "fail"} else "completed")
    assert status.result == (None if what in {"broken", "fail"} else "done")
    logged = [record for record in caplog.records if record.name == "django.dispatch"]
    assert len(logged) == len(heard.told) > 3


@pytest.mark.django_db(transaction=True)
def test_a_failing_receiver_does_not_break_the_caller_of_cancel(heard: Heard) -> None:
    """Neither the call nor its transaction hears of it."""

    def fail(name: str, run_id: UUID) -> None:
        raise ValueError(name)

    heard.then = fail
    run_id = plain.start()
    with transaction.atomic():
        assert plain.cancel(run_id) is True
    assert heard.names == ["run_cancelled"]
    assert plain.status(run_id).state == "cancelled"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["", "flaky", "fail"])
def test_signals_come_after_the_commit(heard: Heard, what: str) -> None:
    """At the moment of a signal, another connection sees what it tells."""
    seen: list[tuple[str, str | None, list[str]]] = []

    def look() -> tuple[str, list[str]]:
        run = WorkflowRun.objects.get()
        return run.state, list(run.records.filter(kind="step").order_by("seq").values_list("state", flat=True))

    def from_elsewhere(name: str, run_id: UUID) -> None:
        def elsewhere() -> None:
            try:
                seen.append((name, *look()))
            finally:
                connections.close_all()

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join(60)

    heard.then = from_elsewhere
    plain.start(what)
    advance(2 * HOUR)
    done = ["completed"]
    tries = [
        ("step_failed", "retrying", ["open"]), ("run_suspended", "retrying", ["open"]),
        ("run_resumed", "running", ["due"]),
    ]  # fmt: skip
    end = ("run_failed", "failed", done * 2) if what == "fail" else ("run_completed", "completed", done * 2)
    states = [(name, state, records) for name, state, records in seen if name != "step_completed"]
    assert states == [
        ("run_started", "running", []), *(tries if what == "flaky" else []),
        ("run_suspended", "sleeping", done), ("run_resumed", "running", done), end,
    ]  # fmt: skip
    assert [records for name, _, records in seen if name == "step_completed"] == [done, done * 2]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])
def test_a_receiver_may_use_the_orm_and_ask_about_the_run(heard: Heard, asynchronous: bool) -> None:
    """Receivers are called where the database may be used, and are neither in the body nor in a step."""

    @workflow("told.asked")
    def asked(ctx: Context) -> None:
        ctx.step("first", act, "")
        ctx.step("atomic", act, "", atomic=True)

    @workflow("told.asked-async")
    async def asked_async(ctx: AsyncContext) -> None:
        await ctx.step("first", act, "")
        await ctx.step("atomic", act, "", atomic=True)

    states: list[str] = []

    def ask(name: str, run_id: UUID) -> None:
        Effect.objects.create(name=name)
        states.append(get_run(run_id).state)
        if name == "run_completed":
            plain.start()
            plain.start()

    heard.then = ask
    (asked_async if asynchronous else asked).start()
    run_until_idle()
    mine = ["run_started", "step_completed", "step_completed", "run_completed"]
    assert list(Effect.objects.order_by("id").values_list("name", flat=True))[:4] == mine
    assert states[:4] == ["running", "running", "running", "completed"]
    assert plain.runs.filter(key=None).count() == 2


# -- the log ---------------------------------------------------------------------------------------------------


def test_failed_and_parked_runs_are_logged_as_errors(caplog: pytest.LogCaptureFixture) -> None:
    """One line at ERROR on `canx_flow.run` for each, with the run, its workflow, and why; none for any other end."""
    caplog.set_level(logging.INFO)
    failed, late = plain.start("fail"), plain.using(timeout=60).start()
    stopped, done, mismatched, unknown = plain.start(), plain.start(), plain.start(), plain.start()
    run_until_idle()
    plain.cancel(stopped)
    StepRecord.objects.filter(run_id=mismatched, name="first").update(kind="sleep")
    WorkflowRun.objects.filter(id=unknown).update(version="gone")
    advance(HOUR)
    expected = {
        failed: f"Run {failed} of told.plain failed: KeyError: 'no'",
        late: f"Run {late} of told.plain failed: it had not ended at its deadline",
        mismatched: f"Run {mismatched} of told.plain is parked: HistoryMismatch",
        unknown: f"Run {unknown} of told.plain is parked: UnknownWorkflow",
    }
    records = [r for r in caplog.records if r.name == "canx_flow.run" and r.levelno >= logging.ERROR]
    assert len(records) == len(expected)
    by_run = {record.__dict__["run_id"]: record for record in records}
    for run_id, message in expected.items():
        record = by_run[str(run_id)]
        assert record.getMessage().startswith(message)
        assert record.__dict__["workflow"] == "told.plain"
    assert plain.status(done).state == "completed"


@pytest.mark.once
def test_a_run_stopped_by_its_deadline_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """With a step in flight the worker that had it says so, and why."""

    def late() -> None:
        clock.shift(HOUR)
        timers.fire("default")

    @workflow("told.late-log", timeout=60)
    def busy(ctx: Context) -> None:
        ctx.step("late", late)

    run_id = busy.start()
    run_until_idle()
    [record] = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert record.name == "canx_flow.run"
    assert record.getMessage() == f"Run {run_id} of told.late-log failed: it had not ended at its deadline"
