"""Drivers: what they wait for, and what becomes of it when somebody stops waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from canx_flow import AsyncContext, Context, workflow
from canx_flow.core import registry
from canx_flow.core.changes import Change, Outcome
from canx_flow.core.claimed import ClaimedRun, Standing
from canx_flow.replay import executor
from canx_flow.workflows import Workflow

pytestmark = pytest.mark.once

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class _Ticket:
    """Stored when the event loop is told so."""

    def __init__(self, port: _Port, change: Change) -> None:
        self._port = port
        self._change = change

    def wait(self) -> Outcome:
        return self._port.answer(self._change)

    def then(self, call: Any) -> None:
        call(self.wait())

    async def wait_async(self) -> Outcome:
        if any(record.name == "slow" for record in self._change.inserts):
            await self._port.may_store.wait()
        return self._port.answer(self._change)


class _Port:
    """A store that lists what it was asked for, and answers late to a step named "slow"; a lease that never ends."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.refusing = 0
        self.may_store = asyncio.Event()
        self.store = self.lease = self.threads = self
        self.used = False

    def hand_in(self, change: Change) -> _Ticket:
        return _Ticket(self, change)

    def answer(self, change: Change) -> Outcome:
        if change.settle is not None and self.refusing:
            self.refusing -= 1
            return Outcome(False, error=PermissionError("no more writes for this role"))
        self.log += [f"stored {record.name}" for record in change.inserts]
        return Outcome(True, "running" if change.settle is None else change.settle.state)

    def may_start(self) -> bool:
        return True

    def is_fresh(self) -> bool:
        return True

    def guard(self) -> None:
        return None

    def works(self) -> bool:
        return True

    def interrupted(self, error: BaseException) -> bool:
        return False

    def sync_code(self) -> _Port:
        return self

    def take_back(self, step: str) -> None: ...

    def leave_behind(self) -> None: ...

    def entered(self, root: Any) -> None:
        pass

    async def beside(self, call: Any) -> Any:
        return call()


@pytest.fixture
def named() -> Iterator[None]:
    """What a test registers is forgotten afterwards."""
    yield
    registry.forget("drivers.any")


def _run() -> ClaimedRun:
    return ClaimedRun(
        uuid4(), "drivers.any", "", "default", "running", 1, 0, "[[],{}]", {}, Standing(), time.monotonic()
    )


@pytest.mark.usefixtures("named")
def test_no_step_begins_before_what_a_cut_off_call_has_waited_for_is_stored() -> None:
    """A body may limit the time of a call; the next one waits for the same records, and learns what became of them."""

    async def main() -> list[str]:
        port = _Port()

        @workflow("drivers.any")
        async def body(ctx: AsyncContext) -> None:
            await ctx.step("slow", _noted, port.log, "slow called")
            try:
                async with asyncio.timeout(0.01):
                    await ctx.step("cut off", _noted, port.log, "never called")
            except TimeoutError:
                port.log.append("cut off")
            asyncio.get_running_loop().call_soon(port.may_store.set)
            await ctx.step("next", _noted, port.log, "next called")

        assert isinstance(body, Workflow)
        assert await executor.run_async(_run(), body, port) == "completed"  # type: ignore[arg-type]
        return port.log

    assert asyncio.run(main()) == ["slow called", "cut off", "stored slow", "next called", "stored next"]


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_an_end_that_is_refused_again_and_again_is_tried_ever_more_slowly(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose failure cannot be stored either must not keep a processor busy until somebody comes."""
    pauses: list[float] = []

    async def noted(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr(asyncio, "sleep", noted)
    port = _Port()
    port.refusing = 12
    if kind == "plain":

        @workflow("drivers.any")
        def plain(ctx: Context) -> None: ...

        state = executor.run_sync(_run(), plain, port)  # type: ignore[arg-type]
    else:

        @workflow("drivers.any")
        async def asynchronous(ctx: AsyncContext) -> None: ...

        state = asyncio.run(executor.run_async(_run(), asynchronous, port))  # type: ignore[arg-type]
    assert state == "failed"
    assert pauses == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0, 5.0]


async def _noted(log: list[str], what: str) -> None:
    log.append(what)
