"""What `ctx.sleep` and `ctx.wait_for` do: written once, for every driver. Called as `operations` are."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from ..core import clock, naming
from ..core.changes import Record, Wait
from ..core.durations import later, seconds
from ..core.naming import checked
from ..exceptions import WaitTimeout
from ..states import Kind, RecordState
from .branch import Branch
from .call import Found
from .operations import Driver

MISSING: Any = object()


def after(duration: float | timedelta) -> datetime:
    """Return the moment `duration` from now."""
    return later(clock.now(), seconds(duration, "duration"), "a duration")


async def sleep(driver: Driver, key: str, record: Record | None, due_at: datetime) -> None:
    """Block until a moment. One that has passed does not suspend, but is recorded all the same."""
    branch = driver.branch
    record = record or branch.find(key, Kind.SLEEP)
    if record is not None and record.state == RecordState.COMPLETED:
        return
    wait = Wait(key, Kind.SLEEP, due_at)
    if record is None or record.state == RecordState.CLOSED:
        now = clock.now()
        if due_at <= now:
            branch.write(record, key, Kind.SLEEP, RecordState.COMPLETED, started_at=now, finished_at=now)
            return
        branch.write(record, key, Kind.SLEEP, RecordState.OPEN, started_at=now)
        branch.open(wait)
    branch.block(wait)


async def wait_for(
    driver: Driver,
    key: str,
    record: Record | None,
    event: str,
    event_key: str | None,
    timeout: float | timedelta | None,  # noqa: ASYNC109 - of the run, which suspends
    default: Any,
) -> Any:
    """Block until an event arrives or the timeout passes; an unread event wins over a timeout not yet recorded."""
    branch = driver.branch
    record = record or branch.find(key, Kind.WAIT)
    if record is not None and record.state == RecordState.COMPLETED:
        return branch.decode(record)
    if record is None or record.state != RecordState.FAILED:
        now = clock.now()
        due_at = None if timeout is None else later(now, seconds(timeout, "timeout"), "a timeout")
        wait = Wait(key, Kind.WAIT, due_at, event, event_key)
        # Stored first: an event that an earlier wait has read must be marked so before this one looks.
        await driver.flush()
        read = await driver.one_by_one(partial(_look, driver, record, wait))
        if read is not None:
            return branch.decode(read)
        # Its time was over, but today's code gives it none.
        unlimited = record is not None and record.state == RecordState.DUE and due_at is None
        is_new = record is None or record.state == RecordState.CLOSED
        if unlimited or (is_new and (due_at is None or due_at > now)):
            branch.write(record, key, Kind.WAIT, RecordState.OPEN, started_at=now, finished_at=None)
            branch.open(wait)
            branch.block(wait)
        if record is not None and record.state == RecordState.OPEN:
            branch.block(wait)
        record = branch.write(record, key, Kind.WAIT, RecordState.FAILED, finished_at=now)
        driver.submit()
    if default is not MISSING:
        return default
    raise WaitTimeout(f"no event {event!r} came for {key!r} of run {branch.run.id} in time")


async def _look(driver: Driver, record: Record | None, wait: Wait) -> Record | None:
    """Look for the event that ends this wait, and read it; `None` if there is none, or it is another branch's."""
    branch, beside = driver.branch, driver.branch.activation.beside
    assert wait.event is not None
    found = beside.take_arrived(wait) if beside is not None else None
    if found is None:
        found = await driver.find_event(wait.event, wait.key)
    if branch.leaving is not None:  # While it looked, others have decided: it reads nothing.
        raise branch.leaving
    if found is None or (beside is not None and beside.is_anothers(wait, found)):
        return None
    record = _read(branch, record, wait, found)
    driver.submit()
    return record


def _read(branch: Branch, record: Record | None, wait: Wait, found: Found) -> Record:
    """Record the event that ends a wait."""
    if found.directed:
        branch.consume(found.id, wait.step)
    if record is not None and record.state == RecordState.OPEN:
        branch.close(wait)
    if wait.event is not None:
        branch.journal.last_read[wait.event, wait.key] = found.id
    return branch.write(
        record, wait.step, Kind.WAIT, RecordState.COMPLETED,
        result=found.payload, event_id=found.id, finished_at=clock.now(),
    )  # fmt: skip


def event_name(event: str, key: str | None) -> tuple[str, str | None]:
    """Check an event's name, and the key that narrows it."""
    return naming.event_name(event), None if key is None else checked(key, "event key")
