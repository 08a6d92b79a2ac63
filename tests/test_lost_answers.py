"""Each of the engine's writes is done, and its answer is lost: what was asked is found out, and told as it is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import OperationalError, connections

from canx_flow import AsyncContext, Context, RunFailed, current_step, signals, workflow
from canx_flow.core import clock
from canx_flow.core.changes import Change, Record
from canx_flow.models import Event, StepRecord, Timer, WorkflowRun
from canx_flow.store import claims, events, leases, starts, timers, unclear, writes
from canx_flow.store.db import engine
from canx_flow.worker.port import WorkerLease

from .lost import LostAnswer, LostCommit, worker
from .models import Effect
from .waiting import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    # Threads of a worker leave connections to the garbage collector, as their process does when it ends.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

calls: list[Any] = []
LEASE = 1.5


@workflow("lost.steps")
def steps(ctx: Context, label: str) -> str:
    """Two steps."""
    ctx.step("one", calls.append, f"{label} one")
    ctx.step("two", calls.append, f"{label} two")
    return label


@workflow("lost.asteps")
async def asteps(ctx: AsyncContext, label: str) -> str:
    """The same, async."""
    await ctx.step("one", calls.append, f"{label} one")
    await ctx.step("two", calls.append, f"{label} two")
    return label


@workflow("lost.fails")
def fails(ctx: Context) -> None:
    """A step, and then an error of the body's."""
    ctx.step("one", calls.append, "one")
    raise ValueError("as it should be")


@workflow("lost.sleeps")
def sleeps(ctx: Context, seconds: float) -> str:
    """A sleep between two steps."""
    ctx.step("before", calls.append, "before")
    ctx.sleep("nap", seconds)
    ctx.step("after", calls.append, "after")
    return "slept"


@workflow("lost.waits")
def waits(ctx: Context, timeout: float | None) -> Any:
    """A wait for an event."""
    payload = ctx.wait_for("wait", "go", timeout=timeout, default="too late")
    ctx.step("after", calls.append, payload)
    return payload


@workflow("lost.late", timeout=3600)
def late(ctx: Context) -> None:
    """Sleeps, with a deadline."""
    ctx.sleep("nap", 7200)


def _write() -> str:
    calls.append(f"call {current_step().attempt}")
    Effect.objects.create(name="row")
    return "written"


@workflow("lost.atomic")
def atomically(ctx: Context) -> str:
    """An atomic step."""
    value = ctx.step("write", _write, atomic=True)
    ctx.step("after", calls.append, "after")
    return value


@pytest.fixture(autouse=True)
def _short_lease(settings: Any) -> None:
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LEASE_SECONDS": LEASE}
    calls.clear()


class _Told:
    """What receivers of signals have heard, and what the log says."""

    def __init__(self, log: pytest.LogCaptureFixture) -> None:
        self.signals: list[tuple[str, UUID]] = []
        self._log = log

    def names(self, run_id: UUID) -> list[str]:
        """Of the signals about this run, in order; without its starts."""
        return [name for name, about in self.signals if about == run_id and name not in ("run_started", "run_resumed")]

    def said(self, words: str) -> list[str]:
        """The lines with these words."""
        return [r.getMessage() for r in self._log.records if words in r.getMessage()]

    def assert_quiet(self) -> None:
        """Nothing is said to be refused or broken."""
        assert self.said("refused") == self.said("broke") == self.said("did not have in flight") == []


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[_Told]:
    """Everything that is told from now on."""
    caplog.set_level(logging.WARNING)
    found = _Told(caplog)
    names = {id(getattr(signals, name)): name for name in dir(signals) if name.startswith(("run_", "step_"))}

    def hear(signal: Any, run_id: UUID, **_: Any) -> None:
        found.signals.append((names[id(signal)], run_id))

    for signal in signals.ALL:
        signal.connect(hear)
    yield found
    for signal in signals.ALL:
        signal.disconnect(hear)


def _first(matches: Callable[[Change], bool]) -> Callable[..., bool]:
    """Whether a batch has such a change in it."""
    return lambda _connection, _owner, changes: any(map(matches, changes))


