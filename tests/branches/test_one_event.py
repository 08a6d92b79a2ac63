"""One event ends one wait of a run, whichever branches look for it at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from canx_flow import AsyncContext, send_event, workflow
from canx_flow.core import registry
from canx_flow.core.changes import Wait
from canx_flow.models import StepRecord
from canx_flow.replay import waits
from canx_flow.replay.async_driver import AsyncDriver
from canx_flow.testing import run_until_idle
from canx_flow.testing.port import InlinePort

pytestmark = [pytest.mark.once, pytest.mark.django_db]


class _Meeting:
    """Has the race and the other branch find an event both, if they can, and the other one read it first."""

    def __init__(self) -> None:
        self.is_on = False
        self._race_found, self._other_came = asyncio.Event(), asyncio.Event()
        self._one_by_one, self._find, self._read = AsyncDriver.one_by_one, AsyncDriver.find_event, waits._read

    async def one_by_one(self, driver: AsyncDriver, look: Callable[[], Any]) -> Any:
        beside = driver.activation.beside
        if self.is_on and beside is not None and beside.looking.locked():
            self._other_came.set()
        return await self._one_by_one(driver, look)

    async def find_event(self, driver: AsyncDriver, event: str, key: str | None) -> Any:
        found = await self._find(driver, event, key)
        if self.is_on and driver.branch.scope.prefix == "x/":
            self._race_found.set()
            await self._other_came.wait()
        elif self.is_on:
            await self._race_found.wait()
        return found

    def read(self, branch: Any, record: Any, wait: Wait, found: Any) -> Any:
        self._other_came.set()
        return self._read(branch, record, wait, found)


@pytest.mark.parametrize("broadcast", [True, False])
def test_a_race_and_another_branch_that_look_at_once_read_an_event_once(
    monkeypatch: pytest.MonkeyPatch, broadcast: bool
) -> None:
    """It ends the wait that was opened first; the other one goes on with the next event."""
    registry.forget("branches.any")

    @workflow("branches.any")
    async def body(ctx: AsyncContext) -> Any:
        async def race(own: AsyncContext) -> Any:
            return await own.race(a=lambda c: c.wait_for("read", "news"), b=lambda c: c.sleep("nap", 3600))

        return await ctx.gather(x=race, y=lambda own: own.wait_for("read", "news"))

    def send(what: str) -> None:
        send_event("news", what) if broadcast else body.send(run_id, "news", what)

    meeting = _Meeting()
    monkeypatch.setattr(AsyncDriver, "one_by_one", lambda *args: meeting.one_by_one(*args))  # noqa: PLW0108 - of the driver
    monkeypatch.setattr(AsyncDriver, "find_event", lambda *args: meeting.find_event(*args))  # noqa: PLW0108
    monkeypatch.setattr(waits, "_read", meeting.read)
    run_id = body.start()
    run_until_idle()  # With one place the race has opened its waits before the other branch begins.
    monkeypatch.setattr(InlinePort, "places", 8)
    meeting.is_on = True
    send("first")
    run_until_idle()
    read = StepRecord.objects.filter(kind="wait", state="completed").values_list("name", flat=True)
    assert list(read) == ["x/a/read"]
    meeting.is_on = False
    send("second")
    run_until_idle()
    assert body.result(run_id) == {"x": ("a", "first"), "y": "second"}
    registry.forget("branches.any")
