"""What `ctx.call`, `ctx.spawn` and the handle of a spawned child do: written once, for every driver.

The child's row is stored by the very change that stores its parent's record of it: either both are there or neither,
whatever dies in between. Its end comes back as an event to the parent. Called as `operations` are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any, NoReturn, Protocol, TypeVar
from uuid import UUID

from ..core import clock, codec
from ..core.changes import Children, Record, Wait
from ..core.definition import Planned
from ..core.delegations import token_of
from ..core.failures import describe
from ..core.journal import Journal
from ..core.naming import end_of, outcome_of, result_of
from ..exceptions import RunCancelled, RunFailed
from ..states import CANCELLED, COMPLETED, Kind, RecordState
from .branch import Branch
from .call import Ended
from .operations import Driver as AnyDriver
from .port import Port

H = TypeVar("H")

_OVER = (RecordState.COMPLETED, RecordState.FAILED)
#: Children whose ends are looked for together, before they are asked for.
_AHEAD = 100

#: What a child is called with, by position and by name.
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Driver(AnyDriver, Protocol):
    """What calls of children ask of their driver beside what all operations do."""

    port: Port

    async def look(self, find: Callable[..., Any], *arguments: Any) -> Any:
        """Ask the store about the run; leave if the database is away."""

    def refuse_start(self) -> NoReturn:
        """Leave: the run may not go on to anything new."""


async def call(driver: Driver, key: str, record: Record | None, planned: Planned[Any], arguments: Arguments) -> Any:
    """Start a child, block until it has ended, return its result."""
    if record is not None and record.state in _OVER:
        return replayed(driver.branch, record)
    if record is None or record.state == RecordState.CLOSED:
        _block(driver.branch, record, key, _start(driver, planned, arguments))
    return await _end(driver, key, record, child_of(record))


async def spawn(
    driver: Driver,
    key: str,
    record: Record | None,
    planned: Planned[Any],
    arguments: Arguments,
    handle: Callable[[UUID], H],
) -> H:
    """Start a child and go on; return the handle that is made of its id."""
    branch = driver.branch
    if record is None:
        text = codec.dumps(_start(driver, planned, arguments), "the child's id")
        now = clock.now()
        record = branch.record(key, Kind.CALL, RecordState.COMPLETED, now, finished_at=now, result=text)
        driver.submit()
    return handle(branch.decode(record))


async def result(driver: Driver, key: str, record: Record | None, child: UUID) -> Any:
    """Block until a child that was spawned has ended; return its result."""
    if record is not None and record.state in _OVER:
        return replayed(driver.branch, record)
    return await _end(driver, key, record, child)


def replayed(branch: Branch, record: Record) -> Any:
    """Return the result of a child that has ended, or raise for how it ended."""
    if record.state == RecordState.COMPLETED:
        return branch.decode(record)
    raise _failure(record)


def child_of(record: Record) -> UUID:
    """Return the child that a call waits for, or has failed with."""
    assert record.result is not None
    child: UUID = codec.loads(record.result)
    return child


def _start(driver: Driver, planned: Planned[Any], arguments: Arguments) -> UUID:
    """Have a child begin with the next change, if the run may go on to anything new; return its id."""
    start = driver.port.store.new_child(driver.branch.run, planned, *arguments)
    if not driver.may_start():
        driver.refuse_start()
    driver.branch.collected().children += Children(starts=(start,))
    child: UUID = start.run.id
    return child


async def _end(driver: Driver, key: str, record: Record | None, child: UUID) -> Any:
    ended = await find(driver, end_of(child))
    if driver.branch.leaving is not None:  # While it looked, others have decided: it reads nothing.
        raise driver.branch.leaving
    if ended is None:
        _block(driver.branch, record, key, child)
    return _read(driver, key, record, child, ended)


async def find(driver: Driver, event: str) -> Ended | None:
    """Return how a child has ended, if it has, and that was not read."""
    return (await find_all(driver, [event])).get(event)


async def find_all(driver: Driver, wanted: Sequence[str]) -> dict[str, Ended]:
    """Return how those of these children have ended that have, and that was not read, by their events.

    One question for all that are waited for. What comes later, the suspension finds. But a body is spared that: what
    was asked for others it asks anew.
    """
    journal, is_body = driver.branch.journal, not driver.branch.scope.prefix
    ends = journal.child_ends
    if any(event not in ends or (is_body and ends[event] is None) for event in wanted):
        events = {*wanted, *(_awaited(journal) if is_body or not ends else ())}
        found = await driver.look(driver.port.store.find_ends, list(events))
        ends |= {name: found.get(name) for name in events}
    return {event: ends[event] for event in wanted if ends[event] is not None}


def _awaited(journal: Journal) -> list[str]:
    """Return the events that tell of the children whose ends are waited for, and of some that were spawned."""
    open_ones = (journal.records[name] for name in journal.unfinished)
    told = [event for record in open_ones if (event := _event_of(record)) is not None]
    spawned = islice(filter(partial(_is_spawned, journal), journal.records.values()), _AHEAD)
    return [*told, *(end_of(child_of(record)) for record in spawned)]


def _event_of(record: Record) -> str | None:
    """Return the event that a record waits for which is not over, if it is one of the engine's own."""
    if record.kind == Kind.CALL:
        return end_of(child_of(record))
    token = token_of(record)
    return None if token is None else outcome_of(token)


