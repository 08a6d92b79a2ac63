"""Slots: plain and async activations share one limit, and what waits for a slot is next, or is handed back."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from canx_flow import AsyncContext, Context, signals, workflow
from canx_flow.core import registry
from canx_flow.core.changes import Change, Outcome
from canx_flow.core.claimed import ClaimedRun, Standing
from canx_flow.replay import endings
from canx_flow.replay.branch import Branch
from canx_flow.worker.port import WorkerThreads
from canx_flow.worker.slots import Slots
from canx_flow.worker.threads import StepThreads

from ..waiting import wait_until

pytestmark = pytest.mark.once

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class _Stored:
    """What became of a change: it was stored."""

    def __init__(self, state: str) -> None:
        self._outcome = Outcome(True, state)

    def wait(self) -> Outcome:
        return self._outcome

    async def wait_async(self) -> Outcome:
        return self._outcome

    def then(self, call: Callable[[Outcome], object]) -> None:
        call(self._outcome)


class _Later:
    """What becomes of a change is known when the test says so."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._answered = threading.Event()
        self._call: Callable[[Outcome], object] | None = None
        self.thens = 0

    def wait(self) -> Outcome:
        assert self._answered.wait(10)
        return self._outcome

    def then(self, call: Callable[[Outcome], object]) -> None:
        self.thens += 1
        with self._mutex:
            if not self._answered.is_set():
                self._call = call
                return
        call(self._outcome)

    def answer(self, outcome: Outcome) -> None:
        with self._mutex:
            self._outcome = outcome
            self._answered.set()
        call, self._call = self._call, None
        if call is not None:
            call(outcome)


