"""One activation from claim to settle: decode the arguments, replay the body, say how the run is left.

Written once, as a coroutine. A worker's slots run it in a thread for a `def` workflow, and as a task of the event loop
for an `async def` one; the inline driver of the tests does both.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain, count
from typing import Any

from ..core import clock, policies
from ..core.backoff import doubled
from ..core.claimed import ClaimedRun
from ..states import STOPPING
from . import reports
from .activation import RELOAD, Activation, Leave
from .async_driver import AsyncDriver
from .body import replay
from .branch import Branch
from .context import AsyncContext, Context
from .driver import Driver
from .port import WholePort
from .stopping import Stopping, Undoing, stop
from .sync_driver import Departure, SyncDriver, conclude

_FIRST_PAUSE, _MOST_PAUSE = 0.1, 5.0  # seconds


def run_sync(run: ClaimedRun, workflow: Any, port: WholePort) -> str:
    """Activate a run of a `def` workflow in this thread; return the state it was left in, "" if it was lost."""
    return conclude(activate_sync(run, workflow, port))


def activate_sync(run: ClaimedRun, workflow: Any, port: WholePort) -> Coroutine[Departure, None, str]:
    """Return the same as a coroutine that is suspended once its end is handed in, and waits for that when resumed.

    It may be resumed by another thread, and need not be once the departure `is_over`.
    """
    return _activate(run, workflow, port, SyncDriver, Context)


async def run_async(run: ClaimedRun, workflow: Any, port: WholePort) -> str:
    """Activate a run of an `async def` workflow in this task; return as `run_sync`."""
    return await _activate(run, workflow, port, AsyncDriver, AsyncContext)


async def _activate(
    run: ClaimedRun, workflow: Any, port: WholePort, kind: type[Driver], context: Callable[..., Any]
) -> str:
    if run.fresh and run.standing.origin.policies is not None:
        await _expire(run, port, kind(Branch(Activation(run, None)), port))
    driver = _driver(run, workflow, port, kind)
    raised: BaseException | None = None
    if reports.listened_to():
        await driver.apart(partial(reports.activated, run))
    while True:
        port.entered(driver.branch)
        way = stop if run.state == STOPPING else replay
        settle = await driver.isolated(way(driver, context, workflow))
        pauses, stored = _pauses(), None
        while settle is not None and settle is not RELOAD:
            try:
                driver.submit(settle)
                await driver.depart(settle)
                outcome = await driver.sync()
            except Leave as leave:  # What came before it could not be stored, or it could not itself.
                settle = leave.settle
                await driver.pause(next(pauses))
            else:
                assert outcome is not None
                if not outcome.awake:
                    settle.raised = settle.raised or raised
                    if reports.is_told(settle, outcome.state):
                        await driver.apart(partial(reports.settled, run, outcome.state, settle))
                    settle.raised = raised = None  # Its traceback holds this frame.
                    return outcome.state
                raised = settle.raised  # It is told with the run's end, once everything is undone.
                settle, stored = RELOAD, driver.branch.journal
        if settle is None:
            return ""
        with suppress(Leave):  # What steps have come to may be left to be stored, though what others did is refused.
            await driver.flush()
        run.journal = stored
        await driver.ask(partial(port.store.reload, run))
        driver = _driver(run, workflow, port, kind)


async def _expire(run: ClaimedRun, port: WholePort, driver: Driver) -> None:
    """Have a run stopped that was claimed for the first time, and too late: before its timer was fired."""
    expires_at = policies.read(run.standing.origin.policies).expires_at
    if expires_at is not None and expires_at <= clock.now() and run.state != STOPPING:
        await driver.ask(partial(port.store.expire, run))


def _driver(run: ClaimedRun, workflow: Any, port: WholePort, kind: type[Driver]) -> Driver:
    """Return the driver of a new activation's root branch."""
    if run.state == STOPPING:
        # Whose code need not be known, if it only has to end.
        return kind(Stopping(Undoing(run, None if workflow is None else workflow.retry_policy)), port)
    return kind(Branch(Activation(run, workflow.retry_policy)), port)


def _pauses() -> Iterator[float]:
    """Return the seconds before an end that was refused is tried again: none at first, then longer each time."""
    return chain([0.0], (doubled(_FIRST_PAUSE, _MOST_PAUSE, times) for times in count()))
