"""What has ended the waits of branches while their run was suspended, and when.

Asked for before a branch is entered: the first to have ended is to decide, not the first that has looked. An event is
for the wait that has been open longest; it is kept for that in the activation's `beside`. Called by `group`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Protocol

from ..core.changes import Record, Wait
from ..core.naming import end_of
from ..states import Kind, RecordState
from . import children
from .beside import Beside
from .call import Found


class Driver(children.Driver, Protocol):
    """What is asked of the driver beside what calls of children ask."""

    def side_by_side(self) -> Beside:
        """Return where this activation's branches run side by side."""


async def look(driver: Driver, lasts: Sequence[Record], *, races: bool) -> dict[str, datetime]:
    """Return when these last records of branches have ended, by step, as far as that is known, and decides anything.

    Of branches that race, it does; of others only which wait was the first whose time was over, for that may fail them.
    """
    ended: dict[str, datetime] = {}
    if races and len(lasts) > 1:
        ended = await _look_for_events(driver, [record for record in lasts if record.state == RecordState.OPEN])
    over = [record for record in lasts if _is_over(record, races=races)]
    if len(over) + len(ended) > 1:
        ended |= {record.name: record.finished_at for record in over if record.finished_at is not None}
        left = [record.name for record in over if record.finished_at is None]
        ended |= await driver.look(driver.port.store.ended_at, left) if left else {}
    return ended


def _is_over(record: Record, *, races: bool) -> bool:
    if races:
        return record.state in (RecordState.COMPLETED, RecordState.FAILED, RecordState.DUE)
    return record.state == RecordState.DUE and record.kind == Kind.WAIT


async def _look_for_events(driver: Driver, waits: Sequence[Record]) -> dict[str, datetime]:
    """Return when the events of these open waits and calls have come, by step, if they have; keep them for those."""
    calls = {each.name: end_of(children.child_of(each)) for each in waits if each.kind == Kind.CALL}
    ends = await children.find_all(driver, list(calls.values()))
    ended = {step: ends[event].at for step, event in calls.items() if event in ends}
    # What another branch reads meanwhile would be found here, too, and be read twice.
    arrived = await driver.one_by_one(partial(_keep, driver, [each for each in waits if each.kind == Kind.WAIT]))
    return ended | {step: found.at for step, (_wait, found) in arrived.items()}


async def _keep(driver: Driver, waits: Sequence[Record]) -> dict[str, tuple[Wait, Found]]:
    """Return what has come for these waits, by step, once no other branch takes it."""
    arrived = await _arrived(driver, waits)
    driver.side_by_side().arrived.update(arrived)
    return arrived


async def _arrived(driver: Driver, waits: Sequence[Record]) -> dict[str, tuple[Wait, Found]]:
    arrived: dict[str, tuple[Wait, Found]] = {}
    if not waits:
        return arrived
    awaited = await driver.look(driver.port.store.awaited, [record.name for record in waits])
    asked = set()
    for record in sorted(waits, key=lambda each: each.seq):
        event = awaited.get(record.name)
        if event is None or event in asked:  # Of several that wait for one event the others look for themselves.
            continue
        asked.add(event)
        found = await driver.find_event(*event)
        if found is not None:
            arrived[record.name] = Wait(record.name, Kind.WAIT, None, *event), found
    return arrived
