"""How a step waits for its limit: with its place in hand if its moment is near, else as a run that is suspended.

Called by `operations.step` before the call; its parts that ask and wait, by drivers. What it waits for does not count
for the step's timeout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, Protocol

from ..core import clock
from ..core.changes import Record
from ..core.durations import later
from ..core.limits import Admission, Bucket, LimitUse, Request, Reservation
from ..states import Kind, RecordState
from .branch import Branch

#: Seconds of a wait after which it is asked whether there still is something to wait for.
_PIECE = 0.05
#: Until a run that waits for a place asks for itself; twice as long each time that it has asked in vain, as often as
#: this. Mostly it is woken long before, by whoever gives a place back: else thousands that wait would all ask.
_ASKS_ANEW, _MOST_DOUBLED = timedelta(minutes=5), 4


class Driver(Protocol):
    """What is asked of the driver of the step."""

    branch: Branch

    def submit(self) -> None:
        """Have what was collected stored; wait for nothing."""

    async def admit(self, request: Request) -> Admission:
        """Ask the bucket."""

    async def stay(self, seconds: float) -> None:
        """Wait for so long, with the step's place in hand; leave if no step of this run may be started any more."""


class World(Driver, Protocol):
    """What drivers do that with."""

    port: Any

    async def look(self, find: Callable[..., Any], *arguments: Any) -> Any:
        """Ask the store about the run; leave if the database is away."""

    async def linger(self, seconds: float) -> None:
        """Wait, while other branches go on."""

    async def barrier(self) -> None:
        """Wait until everything is stored; leave if the worker may not start a step of this run now."""

    def may_start(self) -> bool:
        """Return whether a step may be started, as far as the last commit has told."""

    def refuse_start(self) -> NoReturn:
        """Leave: the run may not go on to anything new."""

    def ask_anew(self) -> None:
        """Have the store tell how the run stands now."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a step holds in a limit with a `concurrency`, from before its call until its record is stored."""

    bucket: Bucket
    step: str

    def give_back(self, branch: Branch) -> None:
        """Give it back with what is stored next."""
        branch.release(self.bucket, self.step)

    def give_back_now(self, driver: Driver) -> None:
        """Give it back though there is nothing to store: the call was cut off, or never begun.

        A run that is left stores that as it is left: its owner may go on with what is to be undone.
        """
        self.give_back(driver.branch)
        if driver.branch.activation.leaving is None:
            driver.submit()


async def admitted(driver: Driver, key: str, record: Record | None, use: LimitUse) -> Place | None:
    """Wait until the step may be called; return the place that it has then, if its limit has any. Or block on that."""
    branch, run = driver.branch, driver.branch.run
    found = await driver.admit(Request(use, run.id, run.epoch, key, _before(record, use)))
    place = Place(use.bucket, key) if found.holds else None
    try:
        if branch.leaving is not None:  # While it asked, others have decided.
            raise branch.leaving
        if found.full or found.later:
            _block(branch, key, record, use, found)
        if found.wait > 0:
            await driver.stay(found.wait)
    except BaseException:
        if place is not None:
            place.give_back_now(driver)
        raise
    if record is not None:
        record.result = None  # Its moment is spent, whatever becomes of the call.
    return place


def _before(record: Record | None, use: LimitUse) -> Reservation | None:
    """Return what the step has waited for in this bucket."""
    before = Reservation.of(record)
    return None if before is None or (before.name, before.key) != use.bucket else before


def _block(branch: Branch, key: str, record: Record | None, use: LimitUse, found: Admission) -> NoReturn:
    """Suspend until the moment that is reserved, or until there is a place."""
    now, before = clock.now(), _before(record, use)
    asked = before.asked if before is not None else 0
    due_at = later(now, found.wait) if found.later else now + _ASKS_ANEW * 2 ** min(asked, _MOST_DOUBLED)
    reservation = Reservation(use.name, use.key, found.at, found.missed, found.full, asked + found.full)
    branch.write(record, key, Kind.STEP, RecordState.OPEN, result=reservation.text())
    wait = reservation.wait(key, due_at)
    branch.open(wait)
    branch.block(wait)


async def ask(driver: World, request: Request) -> Admission:
    """Ask the bucket, together with whatever asks it at the same time."""
    store = driver.port.store
    store.expect(request)
    try:
        await driver.look(store.admit, request)
    except BaseException:
        found = request.give_up()
        if found is not None and found.holds:
            Place(request.use.bucket, request.step).give_back_now(driver)
        raise
    assert request.answer is not None
    return request.answer


async def stay(driver: World, seconds: float) -> None:
    """Wait for so long, and look meanwhile whether the run is left, or a race lost."""
    pieces = int(seconds / _PIECE)
    for piece in (*[_PIECE] * pieces, seconds - pieces * _PIECE):
        await driver.linger(piece)
        if not driver.may_start():
            driver.refuse_start()
    driver.ask_anew()  # It may have been paused or cancelled since its last commit.
    await driver.barrier()
