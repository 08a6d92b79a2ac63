"""Branches: each has its keys, its replay, its changes and its wait; the run is suspended on the waits of all."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from canx_flow.core.changes import Change, Outcome, Record, Wait
from canx_flow.core.claimed import ClaimedRun, Standing
from canx_flow.core.journal import Journal
from canx_flow.replay.activation import Activation, Leave
from canx_flow.replay.async_driver import AsyncDriver
from canx_flow.replay.branch import Branch
from canx_flow.states import Kind, RecordState

pytestmark = pytest.mark.once

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _root(*names: str) -> Branch:
    """The root branch of a run with these records."""
    records = [Record(seq, name, Kind.STEP, RecordState.COMPLETED, 1) for seq, name in enumerate(names, start=1)]
    run = ClaimedRun(
        uuid4(), "branch.any", "", "default", "running", 1, 0, "[[],{}]", {}, Standing(), journal=Journal(records)
    )
    return Branch(Activation(run, None))


def _below(root: Branch, *prefixes: str) -> list[Branch]:
    """A branch for each prefix, below the root."""
    root.children = [Branch(root.activation, prefix) for prefix in prefixes]
    return root.children


def _block(branch: Branch, wait: Wait) -> None:
    with pytest.raises(Leave):
        branch.block(wait)


def test_a_run_is_suspended_on_the_waits_of_all_its_branches() -> None:
    """Its state is that of the wait due first; one without a limit is due last."""
    root = _root()
    left, middle, right = _below(root, "left/", "middle/", "right/")
    waits = [
        Wait("left/approval", Kind.WAIT, event="approval"),
        Wait("middle/charge", Kind.RETRY, NOW + timedelta(hours=1)),
        Wait("right/nap", Kind.SLEEP, NOW + timedelta(days=1)),
    ]
    for branch, wait in zip((left, middle, right), waits, strict=True):
        _block(branch, wait)
    settle = root.suspension()
    assert (settle.state, list(settle.suspension.waits)) == ("retrying", waits)


def test_a_blocked_branch_leaves_its_siblings_alone() -> None:
    """Only what ends the activation is raised in every branch."""
    root = _root()
    left, right = _below(root, "left/", "right/")
    _block(left, Wait("left/nap", Kind.SLEEP, NOW))
    assert left.leaving is not None
    assert (right.leaving, root.leaving) == (None, None)
    with pytest.raises(Leave):
        right.activation.hand_back("the worker is stopping")
    assert right.leaving is root.leaving is left.leaving is not None


def test_each_branch_replays_until_its_own_last_record() -> None:
    """Whatever its siblings have stored after it; one that has stored nothing does not replay."""
    root = _root("left/a", "right/a", "right/inner/b", "after")
    left, right, none, inner = _below(root, "left/", "right/", "none/", "right/inner/")
    assert [branch.scope.replaying for branch in (root, left, right, none, inner)] == [True, True, True, False, True]
    left.find(left.scope.key("a"), Kind.STEP)
    right.find(right.scope.key("a"), Kind.STEP)
    inner.find(inner.scope.key("b"), Kind.STEP)
    assert [branch.scope.replaying for branch in (root, left, right, inner)] == [True, False, True, False]


def test_each_branch_collects_its_own_change() -> None:
    """And their records have one order."""
    root = _root("before")
    left, right = _below(root, "left/", "right/")
    right.record("right/a", Kind.STEP, RecordState.COMPLETED, NOW)
    left.record("left/a", Kind.STEP, RecordState.COMPLETED, NOW)
    changes = [branch.take_change() for branch in (left, right, root)]
    assert [change and [(record.name, record.seq) for record in change.inserts] for change in changes] == [
        [("left/a", 3)], [("right/a", 2)], None,
    ]  # fmt: skip


class _Ticket:
    """Answered when the test says so."""

    def __init__(self) -> None:
        self._answered = asyncio.Event()

    async def wait_async(self) -> Outcome:
        await self._answered.wait()
        return Outcome(True, "running")

    def answer(self) -> None:
        self._answered.set()


class _Port:
    """A store whose tickets the test answers."""

    def __init__(self) -> None:
        self.tickets: list[_Ticket] = []
        self.store: Any = self
        self.lease: Any = self
        self.threads: Any = self

    def hand_in(self, _change: Change) -> _Ticket:
        self.tickets.append(_Ticket())
        return self.tickets[-1]

    def sync_code(self) -> None: ...


def test_two_that_wait_for_one_ticket_take_it_once_and_both_wait_for_the_next() -> None:
    """None goes on before all that was handed in is stored."""

    async def main() -> None:
        root, port = _root(), _Port()
        driver = AsyncDriver(root, port)  # type: ignore[arg-type]
        for key in ("a", "b"):
            root.record(key, Kind.STEP, RecordState.COMPLETED, NOW)
            driver.submit()
        waiting = [asyncio.create_task(driver.sync()) for _ in range(2)]
        port.tickets[0].answer()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        port.tickets[1].answer()
        await asyncio.gather(*waiting)
        assert not driver.tickets

    asyncio.run(main())
