"""What the world is told of a run, after the commit: signals, and the lines on `canx_flow.run`.

Called by drivers and the executor, and for what happens to runs that nobody has by the worker's chores and the
inline driver. Nothing is built when nobody listens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from .. import codec, current, logs, registry, signals
from ..exceptions import summary
from ..models import WorkflowRun
from ..states import CANCELLED, COMPLETED, FAILED, PARKED, SUSPENDED, Kind, RecordState
from .connections import Transactions

if TYPE_CHECKING:
    from django.dispatch import Signal

    from ..changes import Change, ClaimedRun, Settle
    from ..store.parking import Parked
    from .activation import Activation

logger = logs.logger("canx_flow.run")

_ENDS = {
    COMPLETED: signals.run_completed,
    FAILED: signals.run_failed,
    CANCELLED: signals.run_cancelled,
}
_TOO_LATE = "it had not ended at its deadline"


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
    """Records of steps that are over have been stored."""
    if not steps_listened_to():
        return
    for record in (*change.inserts, *change.updates):
        if record.kind == Kind.STEP and record.state == RecordState.COMPLETED:
            _tell(signals.step_completed, activation.run, step=record.name, attempt=record.attempts)
        elif record.kind == Kind.STEP and record.errors is not None and record.state != RecordState.STARTED:
            error = codec.loads_plain(record.errors)[-1]
            _tell(signals.step_failed, activation.run, step=record.name, attempt=record.attempts, error=error)


def settled(run: ClaimedRun, state: str, settle: Settle) -> None:
    """The run was left in this state."""
    if state == FAILED:
        error = settle.error or run.error
        why = summary(codec.loads_plain(error)) if error else _TOO_LATE
        logger.error("Run %s of %s failed: %s", run.id, run.workflow, why, extra=_extra(run))
    elif state == PARKED:
        _report_parked(run, settle.reason, again=settle.reason == run.reason)
    if state in SUSPENDED:
        _tell(signals.run_suspended, run, state=state)
    elif state == PARKED:
        _tell(signals.run_parked, run, reason=settle.reason)
    elif state in _ENDS:
        _tell(_ENDS[state], run)


def timed_out(alias: str, run_ids: Sequence[UUID], there: Callable[[Task], object] = here) -> None:
    """These runs have failed at their deadline, while nobody had them. Receivers are called by `there`."""
    for run in _runs(alias, run_ids):
        logger.error("Run %s of %s failed: %s", run.id, run.workflow, _TOO_LATE, extra=_extra(run))
        if signals.run_failed.receivers:
            there(partial(_tell, signals.run_failed, run))


def parked_unknown(alias: str, parked: Sequence[Parked], there: Callable[[Task], object] = here) -> None:
    """These runs are parked because no worker knows their workflow. Receivers are called by `there`."""
    again = {run.id for run in parked if run.again}
    for run in _runs(alias, [run.id for run in parked]):
        _report_parked(run, run.reason, again=run.id in again)
        if signals.run_parked.receivers:
            there(partial(_tell, signals.run_parked, run, reason=run.reason))


def _report_parked(run: ClaimedRun | WorkflowRun, reason: str, *, again: bool) -> None:
    """An error, unless it was one before: it was looked at, and nothing has changed."""
    level, how = (logging.INFO, "still parked") if again else (logging.ERROR, "parked")
    logger.log(level, "Run %s of %s is %s: %s", run.id, run.workflow, how, reason, extra=_extra(run))


def refused(run: ClaimedRun, change: Change) -> None:
    """A write came too late: the run has another owner, or has ended."""
    names = ", ".join(record.name for record in (*change.inserts, *change.updates)) or "the end of an activation"
    became = "whether it is stored is not known, its answer was lost" if change.unclear else "not stored"
    logger.warning(
        "Write refused: run %s of %s is no longer ours (epoch %s); %s: %s",
        run.id, run.workflow, run.epoch, became, names, extra=_extra(run),
    )  # fmt: skip


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
        logger.error("A receiver of a signal has left a transaction open on %r: it is rolled back", alias)


def _runs(alias: str, run_ids: Sequence[UUID]) -> Iterable[WorkflowRun]:
    if not run_ids:  # Mostly: and then the ORM need not find that out.
        return ()
    runs = WorkflowRun.objects.using(alias).filter(id__in=run_ids)
    return runs.only("id", "workflow", "version", "queue", "reason")


def _extra(run: ClaimedRun | WorkflowRun) -> dict[str, Any]:
    return {"run_id": str(run.id), "workflow": run.workflow, "queue": run.queue}
