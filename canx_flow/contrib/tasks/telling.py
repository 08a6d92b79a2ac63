"""Django's signal `task_finished`, from the signals of runs: sent after the end is stored, at most once."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from ... import signals
from ...exceptions import CanxFlowError, RunNotFound
from . import catalogue
from .compat import task_backends, task_finished


def connect() -> None:
    """Have the ends of tasks told; however often this is called."""
    for signal in (signals.run_completed, signals.run_failed, signals.run_cancelled):
        signal.connect(_ended, dispatch_uid="canx_flow.contrib.tasks")


def _ended(*, run_id: UUID, workflow: str, **_more: Any) -> None:
    """Tell that a task has ended, unless it goes on again already."""
    if not workflow.startswith(catalogue.PREFIX):
        return
    from . import stored  # Which needs models: backends are made before there are any.

    try:
        result, error = stored.with_error(run_id)
    except (RunNotFound, ImportError):  # Pruned, or its code is gone: there is no result to send.
        return
    if not result.is_finished:
        return
    send = partial(task_finished.send_robust, type(task_backends[result.backend]), task_result=result)
    if error is None:
        send()
        return
    try:
        raise error
    except CanxFlowError:  # Receivers of Django's, its log first of all, ask for what is being handled.
        send()