def _is_spawned(journal: Journal, record: Record) -> bool:
    """Return whether it is the start of a child whose end was not asked for yet."""
    is_start = record.kind == Kind.CALL and record.state == RecordState.COMPLETED and record.event_id is None
    return is_start and result_of(record.name) not in journal.records


def _block(branch: Branch, record: Record | None, key: str, child: UUID) -> NoReturn:
    """Block until the child has ended."""
    wait = _wait_for(key, child)
    if record is None or record.state != RecordState.OPEN:
        text = codec.dumps(child, "the child's id")
        branch.write(record, key, Kind.CALL, RecordState.OPEN, result=text)
        branch.open(wait)
    branch.block(wait)


def _wait_for(key: str, child: UUID) -> Wait:
    return Wait(key, Kind.CALL, event=end_of(child))


def _read(driver: Driver, key: str, record: Record | None, child: UUID, ended: Ended) -> Any:
    """Record how the child has ended; return or raise what that is."""
    branch = driver.branch
    branch.consume(ended.event_id, key)
    if record is not None and record.state == RecordState.OPEN:
        branch.close(_wait_for(key, child))
    values: dict[str, Any] = {"event_id": ended.event_id, "finished_at": clock.now()}
    if record is None:
        values["started_at"] = values["finished_at"]
    if ended.state == COMPLETED:
        record = branch.write(record, key, Kind.CALL, RecordState.COMPLETED, result=ended.text, errors=None, **values)
    else:
        values |= {"result": codec.dumps(child, "the child's id"), "errors": _errors(child, ended)}
        record = branch.write(record, key, Kind.CALL, RecordState.FAILED, **values)
    driver.submit()
    return replayed(branch, record)


def _errors(child: UUID, ended: Ended) -> str:
    """Return what the record keeps of a failure: the child's own error, or that it was cancelled, and why."""
    if ended.state == CANCELLED:
        reason = codec.loads_plain(ended.text)
        return codec.dumps_plain([{**describe(RunCancelled(child, reason)), "cancelled": reason}])
    return f"[{ended.text}]"


def _failure(record: Record) -> RunFailed | RunCancelled:
    [error] = codec.loads_plain(record.errors or "[null]")
    child = child_of(record)
    if error is not None and "cancelled" in error:
        return RunCancelled(child, error["cancelled"], record.name)
    return RunFailed(child, error, record.name)