class _Port:
    """A store that stores nothing, and lists what it was handed; a lease that never ends; real threads."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        #: In which each run was left.
        self.states: list[str] = []
        self.activations: dict[UUID, Branch] = {}
        self.step_threads = StepThreads(lambda: None)
        self.threads = WorkerThreads(self.step_threads)
        self.store: Any = self
        self.lease: Any = self

    def hand_in(self, change: Change) -> _Stored:
        self.changes.append(change)
        return _Stored(change.settle.state if change.settle is not None else "running")

    def may_start(self) -> bool:
        return True

    def works(self) -> bool:
        return True

    def broken(self, run: ClaimedRun, error: BaseException) -> Change:
        return endings.broken(run, error, connected=True)

    def abandon(self) -> None:
        for root in self.activations.values():
            root.activation.abandoned = True

    def entered(self, root: Branch) -> None:
        self.activations[root.run.id] = root

    def left(self, run: ClaimedRun, state: str) -> None:
        self.activations.pop(run.id, None)
        self.states.append(state)


@pytest.fixture
def bodies() -> Iterator[tuple[list[str], threading.Event]]:
    """Two workflows whose bodies list themselves, and end when they are let."""
    began: list[str] = []
    let = threading.Event()

    @workflow("slots.plain")
    def plain(ctx: Context) -> None:
        began.append("plain")
        assert let.wait(10)

    @workflow("slots.async")
    async def asynchronous(ctx: AsyncContext) -> None:
        began.append("async")
        assert await asyncio.to_thread(let.wait, 10)

    yield began, let
    let.set()
    for name in ("plain", "async"):
        registry.forget(f"slots.{name}")


def _claimed(kind: str, claimed_at: float = 0.0) -> ClaimedRun:
    return ClaimedRun(uuid4(), f"slots.{kind}", "", "default", "running", 1, 0, "[[],{}]", {}, Standing(), claimed_at)


def test_plain_and_async_activations_are_counted_together(bodies: tuple[list[str], threading.Event]) -> None:
    """With two slots two bodies are under way, of whatever kind; the others follow when these have ended."""
    began, let = bodies
    slots = Slots(_Port(), 2, lambda _state, _queue: None)  # type: ignore[arg-type]
    for kind in ("plain", "async", "plain", "async"):
        slots.start(_claimed(kind))
    assert wait_until(lambda: len(began) == 2)
    assert (slots.in_flight, sorted(began)) == (4, ["async", "plain"])
    let.set()
    assert wait_until(lambda: slots.in_flight == 0)
    assert (slots.finished, sorted(began)) == (4, ["async", "async", "plain", "plain"])
    slots.close()


def test_what_has_waited_too_long_is_handed_back(bodies: tuple[list[str], threading.Event]) -> None:
    """It becomes ready again for whoever has a free slot, and is never begun here."""
    began, let = bodies
    port = _Port()
    slots = Slots(port, 1, lambda _state, _queue: None)  # type: ignore[arg-type]
    slots.start(_claimed("plain"))
    assert wait_until(lambda: began)
    waiting = _claimed("async")
    slots.start(waiting)
    slots.hand_back_waiting(1.0)
    (change,) = port.changes
    assert change.settle is not None
    assert (change.run_id, change.settle.state) == (waiting.id, "pending")
    assert slots.in_flight == 1
    let.set()
    assert wait_until(lambda: slots.in_flight == 0)
    assert began == ["plain"]
    slots.close()


def test_a_closed_worker_begins_nothing_that_has_waited(bodies: tuple[list[str], threading.Event]) -> None:
    """Leaving at once, it leaves what it has only claimed to whoever recovers its runs."""
    began, let = bodies
    port = _Port()
    slots = Slots(port, 1, lambda _state, _queue: None)  # type: ignore[arg-type]
    slots.start(_claimed("plain"))
    assert wait_until(lambda: began)
    slots.start(_claimed("async"))
    slots.close()
    let.set()
    assert wait_until(lambda: slots.finished)
    assert (slots.finished, slots._active, began) == (1, 0, ["plain"])


@pytest.fixture
def no_thread(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """While this event is set, the system starts no thread for a slot."""
    refused = threading.Event()
    start = threading.Thread.start

    def maybe_start(thread: threading.Thread) -> None:
        if refused.is_set() and thread.name == "canx_flow slot":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", maybe_start)
    return refused


def test_a_run_whose_thread_cannot_be_started_waits_for_one(
    bodies: tuple[list[str], threading.Event], no_thread: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """The others of its claim are handed in all the same, and the next poll tries again: no slot is lost."""
    began, let = bodies
    slots = Slots(_Port(), 2, lambda _state, _queue: None)  # type: ignore[arg-type]
    no_thread.set()
    slots.start(_claimed("plain"))
    slots.start(_claimed("plain"))
    assert "No thread can be started" in caplog.text
    assert (slots.in_flight, began) == (2, [])
    no_thread.clear()
    slots.reinforce()
    assert wait_until(lambda: len(began) == 2)
    let.set()
    assert wait_until(lambda: slots.in_flight == 0)
    slots.close()


@pytest.mark.parametrize("name", ["canx_flow event loop", "canx_flow loop watch"])
def test_a_run_that_cannot_be_begun_is_handed_back(
    bodies: tuple[list[str], threading.Event], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Counted and after a while; its slot is the next one's, and later runs have their event loop."""
    began, let = bodies
    let.set()
    port = _Port()
    start = threading.Thread.start
    refused = [True]

    def maybe_start(thread: threading.Thread) -> None:
        if refused[0] and thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", maybe_start)
    slots = Slots(port, 1, lambda _state, _queue: None)  # type: ignore[arg-type]
    slots.start(_claimed("async"))
    slots.start(_claimed("async"))
    assert [(change.settle.state, change.columns) for change in port.changes if change.settle] == [
        ("retrying", {"outages": 1})
    ] * 2
    assert (slots.in_flight, slots._active, slots.claimed(), began) == (0, 0, set(), [])
    often = _claimed("async")
    often.standing.outages = 10
    slots.start(often)
    assert port.changes[-1].settle is not None
    assert (port.changes[-1].settle.state, port.changes[-1].settle.reason) == ("failed", "RuntimeError")
    refused[0] = False
    slots.start(_claimed("async"))
    assert wait_until(lambda: began == ["async"] and slots.in_flight == 0)
    slots.close()


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_run_that_ends_by_being_handed_back_is_told_of(bodies: tuple[list[str], threading.Event], kind: str) -> None:
    """It was cancelled while it waited, and the worker that stops only hands it back: that was its end."""
    told: list[UUID] = []

    def hear(sender: Any, run_id: UUID, **_kwargs: Any) -> None:
        told.append(run_id)

    class Cancelled(_Port):
        def hand_in(self, change: Change) -> _Stored:
            return _Stored("cancelled")

        def may_start(self) -> bool:
            return False

    signals.run_cancelled.connect(hear)
    try:
        slots = Slots(Cancelled(), 1, lambda _state, _queue: None)  # type: ignore[arg-type]
        run = _claimed(kind)
        slots.start(run)
        assert wait_until(lambda: slots.finished)
        slots.close()
    finally:
        signals.run_cancelled.disconnect(hear)
    assert told == [run.id]
    assert bodies[0] == []


