"""`advance` under the clocks of time-machine and freezegun, and what those make of dates as values."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import time_machine
from django.utils import timezone
from freezegun import freeze_time

from canx_flow import Context, workflow
from canx_flow.core import clock
from canx_flow.testing import advance, reset_clock, run_until_idle

START = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

Frozen = Callable[[], AbstractContextManager[Any]]
STANDING: dict[str, Frozen] = {
    "freezegun": lambda: freeze_time(START),
    "time-machine": lambda: time_machine.travel(START, tick=False),
}
TICKING: dict[str, Frozen] = {
    "freezegun ticking": lambda: freeze_time(START, tick=True),
    "freezegun ticking when read": lambda: freeze_time(START, auto_tick_seconds=0.001),
    "time-machine ticking": lambda: time_machine.travel(START),
}
EVERY = STANDING | TICKING

pytestmark = pytest.mark.django_db


@workflow("travel.trial")
def trial(ctx: Context) -> datetime:
    """Thirty days, and then what the project's own code takes for now."""
    ctx.sleep("trial", 30 * DAY)
    return ctx.step("renew", timezone.now)


@workflow("travel.ten")
def ten(ctx: Context) -> None:
    """Ten hours, one after the other."""
    for _ in range(10):
        ctx.sleep("nap", HOUR)


@pytest.mark.once
@pytest.mark.parametrize("name", STANDING)
def test_a_frozen_clock_is_moved_to_the_moment(name: str) -> None:
    """The project's code sees the same time as the engine, in the step and after it; thawed, both see the real one."""
    real = timezone.now()
    with STANDING[name]():
        run_id = trial.start()
        advance(30 * DAY)
        assert trial.status(run_id).result == START + 30 * DAY
        assert timezone.now() == clock.now() == START + 30 * DAY
    assert timedelta(0) <= clock.now() - real < HOUR


@pytest.mark.once
@pytest.mark.parametrize("name", TICKING)
def test_a_ticking_clock_loses_nothing(name: str) -> None:
    """Ten hours in a row take ten hours, though time goes on between them; afterwards the clocks agree."""
    with TICKING[name]():
        before = timezone.now()
        run_id = ten.start()
        advance(10 * HOUR)
        assert ten.status(run_id).state == "completed"
        assert timedelta(0) <= timezone.now() - before - 10 * HOUR < HOUR
        assert abs(clock.now() - timezone.now()) < timedelta(minutes=1)
        other = ten.start()
        run_until_idle()
        for _ in range(10):  # Nor does it go back between two calls.
            advance(HOUR)
        assert ten.status(other).state == "completed"


@pytest.mark.once
def test_what_the_engines_clock_was_before_it_is_again() -> None:
    """A clock that was moved without them, frozen, moved and thawed: theirs takes theirs back, ours stays."""
    advance(HOUR)
    with time_machine.travel(START):
        advance(DAY)
        assert abs(clock.now() - timezone.now() - HOUR) < timedelta(minutes=1)
    assert abs(clock.now() - timezone.now() - HOUR) < timedelta(minutes=1)
    reset_clock()
    assert abs(clock.now() - timezone.now()) < timedelta(minutes=1)


@pytest.mark.once
def test_an_unknown_version_of_time_machine_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has frozen the clock and gives no way to move it: better an error than another clock that moves alone."""
    unknown = ModuleType("time_machine")
    unknown.escape_hatch = SimpleNamespace(is_travelling=lambda: True)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "time_machine", unknown)
    with pytest.raises(RuntimeError, match="time-machine"):
        advance(HOUR)


# -- dates as values -------------------------------------------------------------------------------------------


@dataclass
class Slot:
    """What is booked."""

    begins: datetime
    day: date


def book(slot: Slot) -> dict[str, Any]:
    """The slot, and the moments that the project's code sees."""
    return {"at": timezone.now(), "today": timezone.now().date(), "slot": slot}


@workflow("travel.booking")
def booking(ctx: Context, slot: Slot, when: datetime) -> list[Any]:
    """A moment as argument, as the end of a sleep, as a result and as a payload."""
    got = ctx.step("book", book, slot)
    ctx.sleep_until("until", when)
    return [got, ctx.wait_for("confirmed", "confirmed", timeout=DAY, default=None), ctx.now()]


@pytest.mark.parametrize("name", EVERY)
def test_the_dates_of_a_frozen_clock_are_dates(name: str) -> None:
    """Arguments, results, payloads, `run_at` and `sleep_until` take what it makes, and give plain dates back."""
    with EVERY[name]():
        now = timezone.now()
        slot = Slot(timezone.now(), timezone.now().date())
        run_id = booking.using(run_at=timezone.now()).start(slot, timezone.now() + DAY)
        run_until_idle()
        assert booking.status(run_id).state == "sleeping"
        booking.send(run_id, "confirmed", [now, now.date()])
        advance(DAY)
        advance(1)
        status = booking.status(run_id)
        assert status.state == "completed"
        got, answer, at = status.result
        assert (got["slot"], answer) == (slot, [now, now.date()])
        assert timedelta(0) <= got["at"] - now < HOUR
        assert timedelta(0) <= at - now - DAY < HOUR
    thawed = booking.status(run_id).result[1]
    assert [type(value) for value in thawed] == [datetime, date]
