"""One activation from claim to settle: decode the arguments, replay the body, say how the run is left.

Called by a worker's slots and event loop, and by the inline driver of the tests.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Generator, Iterator
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from typing import Any

from django.db.utils import InterfaceError, OperationalError

from ..core import clock, codec, current
from ..core.backoff import doubled
from ..core.callables import is_awaitable
from ..core.changes import ClaimedRun, Outcome, Settle, Wait
from ..core.durations import later
from ..exceptions import ArgumentsMismatch, NotAwaited, NotDecodable, NotSerializable, PayloadTooLarge, RunTimedOut
from ..states import CANCELLED, COMPLETED, FAILED, PARKED, PENDING, STOPPING, Kind
from . import reports
from .activation import RELOAD, Activation, Leave
from .async_driver import AsyncDriver
from .calls import ContextCall
from .context import AsyncContext, Context
from .drivers import Port, SyncDriver, Ticket
from .endings import failed, outage

_FIRST_PAUSE, _MOST_PAUSE = 0.1, 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Departure:
    """A body has come to its end, and how its run is left is handed in: its thread may turn to another run."""

    settle: Settle
    ticket: Ticket
    #: There is something to tell of what is stored before it, or with it.
    news: bool = False

    def is_quiet(self) -> bool:
        """Whether nobody will be told of it, if all goes well."""
        return not self.news and self.settle.state not in (FAILED, PARKED) and not reports.listened_to()

    def is_over(self, outcome: Outcome) -> bool:
        """Whether nothing is left to be done, now that this became of it."""
        return outcome.stored and not outcome.awake and outcome.state == self.settle.state and self.is_quiet()


def run_sync(run: ClaimedRun, workflow: Any, port: Port) -> str:
    """Activate a run of a `def` workflow in this thread; returns the state it was left in, "" if it was lost."""
    return conclude(departing(run, workflow, port))


def conclude(activation: Generator[Departure, None, str]) -> str:
    """Wait for what `departing` has handed in; returns as `run_sync`."""
    while True:
        try:
            next(activation)
        except StopIteration as end:
            state: str = end.value
            return state


def departing(run: ClaimedRun, workflow: Any, port: Port) -> Generator[Departure, None, str]:
    """`run_sync` in two parts: yields when an end is handed in, and waits for that when it is resumed.

    It may be resumed by another thread, and need not be once the departure `is_over`.
    """
    reports.activated(run)
    while True:
        activation = Activation(run, workflow.retry_policy)
        driver = SyncDriver(activation, port)
        port.entered(activation)
        # A copy of the context: what the body sets in it ends with this replay.
        settle = copy_context().run(_replay_sync, activation, driver, workflow)
        pauses = _pauses()
        while settle is not None and settle is not RELOAD:
            try:
                driver.submit(settle)
                yield Departure(settle, driver.last_ticket(), driver.has_news())
                outcome = driver.sync()
            except Leave as leave:  # What came before it could not be stored, or it could not itself.
                settle = leave.settle
                time.sleep(next(pauses))
            else:
                assert outcome is not None
                if not outcome.awake:
                    reports.settled(run, outcome.state, settle)
                    return outcome.state
                settle = RELOAD
        if settle is None:
            return ""
        port.reload(run)


async def run_async(run: ClaimedRun, workflow: Any, port: Port) -> str:
    """Activate a run of an `async def` workflow in this task; returns as `run_sync`."""
    if reports.listened_to():  # In a thread, as everything that receivers are told: they may use the ORM.
        await port.in_thread(partial(reports.activated, run))
    while True:
        activation = Activation(run, workflow.retry_policy)
        driver = AsyncDriver(activation, port)
        port.entered(activation)
        settle = await _replay_async(activation, driver, workflow)
        pauses = _pauses()
        while settle is not None and settle is not RELOAD:
            try:
                outcome = await driver.settle(settle)
            except Leave as leave:
                settle = leave.settle
                await asyncio.sleep(next(pauses))
            else:
                if not outcome.awake:
                    if reports.listened_to() or outcome.state in (FAILED, PARKED):
                        await port.in_thread(partial(reports.settled, run, outcome.state, settle))
                    return outcome.state
                settle = RELOAD
        if settle is None:
            return ""
        await port.in_thread(partial(port.reload, run))


def _pauses() -> Iterator[float]:
    """Seconds before an end that was refused is tried again: none at first, then longer each time."""
    return chain([0.0], (doubled(_FIRST_PAUSE, _MOST_PAUSE, times) for times in count()))


def _replay_sync(activation: Activation, driver: SyncDriver, workflow: Any) -> Settle | None:
    token = current.body.set(activation.run.id)
    try:
        ended, arguments = _begin(activation, workflow)
        if ended is not None:
            return ended
        context = Context(activation, activation.root, driver)
        value = workflow.function(context, *arguments[0], **arguments[1])
        if is_awaitable(value):
            return _async_after_all(activation, workflow, value)
        driver.refuse_left_open()
        return _returned(activation, value)
    except BaseException as error:
        if driver.port.interrupted(error):
            raise
        return _raised(activation, error, driver.port)  # Whatever leaves a body is the run's, SystemExit too.
    finally:
        current.body.reset(token)
        driver.restore_transactions()


async def _replay_async(activation: Activation, driver: AsyncDriver, workflow: Any) -> Settle | None:
    token = current.body.set(activation.run.id)
    value, raised = None, None
    try:
        try:
            ended, arguments = _begin(activation, workflow)
            if ended is not None:
                return ended
            context = AsyncContext(activation, activation.root, driver)
            value = workflow.function(context, *arguments[0], **arguments[1])
            if is_awaitable(value):
                value = await value
        except BaseException as error:
            if driver.closes(error):
                raise
            raised = error
        if raised is None:
            raised = _not_awaited(activation, driver.forgotten())
        await driver.end()
        left_open = await driver.give_back()
        raised = raised or left_open
        return _returned(activation, value) if raised is None else _raised(activation, raised, driver.port)
    finally:
        raised = None  # Its traceback holds this frame.
        current.body.reset(token)


def _not_awaited(activation: Activation, call: ContextCall | None) -> NotAwaited | None:
    """The body came to its end without what it has asked for: a run must not be called completed then."""
    if call is None:
        return None
    return NotAwaited(
        f"run {activation.run.id} returned before {call.what} at {call.where} was awaited to its end: write "
        f"`await {call.what.partition('(')[0]}(…)`"
    )


def _begin(activation: Activation, workflow: Any) -> tuple[Settle | None, Any]:
    """Whether the run ends before its body is called, and the arguments to call it with."""
    run = activation.run
    if run.state == STOPPING:
        return Settle(run.ending or CANCELLED), None
    now = clock.now()
    if run.deadline_at is not None and run.deadline_at <= now:
        late = RunTimedOut(f"run {run.id} had not ended at its deadline, {run.deadline_at:%Y-%m-%d %H:%M:%S}")
        return failed(late), None
    try:
        arguments = codec.loads(run.arguments)
    except NotDecodable as error:
        return failed(NotDecodable(f"the arguments of run {run.id} cannot be read: {error}")), None
    if misfit := workflow.misfit(*arguments):
        activation.park(_mismatch(arguments, misfit))
    if run.timeout is not None and run.deadline_at is None:
        run.deadline_at = later(now, run.timeout)
        activation.set_column("deadline_at", run.deadline_at)
        activation.open(Wait("", Kind.DEADLINE, run.deadline_at))
    return None, arguments


def _mismatch(arguments: Any, misfit: str) -> ArgumentsMismatch:
    positional, keywords = arguments
    stored = f"{len(positional)} by position" + "".join(f", {name}" for name in sorted(keywords))
    return ArgumentsMismatch(f"{misfit} (stored: {stored}). It goes on when a worker's code takes them.")


def _returned(activation: Activation, value: Any) -> Settle | None:
    """The body came to its end: completed, unless it had been left before and swallowed that."""
    if activation.leaving is not None:
        return _left(activation.leaving)
    try:
        return Settle(COMPLETED, result=codec.dumps(value, f"the return value of run {activation.run.id}"))
    except (NotSerializable, PayloadTooLarge) as error:
        return failed(error)


def _async_after_all(activation: Activation, workflow: Any, awaitable: Any) -> Settle | None:
    """A plain function has returned an awaitable, as an `async def` does behind a decorator without `wraps`.

    Nothing of that has run. From now on this process calls it as an async one, beginning with this very run. One that
    has used its context before is plain indeed: it returns what cannot be stored, and the next run need not.
    """
    if inspect.iscoroutine(awaitable):
        awaitable.close()  # Else Python warns that it was never awaited.
    if activation.root.used:
        return _returned(activation, awaitable)
    workflow.found_async()
    return Settle(PENDING) if activation.leaving is None else _left(activation.leaving)


def _left(leaving: Leave) -> Settle | None:
    """How the run is left; what parks it was never raised itself, so where the body stood is told by what was."""
    settle = leaving.settle
    if settle is not None and settle.raised is not None and settle.raised.__traceback__ is None:
        settle.raised.__traceback__ = leaving.__traceback__
    return settle


def _raised(activation: Activation, error: BaseException, port: Port) -> Settle | None:
    """An exception left the body: the activation was left, the database was away, or the run has failed."""
    if activation.leaving is not None:
        return _left(activation.leaving)
    if isinstance(error, (OperationalError, InterfaceError)):
        return outage(activation, error, connected=port.connected())
    return failed(error, activation)
