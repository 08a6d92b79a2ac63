"""How a run is left other than by its body's return: failed, continued, or handed back because of an outage.

Called by contexts, drivers, the executor and a worker's slots.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from django.db.utils import Error

from ..conf import get as settings
from ..core import clock, codec, registry
from ..core.backoff import doubled
from ..core.changes import Change, Generation, Settle, Suspension, Undo, Wait, Waits
from ..core.claimed import ClaimedRun
from ..core.durations import later
from ..core.failures import failure_of
from ..core.journal import Journal
from ..states import FAILED, PENDING, RETRYING, STOPPING, Kind
from ..store.db import errors
from .branch import Branch

_OUTAGE_FIRST, _OUTAGE_MOST = 0.5, 60.0  # seconds


def failed(error: BaseException, journal: Journal | None = None) -> Settle:
    """Return the end of a run that has failed with this error, which has left its body if the journal is given."""
    was_caught = journal.goes_on_after if journal is not None else None
    failure = codec.dumps_plain(failure_of(error, clock.now(), was_caught=was_caught))
    return Settle(FAILED, error=failure, reason=type(error).__name__, raised=error)


def continue_as_new(branch: Branch, arguments: tuple[Any, ...]) -> NoReturn:
    """Leave the run to be claimed anew with these arguments and an empty history; TypeError if they do not fit.

    The attributes as they are now are those that its next generation, and a fork or rerun of that, begin with.
    """
    run, attributes = branch.run, branch.activation.published.attributes
    workflow = registry.get(run.workflow, run.version)
    if workflow is not None and (misfit := workflow.misfit(arguments, {})):
        raise TypeError(misfit)
    text = codec.dumps([list(arguments), {}], f"the arguments of generation {run.generation + 1} of run {run.id}")
    code = workflow.fingerprint if workflow is not None else run.standing.fingerprint
    following = Generation(text, json.dumps(attributes) if attributes else None, code)
    branch.activation.leave("it goes on as a new generation", Settle(PENDING, generation=following))


def outage(branch: Branch, error: Exception, *, connected: bool) -> Settle:
    """Hand the run back for a while: the body met a database that was away, which is no failure of the run."""
    run = branch.run
    # Too few connections are no fault of the run that finds none: it goes on when others have given theirs back.
    if connected and not errors.is_crowded(error):
        if _too_often(run):
            return failed(error)
        branch.set_column("outages", run.standing.outages)
    wait = _pause(run)
    branch.open(wait)
    return Settle(RETRYING, reason=f"{type(error).__name__} in the body: tried again", suspension=Suspension((wait,)))


def broken(run: ClaimedRun, error: BaseException, *, connected: bool) -> Change:
    """Return how a run is left whose activation came apart outside the body, as for want of a thread: tried later.

    A database's error is no fault of the run's. Anything else counts as an outage in the body does, so that no defect
    repeats it for ever.
    """
    columns = {}
    # One that is stopping is not told to end otherwise: it is tried for ever, once a minute at last.
    if connected and not isinstance(error, Error) and run.state != STOPPING:
        if _too_often(run):
            return failing(run, error)
        columns["outages"] = run.standing.outages
    return _put_off(run, error, columns)


def _put_off(run: ClaimedRun, error: BaseException, columns: dict[str, Any]) -> Change:
    wait = _pause(run)
    reason = f"{type(error).__name__} around the body: tried again"
    settle = Settle(RETRYING, reason=reason, suspension=Suspension((wait,)), undo=Undo.LEFT)
    return Change(run.id, run.epoch, waits=Waits(opens=(wait,)), columns=columns, settle=settle)


def failing(run: ClaimedRun, error: BaseException) -> Change:
    """Return the end of a run whose activation has come apart: only what its claim has found is known of it."""
    if run.state == STOPPING:
        return _put_off(run, error, {})
    settle = failed(error)
    settle.timers, settle.undo, settle.parent = True, Undo.LEFT, run.standing.origin.parent_id
    settle.awaited = run.standing.origin.awaited
    return Change(run.id, run.epoch, settle=settle)


def _too_often(run: ClaimedRun) -> bool:
    """Count one more hand-back in a row without a new record; True if there have been all that there may be."""
    if run.standing.outages >= settings().max_recoveries:
        return True
    run.standing.outages += 1
    return False


def _pause(run: ClaimedRun) -> Wait:
    delay = doubled(_OUTAGE_FIRST, _OUTAGE_MOST, run.standing.outages)
    return Wait("", Kind.OUTAGE, later(clock.now(), delay))
