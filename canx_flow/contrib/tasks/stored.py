"""The result of a task that was stored, read from its run and the record of its step."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from ...client import named
from ...core import codec
from ...exceptions import RunCancelled, RunFailed, StepFailed, class_path
from ...models import StepRecord, Timer, WorkflowRun
from ...states import CANCELLED, COMPLETED, FAILED, SLEEPING, Kind, RecordState
from . import catalogue, results
from .compat import TaskError, TaskResultStatus

_ENDS = {
    COMPLETED: TaskResultStatus.SUCCESSFUL,
    FAILED: TaskResultStatus.FAILED,
    CANCELLED: TaskResultStatus.FAILED,
}


def of_id(result_id: UUID | str) -> Any:
    """Return the result of this id. RunNotFound if it is no task's run, ImportError if the task's code is gone."""
    return _of_run(_run(result_id))


def with_error(run_id: UUID) -> tuple[Any, RunFailed | RunCancelled | None]:
    """Return the same, with what `Workflow.result` would raise for this run."""
    run = _run(run_id)
    error: RunFailed | RunCancelled | None = None
    if run.state == FAILED:
        error = RunFailed(run.id, codec.loads_plain(run.error) if run.error else None)
    elif run.state == CANCELLED:
        error = _cancelled(run)
    return _of_run(run), error


def _run(run_id: UUID | str) -> WorkflowRun:
    run = named.get(run_id, None)
    if not run.workflow.startswith(catalogue.PREFIX):
        raise named.not_found(run_id, "a task")
    return run


def _of_run(run: WorkflowRun) -> Any:
    args, kwargs = codec.loads(run.arguments)
    result = results.made(
        _task(run), run.id, _status(run), args, kwargs, enqueued_at=run.created_at, started_at=run.started_at,
        finished_at=run.finished_at, **_attempts(run, _record(run)),
    )  # fmt: skip
    if run.state == COMPLETED and run.result is not None:
        object.__setattr__(result, "_return_value", codec.loads(run.result))
    return result


def _task(run: WorkflowRun) -> Any:
    """Return the task as it was enqueued; of one that has begun, when it was to begin is not known any more."""
    delayed = run.state == SLEEPING and not run.epoch
    timers = Timer.objects.using(run._state.db).filter(run_id=run.id, kind=Kind.START)
    return catalogue.as_enqueued(
        catalogue.find(run.workflow), run.attributes, priority=run.priority, queue_name=run.queue,
        run_after=timers.values_list("due_at", flat=True).first() if delayed else None,
    )  # fmt: skip


def _status(run: WorkflowRun) -> Any:
    """Return which of Django's four a state is: whatever is neither over nor in a worker's hands is ready."""
    going = TaskResultStatus.READY if run.owner_id is None else TaskResultStatus.RUNNING
    return _ENDS.get(run.state, going)


def _record(run: WorkflowRun) -> StepRecord | None:
    if not run.epoch:
        return None  # Never claimed.
    return StepRecord.objects.using(run._state.db).filter(run_id=run.id, kind=Kind.STEP).first()


def _attempts(run: WorkflowRun, record: StepRecord | None) -> dict[str, Any]:
    """Return what is known of each attempt, the one under way included: its error, its worker, when the last began."""
    failures = results.failures_of(record.errors if record is not None else None)
    failed = 0 if record is None else record.attempts - (record.state == RecordState.COMPLETED)
    workers, began = results.workers_of(failures, failed), failures[-1].get("began") if failures else None
    if record is not None and record.state == RecordState.COMPLETED and record.result is not None:
        success = codec.loads(record.result)
        workers.append(success[results.WORKER])
        began = success[results.BEGAN]
    elif run.owner is not None:
        workers.append(f"{run.owner.host}:{run.owner.pid}")
    return {
        "errors": [*map(results.error_of, failures), *_end(run)],
        "worker_ids": workers,
        "last_attempted_at": run.started_at if began is None else datetime.fromisoformat(began),
    }


def _end(run: WorkflowRun) -> list[Any]:
    """Return what has ended the run, unless that is the failure of its step: a cancel, or its deadline."""
    if run.state == CANCELLED:
        path = class_path(RunCancelled)
        return [TaskError(exception_class_path=path, traceback=f"{path}: {_cancelled(run)}\n")]
    if run.state == FAILED and run.error and run.reason != StepFailed.__name__:
        return [results.error_of(codec.loads_plain(run.error))]
    return []


def _cancelled(run: WorkflowRun) -> RunCancelled:
    return RunCancelled(run.id, run.control_reason or run.reason)
