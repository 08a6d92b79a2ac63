"""How a run is left other than by its body's return: failed, or handed back for a while because of an outage.

Called by drivers, the executor and a worker's slots.
"""

from __future__ import annotations

from django.db.utils import Error

from ..conf import get as settings
from ..core import clock, codec
from ..core.backoff import doubled
from ..core.changes import Change, ClaimedRun, Settle, Wait
from ..core.durations import later
from ..core.failures import failure_of
from ..states import FAILED, RETRYING, Kind
from ..store.db import errors
from .activation import Activation

_OUTAGE_FIRST, _OUTAGE_MOST = 0.5, 60.0  # seconds


def failed(error: BaseException, activation: Activation | None = None) -> Settle:
    """The run has failed with this error, which has left its body if an activation is given."""
    was_caught = activation.journal.goes_on_after if activation is not None else None
    failure = codec.dumps_plain(failure_of(error, clock.now(), was_caught=was_caught))
    return Settle(FAILED, error=failure, reason=type(error).__name__, raised=error)


def outage(activation: Activation, error: Exception, *, connected: bool) -> Settle:
    """Hand the run back for a while: the body met a database that was away, which is no failure of the run."""
    run = activation.run
    # Too few connections are no fault of the run that finds none: it goes on when others have given theirs back.
    if connected and not errors.is_crowded(error):
        if _too_often(run):
            return failed(error)
        activation.set_column("outages", run.outages)
    wait = _pause(run)
    activation.open(wait)
    return Settle(RETRYING, reason=f"{type(error).__name__} in the body: tried again", blocked=(wait,))


def broken(run: ClaimedRun, error: BaseException, *, connected: bool) -> Change:
    """An activation that came apart outside the body, as for want of a thread: the run is tried again in a while.

    A database's error is no fault of the run's. Anything else counts as an outage in the body does, so that no defect
    repeats it for ever.
    """
    columns = {}
    if connected and not isinstance(error, Error):
        if _too_often(run):
            return failing(run, error)
        columns["outages"] = run.outages
    wait = _pause(run)
    settle = Settle(RETRYING, reason=f"{type(error).__name__} around the body: tried again", blocked=(wait,))
    return Change(run.id, run.epoch, opens=[wait], columns=columns, settle=settle)


def failing(run: ClaimedRun, error: BaseException) -> Change:
    """The end of a run whose activation has come apart: nothing is known of it but what its claim has found."""
    settle = failed(error)
    settle.timers = True
    return Change(run.id, run.epoch, settle=settle)


def _too_often(run: ClaimedRun) -> bool:
    """Count one more hand-back in a row without a new record; True if there have been all that there may be."""
    if run.outages >= settings().max_recoveries:
        return True
    run.outages += 1
    return False


def _pause(run: ClaimedRun) -> Wait:
    delay = doubled(_OUTAGE_FIRST, _OUTAGE_MOST, run.outages)
    return Wait("", Kind.OUTAGE, later(clock.now(), delay))