class _Slow(_Port):
    """Answers when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.tickets: list[_Later] = []
        self.reloaded: list[ClaimedRun] = []

    def hand_in(self, change: Change) -> Any:
        self.changes.append(change)
        self.tickets.append(_Later())
        return self.tickets[-1]

    def reload(self, run: ClaimedRun) -> None:
        self.reloaded.append(run)


def _slow_slot() -> tuple[_Slow, Slots]:
    """One slot, and its port."""
    port = _Slow()
    return port, Slots(port, 1, lambda _state, _queue: None)  # type: ignore[arg-type]


def _ended(port: _Slow) -> list[UUID]:
    return [change.run_id for change in port.changes if change.settle is not None]


def test_a_slot_is_free_once_its_body_has_ended(bodies: tuple[list[str], threading.Event]) -> None:
    """The next body begins while the end of the first is being stored; until then that run is this worker's."""
    began, let = bodies
    let.set()
    port, slots = _slow_slot()
    first, second = _claimed("plain"), _claimed("plain")
    slots.start(first)
    slots.start(second)
    assert wait_until(lambda: len(port.tickets) == 2)
    assert (len(began), _ended(port)) == (2, [first.id, second.id])
    assert (slots.in_flight, slots.finished) == (2, 0)
    assert slots.claimed() == {(first.id, 1), (second.id, 1)}
    for ticket in port.tickets:
        ticket.answer(Outcome(True, "completed"))
    assert wait_until(lambda: (slots.in_flight, slots.finished, slots.claimed()) == (0, 2, set()))
    assert port.activations == {}
    slots.close()


def test_an_end_that_was_not_the_last_word_is_gone_on_with(bodies: tuple[list[str], threading.Event]) -> None:
    """The run was told something meanwhile: it is loaded and replayed again, by whichever thread is free."""
    began, let = bodies
    let.set()
    port, slots = _slow_slot()
    run = _claimed("plain")
    slots.start(run)
    assert wait_until(lambda: port.tickets)
    port.tickets[0].answer(Outcome(True, "running", awake=True))
    assert wait_until(lambda: len(port.tickets) == 2)
    assert (port.reloaded, began) == ([run], ["plain", "plain"])
    port.tickets[1].answer(Outcome(True, "completed"))
    assert wait_until(lambda: slots.finished == 1)
    assert wait_until(lambda: (slots.in_flight, slots._active, slots._threads.active) == (0, 0, 0))
    slots.close()


def test_an_end_that_is_refused_is_told_of(
    bodies: tuple[list[str], threading.Event], caplog: pytest.LogCaptureFixture
) -> None:
    """The run has another owner: what this worker made of it is dropped, and said so."""
    _began, let = bodies
    let.set()
    port, slots = _slow_slot()
    run = _claimed("plain")
    slots.start(run)
    assert wait_until(lambda: port.tickets)
    port.tickets[0].answer(Outcome(False))
    assert wait_until(lambda: slots.finished == 1)
    assert f"Write refused: run {run.id}" in caplog.text
    assert wait_until(lambda: (slots.in_flight, slots._active, slots._threads.active) == (0, 0, 0))
    slots.close()


