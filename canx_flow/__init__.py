"""canx_flow: durable workflows for Django.

Importing it needs no configured settings; `send_event` and `get_run` do when they are called.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from .core.codec import register_type
from .core.current import current_step, in_step
from .declaring import workflow
from .exceptions import (
    AlreadyStarted,
    ArgumentsMismatch,
    CanxFlowError,
    DuplicateWorkflow,
    GiveUp,
    HistoryMismatch,
    InsideTransaction,
    InvalidState,
    MapFailed,
    NotAwaited,
    NotDecodable,
    NotInStep,
    NotSerializable,
    OutsideStep,
    PayloadTooLarge,
    RetryAfter,
    RunCancelled,
    RunFailed,
    RunNotFound,
    RunTimedOut,
    ScheduleNotFound,
    StepFailed,
    StepInterrupted,
    StepTimeout,
    TaskLost,
    TooManyRecoveries,
    UnknownWorkflow,
    WaitTimeout,
    WrongContext,
)
from .replay.context import AsyncContext, Context
from .retry import Retry
from .schedules import schedule
from .status import RunStatus

__all__ = [
    "AlreadyStarted",
    "ArgumentsMismatch",
    "AsyncContext",
    "CanxFlowError",
    "Context",
    "DuplicateWorkflow",
    "GiveUp",
    "HistoryMismatch",
    "InsideTransaction",
    "InvalidState",
    "MapFailed",
    "NotAwaited",
    "NotDecodable",
    "NotInStep",
    "NotSerializable",
    "OutsideStep",
    "PayloadTooLarge",
    "Retry",
    "RetryAfter",
    "RunCancelled",
    "RunFailed",
    "RunNotFound",
    "RunTimedOut",
    "ScheduleNotFound",
    "StepFailed",
    "StepInterrupted",
    "StepTimeout",
    "TaskLost",
    "TooManyRecoveries",
    "UnknownWorkflow",
    "WaitTimeout",
    "WrongContext",
    "current_step",
    "get_run",
    "in_step",
    "register_type",
    "schedule",
    "send_event",
    "workflow",
]


def send_event(event: str, payload: Any = None, *, key: str | None = None, dedup_id: str | None = None) -> bool:
    """Broadcast an event: to every run that waits for it now, and to every run started before that waits for it later.

    Returns `True` if it was stored, `False` if this event and key have seen that `dedup_id` in the last `EVENT_DAYS`.
    `key` narrows it to waits with exactly this key; `None` reaches only waits without one. Delivered by workers after
    the caller's transaction has committed. Inside a step `dedup_id` defaults to one of the step's own, so that a
    repeated step does not send twice.

    ValueError or TypeError for an ill-formed event, key or dedup_id; NotSerializable or PayloadTooLarge for the
    payload; OutsideStep in the body of a workflow. Its twin is `canx_flow.client.asend_event`.
    """
    from . import client

    return client.send_event(event, payload, key=key, dedup_id=dedup_id)


def get_run(run_id: UUID | str) -> RunStatus:
    """Return where any run stands now, whatever its workflow. Its twin is `canx_flow.client.aget_run`.

    RunNotFound for an unknown id and for text that is no UUID; OutsideStep in the body of a workflow.
    """
    from . import client

    return client.get_run(run_id)
