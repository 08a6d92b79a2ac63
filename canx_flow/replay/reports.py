"""What drivers and the executor announce of a run, after the commit: which fact a stored change is.

Called as well by the worker's chores and the inline driver, for what happens to runs that no worker owns. For the
facts of every run and step nothing is built unless a receiver wants it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from ..core import codec, current
from ..exceptions import RunTimedOut, class_path
from ..models import WorkflowRun
from ..observe import announce, facts, here, wants, wants_any
from ..states import CANCELLED, COMPLETED, FAILED, PARKED, PENDING, SUSPENDED, Kind, RecordState
from .connections import Transactions

if TYPE_CHECKING:
    from ..core.changes import Change, FailedAttempt, Settle
    from ..core.claimed import ClaimedRun
    from ..store.parking import Parked

Task = Callable[[], object]

#: What the project hears of runs and steps through signals.
_HEARD = (
    facts.RunStarted, facts.RunResumed, facts.RunSuspended, facts.RunCompleted, facts.RunCancelled, facts.StepCompleted,
)  # fmt: skip
_TIMED_OUT = class_path(RunTimedOut)
_ENDS = {COMPLETED: facts.RunCompleted, CANCELLED: facts.RunCancelled}
_LEFT = {**_ENDS, **dict.fromkeys(SUSPENDED, facts.RunSuspended)}


def listened_to() -> bool:
    """Return whether a receiver wants what becomes of any run; of failed and parked ones the log always does."""
    return wants_any(_HEARD)


def is_told(settle: Settle, state: str) -> bool:
    """Return whether it is told of that a run was left in this state: of some ends the log alone tells."""
    if state in (FAILED, PARKED) or (settle.generation is not None and wants(facts.RunContinued)):
        return True
    kind = _LEFT.get(state)
    return steps_listened_to() or (kind is not None and wants(kind))


#: Whether a receiver wants to know of each step.
steps_listened_to = partial(wants, facts.StepCompleted)


def activated(run: ClaimedRun) -> None:
    """Announce that the run was claimed. Its first activation starts it, every later one resumes it."""
    kind = facts.RunStarted if run.fresh else facts.RunResumed
    if wants(kind):
        announce(kind(facts.RunRef.of(run)), _guarded)


def stored(run: ClaimedRun, change: Change) -> None:
    """Announce the attempts that have failed, and the steps that are over, now that they are stored."""
    for attempt in change.failed:
        announce(_attempt_failed(run, attempt), _guarded)
    if not steps_listened_to():
        return
    for record in (*change.inserts, *change.updates):
        if record.kind in (Kind.STEP, Kind.UNDO) and record.state == RecordState.COMPLETED:
            announce(facts.StepCompleted(facts.RunRef.of(run), record.name, record.attempts), _guarded)


def settled(run: ClaimedRun, state: str, settle: Settle) -> None:
    """Announce in which state the run was left."""
    raised, settle.raised = settle.raised, None  # Its traceback holds frames: it goes once it is told.
    if state == FAILED:
        announce(_failed(run, settle.error or run.standing.error, raised), _guarded)
    elif state == PARKED:
        kind = facts.RunStillParked if settle.reason == run.standing.reason else facts.RunParked
        announce(kind(facts.RunRef.of(run), settle.reason, raised), _guarded)
    elif state in SUSPENDED:
        if wants(facts.RunSuspended):
            announce(facts.RunSuspended(facts.RunRef.of(run), state), _guarded)
    elif settle.generation is not None and state == PENDING:
        if wants(facts.RunContinued):
            announce(facts.RunContinued(facts.RunRef.of(run), run.generation + 1), _guarded)
    elif state in _ENDS and wants(_ENDS[state]):
        announce(_ENDS[state](facts.RunRef.of(run)), _guarded)


def timed_out(alias: str, run_ids: Sequence[UUID], there: Callable[[Task], object] = here) -> None:
    """Announce runs that have failed at their deadline while no worker owned them. `there` calls receivers."""
    for run in _runs(alias, run_ids):
        announce(facts.RunTimedOut(facts.RunRef.of(run)), _guarded_there(there))


def cancelled(alias: str, run_ids: Sequence[UUID], there: Callable[[Task], object] = here) -> None:
    """Announce runs that are cancelled because their parents were stopped. `there` calls receivers."""
    for run in _runs(alias, run_ids) if wants(facts.RunCancelled) else ():
        announce(facts.RunCancelled(facts.RunRef.of(run)), _guarded_there(there))


def parked_unknown(alias: str, parked: Sequence[Parked], there: Callable[[Task], object] = here) -> None:
    """Announce runs that are parked because no worker knows their workflow. `there` calls receivers."""
    again = {run.id for run in parked if run.again}
    for run in _runs(alias, [run.id for run in parked]):
        kind = facts.RunStillParked if run.id in again else facts.RunParked
        announce(kind(facts.RunRef.of(run), run.reason), _guarded_there(there))


def refused(run: ClaimedRun, change: Change) -> None:
    """Announce a write that came too late: the run has another owner, or has ended."""
    names = tuple(record.name for record in (*change.inserts, *change.updates))
    announce(facts.WriteRefused(facts.RunRef.of(run), run.epoch, names, change.unclear))


def _attempt_failed(run: ClaimedRun, failed: FailedAttempt) -> facts.AttemptFailed:
    return facts.AttemptFailed(
        facts.RunRef.of(run), failed.step, failed.attempt, failed.most, failed.error, failed.due_at
    )


def _failed(run: ClaimedRun, stored: str | None, raised: BaseException | None) -> facts.RunFailed | facts.RunTimedOut:
    ref = facts.RunRef.of(run)
    error = None if stored is None else codec.loads_plain(stored)
    # At its deadline it was decided by whoever fired that timer.
    if error is None or (raised is None and error["type"] == _TIMED_OUT):
        return facts.RunTimedOut(ref)
    return facts.RunFailed(ref, error, raised)


def _guarded(task: Task) -> None:
    """Call receivers in a copy of the context: what they set in it is neither the body's nor a step's."""
    copy_context().run(_call_outside, task)


def _guarded_there(there: Callable[[Task], object]) -> Callable[[Task], object]:
    return lambda task: there(partial(_guarded, task))


def _call_outside(task: Task) -> None:
    """Call receivers as code outside of any run, and roll back what they leave open."""
    transactions = Transactions()
    with current.outside():  # A receiver may ask about the run, which its body may not.
        task()
    alias = transactions.changed()
    if alias is not None:
        transactions.restore()
        announce(facts.ReceiverLeftTransaction(alias))


def _runs(alias: str, run_ids: Sequence[UUID]) -> Iterable[WorkflowRun]:
    if not run_ids:  # Mostly: and then the ORM need not find that out.
        return ()
    runs = WorkflowRun.objects.using(alias).filter(id__in=run_ids)
    return runs.only("id", "workflow", "version", "queue", "reason")