def _records(name: str) -> Callable[[Change], bool]:
    return lambda change: any(record.name == name for record in change.inserts)


def _leaves_as(state: str) -> Callable[[Change], bool]:
    return lambda change: change.settle is not None and change.settle.state == state


@pytest.mark.parametrize("kind", [steps, asteps], ids=["def", "async def"])
@pytest.mark.parametrize("name", ["one", "two"])
def test_of_a_record(kind: Any, name: str, monkeypatch: pytest.MonkeyPatch, told: _Told) -> None:
    """The step is stored; it is not called again, and told of once."""
    lost = LostAnswer(monkeypatch, writes, "write", when=_first(_records(name)))
    with worker():
        run_id = kind.start("x")
        assert kind.result(run_id, timeout=20) == "x"
        wait_until(lambda: "run_completed" in told.names(run_id))
    assert lost.lost.is_set()
    assert calls == ["x one", "x two"]
    assert told.names(run_id) == ["step_completed", "step_completed", "run_completed"]
    told.assert_quiet()


@pytest.mark.parametrize("kind", [steps, asteps], ids=["def", "async def"])
def test_of_an_end(kind: Any, monkeypatch: pytest.MonkeyPatch, told: _Told) -> None:
    """The run has completed, by the very change that the repeat finds refused: that is told, and no refusal."""
    lost = LostAnswer(monkeypatch, writes, "write", when=_first(_leaves_as("completed")))
    with worker():
        run_id = kind.start("x")
        lost.wait()
        wait_until(lambda: "run_completed" in told.names(run_id))
    assert told.names(run_id) == ["step_completed", "step_completed", "run_completed"]
    assert kind.status(run_id).state == "completed"
    told.assert_quiet()


def test_of_a_failure(monkeypatch: pytest.MonkeyPatch, told: _Told) -> None:
    """The ERROR line and the signal of a failed run come all the same, once."""
    LostAnswer(monkeypatch, writes, "write", when=_first(_leaves_as("failed")))
    with worker():
        run_id = fails.start()
        wait_until(lambda: "run_failed" in told.names(run_id))
        with pytest.raises(RunFailed, match="as it should be"):
            fails.result(run_id, timeout=20)
    assert told.names(run_id) == ["step_completed", "run_failed"]
    assert len(told.said("as it should be")) == 1
    told.assert_quiet()


def test_of_a_suspension_that_has_ended_by_the_repeat(monkeypatch: pytest.MonkeyPatch, told: _Told) -> None:
    """The run sleeps, is woken and is claimed anew: the first activation finds that it has let go of it."""

    def wake() -> None:
        wait_until(lambda: WorkflowRun.objects.filter(epoch=2).exists(), message="it was not claimed again")

    lost = LostAnswer(monkeypatch, writes, "write", when=_first(_leaves_as("sleeping")), meanwhile=wake)
    with worker():
        run_id = sleeps.start(0.2)
        assert sleeps.result(run_id, timeout=20) == "slept"
        wait_until(lambda: "run_completed" in told.names(run_id))
    assert lost.lost.is_set()
    assert calls == ["before", "after"]
    assert told.names(run_id).count("run_suspended") == 1
    told.assert_quiet()


def test_of_a_wait_that_a_timer_has_ended_by_the_repeat(monkeypatch: pytest.MonkeyPatch, told: _Told) -> None:
    """An event came just before, so the run was not suspended; the timer changes its record; it is its own still."""
    run_ids: list[UUID] = []

    def send() -> None:
        events.send("default", "go", '"there"', run_id=run_ids[0])

    def fire() -> None:
        Timer.objects.filter(run_id=run_ids[0]).update(due_at=clock.now() - timedelta(seconds=1))
        timers.fire("default")
        assert StepRecord.objects.get(run_id=run_ids[0]).state == "due"

    lost = LostAnswer(monkeypatch, writes, "write", when=_first(_leaves_as("waiting")), before=send, meanwhile=fire)
    run_ids.append(waits.start(3600))
    with worker():
        lost.wait()
        assert waits.result(run_ids[0], timeout=20) == "there"
    assert calls == ["there"]
    assert not Timer.objects.exists()
    told.assert_quiet()


