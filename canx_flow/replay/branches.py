"""What `ctx.gather` and `ctx.race` do: written once, for every driver. Called as `operations` are.

A branch that is blocked is left, and entered anew, from its beginning, once its wait has ended. What has decided is
recorded: which branch was the first to end, which the first to fail, or that all have ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from ..core import clock, codec
from ..core.callables import is_async
from ..core.changes import Record
from ..core.naming import step_name
from ..exceptions import HistoryMismatch
from ..states import Kind, RecordState
from .branch import Branch
from .group import BranchLine, ContextOf, Group
from .team import Driver

Functions = dict[str, Callable[[Any], Any]]


def checked(functions: Functions, verb: str, *, awaits: bool) -> Functions:
    """Check the branches that a body gives: names as steps have them, and functions of its own kind."""
    for name, function in functions.items():
        step_name(name)
        if not callable(function):
            raise TypeError(
                f"branch {name!r} of ctx.{verb} must be a function that takes a context, not "
                f"{type(function).__name__}: write ctx.{verb}({name}=lambda ctx: …)"
            )
        if is_async(function) and not awaits:
            raise TypeError(
                f"branch {name!r} of ctx.{verb} is async, and its workflow is not: give it a plain function, or make "
                f"the workflow an `async def`"
            )
    if verb == "race" and not functions:
        raise ValueError("ctx.race needs at least one branch")
    return functions


async def gather(
    driver: Driver, context: ContextOf, key: str, record: Record | None, functions: Functions
) -> dict[str, Any]:
    """Run branches side by side; return what each returns, or raise what the first to fail has raised."""
    group = Group(driver, context, functions)
    if driver.branch.rebuilding:
        failed = record is not None and record.state == RecordState.FAILED
        decided = [] if record is None else [_decided(group, driver.branch, record)] if failed else group.lines
        await group.rebuild(decided, record)
        if failed:
            decided[0].outcome()
    elif record is not None and record.state == RecordState.FAILED:
        await _failed_before(group, driver.branch, record)
    elif record is not None:
        await group.in_turn(group.lines, record)
    elif functions:
        await group.side_by_side(_has_failed, at_once=False)
        if group.decided is not None:
            _decide(driver, group, key, Kind.GATHER, RecordState.FAILED)
            group.decided.outcome()
        _record(driver.branch, key, Kind.GATHER, RecordState.COMPLETED)
    return {line.name: line.outcome() for line in group.lines}


async def race(
    driver: Driver, context: ContextOf, key: str, record: Record | None, functions: Functions
) -> tuple[str, Any]:
    """Run branches side by side; return the name of the first to end, and what it returns, or raise what it raises."""
    group = Group(driver, context, functions)
    if driver.branch.rebuilding and record is None:
        await group.rebuild([])
    if record is not None:
        line = _decided(group, driver.branch, record)
        await (group.rebuild([line], record) if driver.branch.rebuilding else group.in_turn([line], record))
        return line.name, line.outcome()
    await group.side_by_side(_has_ended, at_once=True)
    assert group.decided is not None
    _decide(driver, group, key, Kind.RACE, RecordState.COMPLETED)
    return group.decided.name, group.decided.outcome()


def _has_failed(line: BranchLine) -> bool:
    return line.error is not None


def _has_ended(_line: BranchLine) -> bool:
    return True


def _decide(driver: Driver, group: Group, key: str, kind: str, state: str) -> None:
    """Record which branch has decided, and close what the others wait for, in one change."""
    assert group.decided is not None
    _record(driver.branch, key, kind, state, group.decided.key)
    group.close_losers()
    driver.submit()


def _record(branch: Branch, key: str, kind: str, state: str, decided: str | None = None) -> None:
    result = None if decided is None else codec.dumps(decided, "the key of a branch")
    branch.record(key, kind, state, finished_at=clock.now(), result=result)


def _decided(group: Group, branch: Branch, record: Record) -> BranchLine:
    """Return the branch that has decided before; without it today's code has another history."""
    key = branch.decode(record)
    moved = f"has no such branch there. {record.kind.capitalize()}s are told apart by the order of their calls: keep it"
    return group.of(key) or _refuse(branch, record, key, moved)


async def _failed_before(group: Group, branch: Branch, record: Record) -> None:
    """Raise again what has ended a gather before."""
    line = _decided(group, branch, record)
    await group.in_turn([line], record)
    line.outcome()
    _refuse(branch, record, line.key, "does not fail there. Let it fail as before")


def _refuse(branch: Branch, record: Record, decided: str, what: str) -> NoReturn:
    did = "won" if record.kind == Kind.RACE else "failed"
    branch.activation.park(
        HistoryMismatch(
            f"run {branch.run.id} has a {record.kind} recorded under {record.name!r}, which branch {decided!r} has "
            f"{did}, but its code now {what}, or deploy the old code again."
        )
    )
