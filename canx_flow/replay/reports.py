"""What the world is told of a run, after the commit: signals, and the lines on `canx_flow.run`.

Called by drivers and the executor. Nothing is built when nobody listens.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from .. import codec, registry, signals
from ..exceptions import summary
from ..states import CANCELLED, COMPLETED, FAILED, PARKED, SUSPENDED, Kind, RecordState

if TYPE_CHECKING:
    from django.dispatch import Signal

    from ..changes import Change, ClaimedRun, Settle
    from .activation import Activation

logger = logging.getLogger("canx_flow.run")

_ENDS = {
    COMPLETED: signals.run_completed,
    FAILED: signals.run_failed,
    CANCELLED: signals.run_cancelled,
    PARKED: signals.run_parked,
}


def activated(run: ClaimedRun) -> None:
    """The first activation of a run starts it, every later one resumes it."""
    tell(signals.run_started if run.fresh else signals.run_resumed, run)


def stored(activation: Activation, change: Change) -> None:
    """Records of steps that are over have been stored."""
    if not (signals.step_completed.receivers or signals.step_failed.receivers):
        return
    for record in (*change.inserts, *change.updates):
        if record.kind == Kind.STEP and record.state == RecordState.COMPLETED:
            tell(signals.step_completed, activation.run, step=record.name, attempt=record.attempts)
        elif record.kind == Kind.STEP and record.errors is not None and record.state != RecordState.STARTED:
            error = codec.loads_plain(record.errors)[-1]
            tell(signals.step_failed, activation.run, step=record.name, attempt=record.attempts, error=error)


def settled(run: ClaimedRun, state: str, settle: Settle) -> None:
    """The run was left in this state."""
    if state == FAILED:
        error = codec.loads_plain(settle.error or run.error or "{}")
        logger.error("Run %s of %s failed: %s", run.id, run.workflow, summary(error), extra=_extra(run))
    elif state == PARKED:
        logger.error("Run %s of %s is parked: %s", run.id, run.workflow, settle.reason, extra=_extra(run))
    if state in SUSPENDED:
        tell(signals.run_suspended, run, state=state)
    elif state in _ENDS:
        tell(_ENDS[state], run)


def refused(run: ClaimedRun, change: Change) -> None:
    """A write came too late: the run has another owner, or has ended."""
    names = ", ".join(record.name for record in (*change.inserts, *change.updates)) or "the end of an activation"
    logger.warning(
        "Write refused: run %s of %s is no longer ours (epoch %s); not stored: %s",
        run.id, run.workflow, run.epoch, names, extra=_extra(run),
    )  # fmt: skip


def tell(signal: Signal, run: Any, **kwargs: Any) -> None:
    """Send a signal about a run; the sender is its Workflow, if this process knows it."""
    if signal.receivers:
        sender = registry.get(run.workflow, run.version)
        signals.announce(signal, sender, run_id=run.id, workflow=run.workflow, **kwargs)


def _extra(run: ClaimedRun) -> dict[str, Any]:
    return {"run_id": str(run.id), "workflow": run.workflow, "queue": run.queue}