def test_of_a_hand_back(monkeypatch: pytest.MonkeyPatch, told: _Told) -> None:
    """A worker that leaves has given its run back, and another one goes on."""
    begun, let, stopping = threading.Event(), threading.Event(), threading.Event()
    stop = WorkerLease.stop
    monkeypatch.setattr(WorkerLease, "stop", lambda lease: (stop(lease), stopping.set()))

    @workflow("lost.held")
    def held(ctx: Context) -> str:
        ctx.step("held", lambda: (begun.set(), let.wait(20)))
        ctx.step("after", calls.append, "after")
        return "done"

    lost = LostAnswer(monkeypatch, writes, "write", when=_first(_leaves_as("pending")))
    with worker() as first:
        run_id = held.start()
        assert begun.wait(20)
        first.loop.stop()
        assert stopping.wait(20)  # Else the run may begin its next step before that.
        let.set()
        assert first.stop() == 0
    assert lost.lost.is_set()
    assert WorkflowRun.objects.values_list("state", "owner_id", "recoveries").get() == ("pending", None, 0)
    with worker():
        assert held.result(run_id, timeout=20) == "done"
    assert calls == ["after"]
    told.assert_quiet()


def test_of_a_claim(monkeypatch: pytest.MonkeyPatch, told: _Told) -> None:
    """The runs are this worker's, which does not know it, and finds them at its next turn."""
    lost = LostAnswer(monkeypatch, claims, "claim", when=lambda *_: WorkflowRun.objects.filter(ready=True).exists())
    ids = [steps.start(label) for label in "abc"]
    with worker():
        assert [steps.result(run_id, timeout=20) for run_id in ids] == ["a", "b", "c"]
    assert lost.lost.is_set()
    assert sorted(calls) == [f"{label} {step}" for label in "abc" for step in ("one", "two")]
    assert set(WorkflowRun.objects.values_list("recoveries", flat=True)) == {0}
    assert told.said("refused") == []


def test_of_a_claim_that_the_server_does_long_after(monkeypatch: pytest.MonkeyPatch, told: _Told) -> None:
    """It waited behind a lock for longer than a lease, and its connection was cut: the worker finds that, too."""
    real = claims.claim
    left: list[Any] = []

    def cut(connection: Any, *arguments: Any, **keywords: Any) -> Any:
        if not left:
            WorkflowRun.objects.update(ready=False)  # As good as locked: nobody else claims it meanwhile.
            left.append((arguments, keywords))
            raise OperationalError("the connection was cut")
        return real(connection, *arguments, **keywords)

    monkeypatch.setattr(claims, "claim", cut)
    run_id = steps.start("x")
    with worker():
        wait_until(lambda: left)
        passed = time.monotonic() + 2 * LEASE
        wait_until(lambda: time.monotonic() > passed)
        server = engine.open_connection("default")
        try:
            monkeypatch.setattr(claims, "claim", real)
            arguments, keywords = left[0]
            with engine.transaction(server), engine.current(server):
                WorkflowRun.objects.filter(id=run_id).update(ready=True)
                assert [each.id for each in real(server, *arguments, **keywords)] == [run_id]
        finally:
            engine.reset(server)
        assert steps.result(run_id, timeout=10 * LEASE) == "x"
    assert len(told.said("did not have in flight")) == 1
    assert calls == ["x one", "x two"]


def test_of_timers_that_were_fired(monkeypatch: pytest.MonkeyPatch, told: _Told) -> None:
    """The run is ready, and whoever is first claims it."""
    lost = LostAnswer(monkeypatch, timers, "fire", when=lambda *_: Timer.objects.exists())
    with worker():
        run_id = sleeps.start(0.2)
        assert sleeps.result(run_id, timeout=20) == "slept"
    assert lost.lost.is_set()
    assert calls == ["before", "after"]


def test_of_a_deadline(monkeypatch: pytest.MonkeyPatch, told: _Told) -> None:
    """The run has failed by its deadline: that is told, and only once."""
    run = WorkflowRun.objects.create(workflow=late.name, state="sleeping", ready=False)
    Timer.objects.create(run=run, kind="deadline", due_at=clock.now())
    lost = LostCommit(monkeypatch, timers, "_expire")
    with worker():
        wait_until(lambda: told.names(run.id))
        assert late.status(run.id).state == "failed"
    assert lost.lost.is_set()
    assert told.names(run.id) == ["run_failed"]
    assert len(told.said("it had not ended at its deadline")) == 1