def test_an_end_that_is_listened_to_is_waited_for(bodies: tuple[list[str], threading.Event]) -> None:
    """Receivers are told by the slot's thread, after the commit and before it turns to another run."""
    _began, let = bodies
    let.set()
    told: list[UUID] = []

    def hear(sender: Any, run_id: UUID, **_kwargs: Any) -> None:
        told.append(run_id)

    port, slots = _slow_slot()
    first, second = _claimed("plain"), _claimed("plain")
    signals.run_completed.connect(hear)
    try:
        slots.start(first)
        slots.start(second)
        assert wait_until(lambda: port.tickets)
        assert (_ended(port), told) == ([first.id], [])
        port.tickets[0].answer(Outcome(True, "completed"))
        assert wait_until(lambda: len(port.tickets) == 2)
        assert told == [first.id]
        port.tickets[1].answer(Outcome(True, "completed"))
        assert wait_until(lambda: slots.finished == 2)
    finally:
        signals.run_completed.disconnect(hear)
    assert told == [first.id, second.id]
    assert [ticket.thens for ticket in port.tickets] == [0, 0]
    slots.close()


def test_ends_that_are_gone_on_with_wait_for_their_turn(bodies: tuple[list[str], threading.Event]) -> None:
    """However many of them there are, no more bodies are under way than there are slots; they come before new runs."""
    began, let = bodies
    let.set()
    port, slots = _slow_slot()
    for _ in range(4):
        slots.start(_claimed("plain"))
    assert wait_until(lambda: len(port.tickets) == 4 and slots._active == 0)
    let.clear()
    for ticket in port.tickets[:3]:
        ticket.answer(Outcome(True, "running", awake=True))
    new = _claimed("plain")
    slots.start(new)
    assert wait_until(lambda: len(began) == 5)
    assert (slots._active, slots._threads.count, len(port.reloaded)) == (1, 1, 1)
    let.set()
    for number in range(4, 8):
        assert wait_until(lambda number=number: len(port.tickets) == number + 1)  # type: ignore[misc]
        assert slots._active <= 1
        port.tickets[number].answer(Outcome(True, "completed"))
    assert _ended(port)[-1] == new.id
    port.tickets[3].answer(Outcome(True, "completed"))
    assert wait_until(lambda: (slots.finished, slots._active, slots._threads.count) == (5, 0, 1))
    slots.close()


def test_a_worker_that_stops_waits_for_every_end(bodies: tuple[list[str], threading.Event]) -> None:
    """It is to say what became of each run before it leaves."""
    began, let = bodies
    port, slots = _slow_slot()
    slots.start(_claimed("plain"))
    assert wait_until(lambda: began)
    port.may_start = lambda: False  # type: ignore[method-assign]
    let.set()
    assert wait_until(lambda: port.tickets)
    port.tickets[0].answer(Outcome(True, "completed"))
    assert wait_until(lambda: slots.finished == 1)
    assert port.tickets[0].thens == 0
    slots.close()


def test_nothing_of_a_run_outlives_its_end(bodies: tuple[list[str], threading.Event]) -> None:
    """What was kept for an end that might have to be gone on with is let go at once, not by the next collection."""
    _began, let = bodies
    let.set()
    port, slots = _slow_slot()
    run = _claimed("plain")
    slots.start(run)
    assert wait_until(lambda: port.tickets and port.tickets[0].thens and not slots._active)
    run_id = run.id
    del run
    gc.collect()
    gc.disable()
    try:
        port.tickets[0].answer(Outcome(True, "completed"))
        left = [one for one in gc.get_objects() if type(one) is ClaimedRun and one.id == run_id]
    finally:
        gc.enable()
    assert left == []
    slots.close()


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize("heard", [False, True])
def test_the_port_is_told_in_which_state_a_run_was_left(kind: str, heard: bool) -> None:
    """Of a suspended one it keeps the journal; whether a slot waits for the end to be stored or not."""
    if kind == "plain":

        @workflow("slots.sleeps")
        def sleeps(ctx: Context) -> None:
            ctx.sleep("nap", 60)
    else:

        @workflow("slots.sleeps")
        async def asleep(ctx: AsyncContext) -> None:
            await ctx.sleep("nap", 60)

    port, told = _Port(), []
    slots = Slots(port, 1, lambda _state, _queue: None)  # type: ignore[arg-type]

    def hear(**facts: object) -> None:
        told.append(facts)

    if heard:
        signals.run_suspended.connect(hear)
    try:
        slots.start(_claimed("sleeps"))
        assert wait_until(lambda: slots.in_flight == 0)
    finally:
        signals.run_suspended.disconnect(hear)
        registry.forget("slots.sleeps")
        slots.close()
    assert (port.states, len(told)) == (["sleeping"], heard)
