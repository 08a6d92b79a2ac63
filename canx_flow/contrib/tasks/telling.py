"""Django's signal `task_finished`: sent after the end of the run is stored, at most once, to those who listen.

Where only Django's own log does, the worker tells it of a success right away: an engine that tells of every run after
its commit does a fifth of what it can.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from ... import signals
from ...exceptions import CanxFlowError, RunNotFound
from . import catalogue
from .compat import task_backends, task_finished

#: Receivers that Django itself has connected: its log.
_DJANGO_S = 1
_UID = "canx_flow.contrib.tasks"


def connect() -> None:
    """Have the failures of tasks told; however often this is called. The engine tells of those in any case."""
    signals.run_failed.connect(_ended, dispatch_uid=_UID)


def listen() -> bool:
    """Return whether the project listens to the ends of tasks; if so, have the engine tell of them all."""
    listens = len(task_finished.receivers) > _DJANGO_S
    for signal in (signals.run_completed, signals.run_cancelled):
        if listens:
            signal.connect(_ended, dispatch_uid=_UID)
        elif signal.receivers:
            signal.disconnect(dispatch_uid=_UID)
    return listens


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
