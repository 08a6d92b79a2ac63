"""What the world is told of a run, after the commit: signals, and the lines on `canx_flow.run`, which `lines` writes.

Called by drivers and the executor, and for what happens to runs that nobody has by the worker's chores and the
inline driver. Nothing is built when nobody listens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from .. import signals
from ..core import codec, current, registry
from ..models import WorkflowRun
from ..states import CANCELLED, COMPLETED, FAILED, PARKED, SUSPENDED, Kind, RecordState
from . import lines
from .connections import Transactions

if TYPE_CHECKING:
    from django.dispatch import Signal

    from ..core.changes import Change, ClaimedRun, Settle
    from ..store.parking import Parked
    from .activation import Activation

#: What a record says whose last attempt has failed; no other change of it tells of one.
_FAILED = (RecordState.OPEN, RecordState.FAILED)
_ENDS = {
    COMPLETED: signals.run_completed,
    FAILED: signals.run_failed,
    CANCELLED: signals.run_cancelled,
}


Task = Callable[[], object]


def here(task: Task) -> None:
    """Call receivers in this very thread."""
    task()


def listened_to() -> bool:
    """Whether anything has a receiver: an event loop need not leave for a thread to tell nobody."""
    return any(signal.receivers for signal in signals.ALL)


def steps_listened_to() -> bool:
    """The same for what is told of each step."""
    return bool(signals.step_completed.receivers or signals.step_failed.receivers)


def activated(run: ClaimedRun) -> None:
    """The first activation of a run starts it, every later one resumes it."""
    _tell(signals.run_started if run.fresh else signals.run_resumed, run)


def stored(activation: Activation, change: Change) -> None:
    """Records of steps that are over, or attempts that have failed, have been stored."""
    for attempt in change.failed:
        lines.attempt_failed(activation.run, attempt)
    if not steps_listened_to():
        return
    for record in (*change.inserts, *change.updates):
        if record.kind == Kind.STEP and record.state == RecordState.COMPLETED:
            _tell(signals.step_completed, activation.run, step=record.name, attempt=record.attempts)
        elif record.kind == Kind.STEP and record.errors is not None and record.state in _FAILED:
            error = codec.loads_plain(record.errors)[-1]
            _tell(signals.step_failed, activation.run, step=record.name, attempt=record.attempts, error=error)


def settled(run: ClaimedRun, state: str, settle: Settle) -> None:
    """The run was left in this state."""
    if state == FAILED:
        lines.run_failed(run, settle.error or run.error, settle.raised)
    elif state == PARKED:
        lines.run_parked(run, settle.reason, settle.raised, again=settle.reason == run.reason)
    settle.raised = None
    if state in SUSPENDED:
        _tell(signals.run_suspended, run, state=state)
    elif state == PARKED:
        _tell(signals.run_parked, run, reason=settle.reason)
    elif state in _ENDS:
        _tell(_ENDS[state], run)


def timed_out(alias: str, run_ids: Sequence[UUID], there: Callable[[Task], object] = here) -> None:
    """These runs have failed at their deadline, while nobody had them. Receivers are called by `there`."""
    for run in _runs(alias, run_ids):
        lines.run_failed(run, None, None)
        if signals.run_failed.receivers:
            there(partial(_tell, signals.run_failed, run))


def parked_unknown(alias: str, parked: Sequence[Parked], there: Callable[[Task], object] = here) -> None:
    """These runs are parked because no worker knows their workflow. Receivers are called by `there`."""
    again = {run.id for run in parked if run.again}
    for run in _runs(alias, [run.id for run in parked]):
        lines.run_parked(run, run.reason, None, again=run.id in again)
        if signals.run_parked.receivers:
            there(partial(_tell, signals.run_parked, run, reason=run.reason))


def refused(run: ClaimedRun, change: Change) -> None:
    """A write came too late: the run has another owner, or has ended."""
    lines.write_refused(run, change)


def _tell(signal: Signal, run: ClaimedRun | WorkflowRun, **kwargs: Any) -> None:
    """Send a signal about a run; the sender is its Workflow, if this process knows it."""
    if signal.receivers:
        sender = registry.get(run.workflow, run.version)
        # A copy: what a receiver sets in its context is neither the body's nor a step's.
        copy_context().run(_announce, signal, sender, run_id=run.id, workflow=run.workflow, **kwargs)


def _announce(signal: Signal, sender: Any, **kwargs: Any) -> None:
    transactions = Transactions()
    with current.outside():  # A receiver may ask about the run, which its body may not.
        signals.announce(signal, sender, **kwargs)
    alias = transactions.changed()
    if alias is not None:
        transactions.restore()
        lines.left_open(alias)


def _runs(alias: str, run_ids: Sequence[UUID]) -> Iterable[WorkflowRun]:
    if not run_ids:  # Mostly: and then the ORM need not find that out.
        return ()
    runs = WorkflowRun.objects.using(alias).filter(id__in=run_ids)
    return runs.only("id", "workflow", "version", "queue", "reason")
