"""Slots: plain and async activations share one limit, and what waits for a slot is next, or is handed back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from canx_flow import AsyncContext, Context, registry, workflow
from canx_flow.changes import Change, ClaimedRun, Outcome
from canx_flow.worker.slots import Slots

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


class _Port:
    """Stores nothing, and lists what it was handed."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.activations: dict[UUID, Any] = {}

    def store(self, change: Change) -> _Stored:
        self.changes.append(change)
        return _Stored(change.settle.state if change.settle is not None else "running")

    def may_start(self) -> bool:
        return True

    def entered(self, activation: Any) -> None:
        self.activations[activation.run.id] = activation

    def left(self, run_id: UUID) -> None:
        self.activations.pop(run_id, None)


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
    return ClaimedRun(
        uuid4(), f"slots.{kind}", "", "default", "running", 1, 0, 0, 0, "[[],{}]", {}, "", None, None, None, START,
        START, claimed_at, fresh=True,
    )  # fmt: skip


def test_plain_and_async_activations_are_counted_together(bodies: tuple[list[str], threading.Event]) -> None:
    """With two slots two bodies are under way, of whatever kind; the others follow when these have ended."""
    began, let = bodies
    slots = Slots(_Port(), 2, lambda: None)  # type: ignore[arg-type]
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
    slots = Slots(port, 1, lambda: None)  # type: ignore[arg-type]
    slots.start(_claimed("plain"))
    assert wait_until(lambda: began)
    waiting = _claimed("async")
    slots.start(waiting)
    slots.hand_back_waiting(1.0)
    (change,) = port.changes
    assert change.settle is not None
    assert (change.run_id, change.settle.state, change.settle.ready) == (waiting.id, "pending", True)
    assert slots.in_flight == 1
    let.set()
    assert wait_until(lambda: slots.in_flight == 0)
    assert began == ["plain"]
    slots.close()


def test_a_closed_worker_begins_nothing_that_has_waited(bodies: tuple[list[str], threading.Event]) -> None:
    """Leaving at once, it leaves what it has only claimed to whoever recovers its runs."""
    began, let = bodies
    port = _Port()
    slots = Slots(port, 1, lambda: None)  # type: ignore[arg-type]
    slots.start(_claimed("plain"))
    assert wait_until(lambda: began)
    slots.start(_claimed("async"))
    slots.close()
    let.set()
    assert wait_until(lambda: slots.finished)
    assert (slots.finished, slots._active, began) == (1, 0, ["plain"])
