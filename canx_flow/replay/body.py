"""One replay of a body: call it with its arguments and a context, and make of its end how the run is left.

Called by the executor, with the driver and the context of the workflow's kind.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from django.db.utils import InterfaceError, OperationalError

from ..core import clock, codec, current
from ..core.callables import is_awaitable
from ..core.changes import Settle, Wait
from ..core.durations import later
from ..exceptions import ArgumentsMismatch, NotDecodable, NotSerializable, PayloadTooLarge, RunTimedOut
from ..states import COMPLETED, PENDING, STOPPING, Kind
from .branch import Branch
from .driver import Driver
from .endings import failed


async def replay(driver: Driver, context: Callable[..., Any], workflow: Any) -> Settle | None:
    """Replay the body once; return how the run is left, `None` if it is another owner's now."""
    branch = driver.branch
    token = current.body.set(branch.run.id)
    raised: BaseException | None = None
    try:
        try:
            ended, arguments = _begin(branch, workflow)
            if ended is not None:
                return ended
            value = workflow.function(context(branch, driver), *arguments[0], **arguments[1])
            if is_awaitable(value):
                if not driver.awaits:
                    return _async_after_all(driver, workflow, value)
                value = await value
        except BaseException as error:
            if driver.closes(error):
                raise
            raised = error
        raised = await driver.end_body(raised)
        if (beside := branch.activation.beside) is not None:
            await beside.end(driver.signal())
        settle = _returned(driver, value) if raised is None else _raised(driver, raised)
        if branch.run.journal is not None:
            _note_changed_code(branch, workflow)
        return settle
    finally:
        raised = None  # Its traceback holds this frame.
        current.body.reset(token)
        driver.let_go()


def _begin(branch: Branch, workflow: Any) -> tuple[Settle | None, Any]:
    """Return how the run ends if its body is not to be called, and the arguments to call it with."""
    run = branch.run
    now, standing, decided = clock.now(), run.standing, run.state == STOPPING
    if not decided and standing.deadline_at is not None and standing.deadline_at <= now:
        late = RunTimedOut(f"run {run.id} had not ended at its deadline, {standing.deadline_at:%Y-%m-%d %H:%M:%S %Z}")
        return failed(late), None
    try:
        arguments = codec.loads(run.arguments)
    except NotDecodable as error:
        unreadable = NotDecodable(f"the arguments of run {run.id} cannot be read: {error}")
        if decided:
            branch.activation.park(unreadable)
        return failed(unreadable), None
    if misfit := workflow.misfit(*arguments):
        branch.activation.park(_mismatch(arguments, misfit))
    if not decided and standing.timeout is not None and standing.deadline_at is None:
        standing.deadline_at = later(now, standing.timeout)
        branch.set_column("deadline_at", standing.deadline_at)
        branch.open(Wait("", Kind.DEADLINE, standing.deadline_at))
    return None, arguments


def _mismatch(arguments: Any, misfit: str) -> ArgumentsMismatch:
    positional, keywords = arguments
    stored = f"{len(positional)} by position" + "".join(f", {name}" for name in sorted(keywords))
    return ArgumentsMismatch(f"{misfit} (stored: {stored}). It goes on when a worker's code takes them.")


def _note_changed_code(branch: Branch, workflow: Any) -> None:
    """Have it written with the run's end or suspension if it goes on with another code than it was started with."""
    standing = branch.run.standing
    if standing.code_changed or not standing.fingerprint or not branch.journal.records:
        return
    if workflow.fingerprint and workflow.fingerprint != standing.fingerprint:
        branch.set_column("code_changed", True)


def _returned(driver: Driver, value: Any) -> Settle | None:
    """Return how a run is left whose body came to its end: completed, unless the body swallowed that it was left."""
    branch = driver.branch
    if branch.leaving is not None:
        return left(branch)
    try:
        return Settle(COMPLETED, result=codec.dumps(value, f"the return value of run {branch.run.id}"))
    except (NotSerializable, PayloadTooLarge) as error:
        return failed(error)
    except BaseException as error:  # Encoding calls the project's code.
        if driver.closes(error):
            raise
        return _raised(driver, error)


def _async_after_all(driver: Driver, workflow: Any, awaitable: Any) -> Settle | None:
    """Hand the run back: a plain function has returned an awaitable, as an `async def` does behind a bare decorator.

    Nothing of that has run. From now on this process calls it as an async one, beginning with this very run. One that
    has used its context before is plain indeed: it returns what cannot be stored, and the next run need not.
    """
    if inspect.iscoroutine(awaitable):
        awaitable.close()  # Else Python warns that it was never awaited.
    branch = driver.branch
    if branch.scope.used:
        return _returned(driver, awaitable)
    workflow.found_async()
    if branch.leaving is not None:
        return left(branch)
    return Settle(PENDING)


def left(branch: Branch) -> Settle | None:
    """Return how a run is left whose root branch was; where the body stood is told by what was raised through it."""
    leaving = branch.leaving
    settle = branch.suspension() if branch.activation.leaving is None else branch.activation.leaving.settle
    if leaving is not None and settle is not None and settle.raised is not None and settle.raised.__traceback__ is None:
        settle.raised.__traceback__ = leaving.__traceback__
    return settle


def _raised(driver: Driver, error: BaseException) -> Settle | None:
    """Return how a run is left whose body has raised: it was left, the database was away, or the run has failed."""
    branch = driver.branch
    if branch.leaving is not None:
        return left(branch)
    if isinstance(error, (OperationalError, InterfaceError)):
        return driver.outage(error)
    return failed(error, branch.activation.journal)  # Whatever leaves a body is the run's, SystemExit too.