def test_of_a_recovery_that_parks(monkeypatch: pytest.MonkeyPatch, told: _Told) -> None:
    """A run that has killed too many workers is parked: the ERROR line and the signal come all the same, once."""
    dead = leases.register(host="here", pid=1).id
    leases.declare_dead(dead)
    run = WorkflowRun.objects.create(
        workflow=steps.name, state="running", ready=False, owner_id=dead, epoch=1, recoveries=99
    )
    lost = LostCommit(monkeypatch, leases, "_park")
    with worker():
        lost.wait()
        wait_until(lambda: told.names(run.id))
    assert told.names(run.id) == ["run_parked"]
    assert len(told.said("TooManyRecoveries")) == 1


def test_of_a_wake_up_and_of_a_send(monkeypatch: pytest.MonkeyPatch, told: _Told) -> None:
    """The sender repeats what it was not told to be stored: the event is there once, is read once, and wakes."""
    with worker():
        run_id = waits.start(None)
        wait_until(lambda: waits.status(run_id).state == "waiting")
        LostAnswer(monkeypatch, events, "send")
        woken = LostAnswer(monkeypatch, events, "_wake")
        with pytest.raises(OperationalError):
            waits.send(run_id, "go", 1, dedup_id="once")
        assert waits.send(run_id, "go", 1, dedup_id="once") is False
        assert waits.result(run_id, timeout=20) == 1
        assert woken.lost.is_set()
    assert calls == [1]
    assert Event.objects.count() == 1


def test_of_a_start(monkeypatch: pytest.MonkeyPatch, told: _Told) -> None:
    """With a key, a start that is repeated finds its run."""
    LostAnswer(monkeypatch, starts, "insert_keyed")
    with pytest.raises(OperationalError):
        steps.using(key="k").start("x")
    run_id = steps.using(key="k").start("x")
    assert WorkflowRun.objects.count() == 1
    with worker():
        assert steps.result(run_id, timeout=20) == "x"


def test_of_an_atomic_step(monkeypatch: pytest.MonkeyPatch, told: _Told) -> None:
    """Its COMMIT was done: the function is not called again, though nobody had said so."""
    lost = LostCommit(monkeypatch, writes, "write_waiting")
    with worker():
        run_id = atomically.start()
        assert atomically.result(run_id, timeout=20) == "written"
    assert lost.lost.is_set()
    assert calls == ["call 1", "after"]
    assert Effect.objects.count() == 1
    assert StepRecord.objects.get(run_id=run_id, name="write").attempts == 1
    told.assert_quiet()


def test_of_an_atomic_step_that_was_rolled_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its COMMIT was not done: the function is called again, and no failed attempt of its own is counted."""
    LostCommit(monkeypatch, writes, "write_waiting", done=False)
    with worker():
        run_id = atomically.start()
        assert atomically.result(run_id, timeout=30) == "written"
    assert calls == ["call 1", "call 1", "after"]
    assert Effect.objects.count() == 1


def test_of_a_write_after_which_another_owner_has_come(told: _Told) -> None:
    """The record is stored, and the run another's: both are found out."""
    owner, other = UUID(int=1), UUID(int=2)
    run = WorkflowRun.objects.create(workflow="w", state="running", ready=False, owner_id=owner, epoch=3)
    record = StepRecord(run=run, seq=1, name="a", kind="step", state="completed", attempts=1, epoch=3)
    record.started_at = clock.now()
    record.save()
    change = Change(run.id, 3, inserts=[Record(1, "a", "step", "completed", 1, 3, started_at=record.started_at)])
    WorkflowRun.objects.filter(id=run.id).update(owner_id=other, epoch=5)
    outcome = unclear.find_outcome(connections["default"], change)
    assert (outcome.stored, outcome.lost) == (True, True)
    change.inserts[0].name = "b"
    assert not unclear.find_outcome(connections["default"], change).stored
