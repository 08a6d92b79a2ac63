"""Django's `TaskResult`, made of what is known of a task's run; needs no models. For the caller and the task itself."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from ...core import clock, codec
from ...core.changes import Record
from ...exceptions import StoredError
from .compat import TaskError, TaskResult, TaskResultStatus, normalize_json

#: What a step's result holds: what the task has returned, which worker has called it, and when.
RETURNED, WORKER, BEGAN = "return_value", "worker", "began"
#: The line by which a traceback tells which worker has called the task; within a group, behind its bars.
_SIGNED = re.compile(r"^[ |]*\[worker (.+)\]\n", re.MULTILINE)
#: The worker of an attempt that none has signed: its value could not be stored, the run was cut off, or its error was
#: not kept.
UNKNOWN = "unknown"


def plain(value: Any) -> Any:
    """Return a value as JSON keeps it, as Django's own backends do; TypeError or ValueError for any other."""
    return json.loads(json.dumps(normalize_json(value), allow_nan=False))


def worker_id() -> str:
    """Return what this worker is called in results: its machine and its process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def sign(error: BaseException) -> None:
    """Have the traceback of an attempt tell which worker has made it: nothing else that is stored of it does."""
    note = f"[worker {worker_id()}]"
    with suppress(Exception):  # An exception may do anything with what is asked of it.
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)


def enqueued(task: Any, run_id: UUID, args: list[Any], kwargs: dict[str, Any], at: datetime) -> Any:
    """Return the result of a task that was just enqueued."""
    return made(task, run_id, TaskResultStatus.READY, args, kwargs, enqueued_at=at)


def running(
    task: Any, run_id: UUID, args: list[Any], kwargs: dict[str, Any], *, at: Sequence[datetime], record: Record | None
) -> Any:
    """Return the result of a task whose next attempt begins here. `at`: when it was enqueued, first begun, begun now.

    `record`: that of its step, if it has one.
    """
    enqueued_at, first, now = at
    failures, failed = ([], 0) if record is None else (failures_of(record.errors), record.attempts)
    return made(
        task, run_id, TaskResultStatus.RUNNING, args, kwargs, enqueued_at=enqueued_at, started_at=first,
        last_attempted_at=now, errors=[error_of(failure) for failure in failures],
        worker_ids=[*workers_of(failures, failed), worker_id()],
    )  # fmt: skip


def succeeded(result: Any, stored: dict[str, Any]) -> Any:
    """Have the result of an attempt tell that it has returned what its step stores."""
    values = {"status": TaskResultStatus.SUCCESSFUL, "finished_at": clock.now(), "_return_value": stored[RETURNED]}
    for name, value in values.items():
        object.__setattr__(result, name, value)
    return result


def made(task: Any, run_id: UUID, status: Any, args: list[Any], kwargs: dict[str, Any], **more: Any) -> Any:
    """Return a result of which only `more` is known beside these."""
    blank: dict[str, Any] = {
        "started_at": None,
        "last_attempted_at": None,
        "finished_at": None,
        "errors": [],
        "worker_ids": [],
    }
    return TaskResult(
        task=task, id=str(run_id), status=status, args=args, kwargs=kwargs, backend=task.backend, **{**blank, **more}
    )


def failures_of(errors: str | None) -> list[StoredError]:
    """Return the failed attempts of a step, the oldest first, as its record has stored them."""
    failures: list[StoredError] = codec.loads_plain(errors) if errors else []
    return failures


def workers_of(failures: list[StoredError], failed: int) -> list[str]:
    """Return which worker has made each failed attempt, of which there are `failed`: not all failures are kept."""
    signed = [_SIGNED.findall(failure["traceback"]) or [UNKNOWN] for failure in failures]
    return [UNKNOWN] * (failed - len(failures)) + [names[-1] for names in signed]


def error_of(failure: StoredError) -> Any:
    """Return a failure as Django knows it."""
    return TaskError(exception_class_path=failure["type"], traceback=_SIGNED.sub("", failure["traceback"]))
