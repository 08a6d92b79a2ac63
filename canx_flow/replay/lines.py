"""The lines on `canx_flow.run`: attempts that failed, runs that failed or are parked, writes that were refused.

Called by `reports`, after the commit. What reports errors to people groups lines by their text as it was before its
arguments were put in: it names the workflow and the error's type, and the arguments say which run, and what it said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils import timezone

from ..core import clock, codec
from ..core.failures import steps_of
from ..exceptions import RunTimedOut, StepFailed, StepInterrupted, UnknownWorkflow, class_path
from ..observe import logs

if TYPE_CHECKING:
    from ..core.changes import Change, ClaimedRun, FailedAttempt
    from ..exceptions import StoredError
    from ..models import WorkflowRun

logger = logs.logger("canx_flow.run")

_TOO_LATE = "it had not ended at its deadline"


def attempt_failed(run: ClaimedRun, failed: FailedAttempt) -> None:
    """One line for each: which attempt of how many it was, why it failed, and when the next one comes."""
    extra = {**_extra(run, failed.step), "attempt": failed.attempt}
    most = "∞" if failed.most is None else failed.most
    text, message = _of(failed.error)
    what = "Run %s of {}: step %r failed, attempt %s of %s: "
    known = (run.id, failed.step, failed.attempt, most, *message)
    if failed.due_at is None:
        line = logs.template(what, [run.workflow]) + text + "; gives up"
        logger.warning(line, *known, extra=extra)
        return
    after = max((failed.due_at - clock.now()).total_seconds(), 0)
    moment = timezone.localtime(failed.due_at).strftime("%Y-%m-%d %H:%M:%S %Z")
    line = logs.template(what, [run.workflow]) + text + "; next try in %.4g s, at %s"
    logger.warning(line, *known, after, moment, extra=extra)


def run_failed(run: ClaimedRun | WorkflowRun, stored: str | None, raised: BaseException | None) -> None:
    """An error, with the exception where it was raised in this process. `stored`: what the run keeps of it."""
    what = logs.template("Run %s of {} failed: ", [run.workflow])
    if stored is None:
        late = logs.exc_info(RunTimedOut(_TOO_LATE))
        line = what + _TOO_LATE
        logger.error(line, run.id, extra=_extra(run), exc_info=late)
        return
    error = codec.loads_plain(stored)
    text, message = _of_step(raised) or _of(error)
    steps = steps_of(error)
    extra = _extra(run, steps[0] if steps else None)
    if isinstance(raised, StepFailed):
        if raised.__cause__ is not None and raised.__cause__.__traceback__ is not None:
            raised = raised.__cause__  # What the step has raised says more than that it has.
        elif raised.errors:
            extra["traceback"] = raised.errors[-1].get("traceback", "")
    line = what + text
    logger.error(line, run.id, *message, extra=extra, exc_info=logs.exc_info(raised))


def run_parked(run: ClaimedRun | WorkflowRun, reason: str, raised: BaseException | None, *, again: bool) -> None:
    """An error, unless it was one before: it was looked at, and nothing has changed."""
    kind, _, why = reason.partition(": ")
    how = "still parked" if again else "parked"
    line = logs.template("Run %s of {} is {}: {}: %s", [run.workflow, how, kind])
    if again:
        logger.info(line, run.id, why, extra=_extra(run))
        return
    logger.error(line, run.id, why, extra=_extra(run), exc_info=logs.exc_info(raised or UnknownWorkflow(why)))


def write_refused(run: ClaimedRun, change: Change) -> None:
    """A warning: the run has another owner, or has ended."""
    names = ", ".join(record.name for record in (*change.inserts, *change.updates)) or "the end of an activation"
    became = "whether it is stored is not known, its answer was lost" if change.unclear else "not stored"
    logger.warning(
        "Write refused: run %s of %s is no longer ours (epoch %s); %s: %s",
        run.id, run.workflow, run.epoch, became, names, extra=_extra(run),
    )  # fmt: skip


def left_open(alias: str) -> None:
    """An error of a signal's receiver: its transaction is rolled back."""
    logger.error("A receiver of a signal has left a transaction open on %r: it is rolled back", alias)


def _of(error: StoredError) -> tuple[str, tuple[str, ...]]:
    """The part of a line that says what failed, and its arguments."""
    kind = str(error.get("type", "")).removeprefix("builtins.")
    message = logs.brief(str(error.get("message", "")))
    return (logs.template("{}: %s", [kind]), (message,)) if message else (logs.template("{}", [kind]), ())


def _of_step(raised: BaseException | None) -> tuple[str, tuple[Any, ...]] | None:
    """The same of the failure of a step: it is of the type that its last attempt has failed with."""
    if not isinstance(raised, StepFailed) or isinstance(raised, StepInterrupted) or not raised.errors:
        return None
    text, message = _of(raised.errors[-1])
    attempts = "attempt" if raised.attempts == 1 else "attempts"
    said = logs.template("{}: step %r failed after %d {}: ", [class_path(type(raised)), attempts])
    return said + text, (raised.step, raised.attempts, *message)


def _extra(run: ClaimedRun | WorkflowRun, step: str | None = None) -> dict[str, Any]:
    return {"run_id": str(run.id), "workflow": run.workflow, "queue": run.queue, "step": step}
