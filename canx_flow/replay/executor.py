"""One activation from claim to settle: decode the arguments, replay the body, say how the run is left.

Called by a worker's slots and event loop, and by the inline driver of the tests.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db.utils import InterfaceError, OperationalError

from .. import clock, codec, current
from ..changes import Change, ClaimedRun, Settle, Wait
from ..conf import get as settings
from ..durations import later
from ..exceptions import NotDecodable, NotSerializable, PayloadTooLarge, RunTimedOut
from ..failures import failure_of
from ..states import CANCELLED, COMPLETED, FAILED, PARKED, RETRYING, STOPPING, Kind
from . import reports
from .activation import RELOAD, Activation, Leave
from .context import AsyncContext, Context
from .drivers import AsyncDriver, Port, SyncDriver

_OUTAGE_FIRST, _OUTAGE_MOST = 0.5, 60.0  # seconds


def run_sync(run: ClaimedRun, workflow: Any, port: Port) -> str:
    """Activate a run of a `def` workflow in this thread; returns the state it was left in, "" if it was lost."""
    reports.activated(run)
    while True:
        activation = Activation(run, workflow.retry_policy)
        driver = SyncDriver(activation, port)
        port.entered(activation)
        settle = _replay_sync(activation, driver, workflow)
        while settle is not None and settle is not RELOAD:
            try:
                outcome = driver.settle(settle)
            except Leave as leave:  # What came before it could not be stored.
                settle = leave.settle
            else:
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
        while settle is not None and settle is not RELOAD:
            try:
                outcome = await driver.settle(settle)
            except Leave as leave:
                settle = leave.settle
            else:
                if not outcome.awake:
                    if reports.listened_to() or outcome.state in (FAILED, PARKED):
                        await port.in_thread(partial(reports.settled, run, outcome.state, settle))
                    return outcome.state
                settle = RELOAD
        if settle is None:
            return ""
        await port.in_thread(partial(port.reload, run))


def _replay_sync(activation: Activation, driver: SyncDriver, workflow: Any) -> Settle | None:
    token = current.body.set(activation.run.id)
    try:
        ended, arguments = _begin(activation)
        if ended is not None:
            return ended
        context = Context(activation, activation.root, driver)
        value = workflow.function(context, *arguments[0], **arguments[1])
        return _returned(activation, value)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever leaves a body is the run's, SystemExit too
        return _raised(activation, error, driver.port)
    finally:
        current.body.reset(token)


async def _replay_async(activation: Activation, driver: AsyncDriver, workflow: Any) -> Settle | None:
    token = current.body.set(activation.run.id)
    try:
        ended, arguments = _begin(activation)
        if ended is not None:
            return ended
        context = AsyncContext(activation, activation.root, driver)
        value = await workflow.function(context, *arguments[0], **arguments[1])
        return _returned(activation, value)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        if activation.cancelled(error):
            raise
        return _raised(activation, error, driver.port)
    finally:
        current.body.reset(token)


def _begin(activation: Activation) -> tuple[Settle | None, Any]:
    """Whether the run ends before its body is called, and the arguments to call it with."""
    run = activation.run
    if run.state == STOPPING:
        return Settle(run.ending or CANCELLED), None
    now = clock.now()
    if run.deadline_at is not None and run.deadline_at <= now:
        return _failed(RunTimedOut(f"run {run.id} had not ended at its deadline, {run.deadline_at:%Y-%m-%d %H:%M:%S}"))
    if run.timeout is not None and run.deadline_at is None:
        run.deadline_at = later(now, run.timeout)
        activation.set_column("deadline_at", run.deadline_at)
        activation.open(Wait("", Kind.DEADLINE, run.deadline_at))
    try:
        return None, codec.loads(run.arguments)
    except NotDecodable as error:
        return _failed(NotDecodable(f"the arguments of run {run.id} cannot be read: {error}"))


def _returned(activation: Activation, value: Any) -> Settle | None:
    """The body came to its end: completed, unless it had been left before and swallowed that."""
    if activation.leaving is not None:
        return activation.leaving.settle
    try:
        return Settle(COMPLETED, result=codec.dumps(value, f"the return value of run {activation.run.id}"))
    except (NotSerializable, PayloadTooLarge) as error:
        return _failed(error)[0]


def _raised(activation: Activation, error: BaseException, port: Port) -> Settle | None:
    """An exception left the body: the activation was left, the database was away, or the run has failed."""
    if activation.leaving is not None:
        return activation.leaving.settle
    if isinstance(error, (OperationalError, InterfaceError)):
        return _outage(activation, error, port)
    return _failed(error)[0]


def _outage(activation: Activation, error: Exception, port: Port) -> Settle:
    """Hand the run back for a while: the body met a database that was away, which is no failure of the run."""
    run = activation.run
    if port.connected():
        if run.outages >= settings().max_recoveries:
            return _failed(error)[0]
        run.outages += 1
        activation.set_column("outages", run.outages)
    delay = min(_OUTAGE_FIRST * 2 ** min(run.outages, 20), _OUTAGE_MOST)
    wait = Wait("", Kind.OUTAGE, later(clock.now(), delay))
    activation.open(wait)
    return Settle(RETRYING, reason=f"{type(error).__name__} in the body: tried again", blocked=(wait,))


def broken(run: ClaimedRun, error: BaseException) -> Change:
    """An activation that came apart outside the body, as by a lost connection: the run is tried again in a while."""
    wait = Wait("", Kind.OUTAGE, later(clock.now(), _OUTAGE_MOST / 10))
    settle = Settle(RETRYING, reason=f"{type(error).__name__} around the body: tried again", blocked=(wait,))
    return Change(run.id, run.epoch, opens=[wait], settle=settle)


def _failed(error: BaseException) -> tuple[Settle, None]:
    failure = codec.dumps_plain(failure_of(error, clock.now()))
    return Settle(FAILED, error=failure, reason=type(error).__name__), None
