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
UID = "canx_flow.contrib.tasks"


def connect() -> None:
    """Have failures and cancels of tasks told, which are rare; however often this is called."""
    for signal in (signals.run_failed, signals.run_cancelled):
        signal.connect(_ended, dispatch_uid=UID)


def listen() -> bool:
    """Return whether the project listens to the ends of tasks; if so, have the engine tell of successes, too."""
    listens = len(task_finished.receivers) > _DJANGO_S
    if listens:
        signals.run_completed.connect(_ended, dispatch_uid=UID)
    elif signals.run_completed.receivers:
        signals.run_completed.disconnect(dispatch_uid=UID)
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
