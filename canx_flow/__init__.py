"""canx_flow: durable workflows for Django.

Importing it needs no configured settings; `send_event` and `get_run` do when they are called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from .codec import register_type
from .current import current_step
from .exceptions import (
    AlreadyStarted,
    CanxFlowError,
    DuplicateWorkflow,
    GiveUp,
    HistoryMismatch,
    InsideTransaction,
    InvalidState,
    NotDecodable,
    NotSerializable,
    OutsideStep,
    PayloadTooLarge,
    RetryAfter,
    RunCancelled,
    RunFailed,
    RunNotFound,
    RunTimedOut,
    StepFailed,
    StepInterrupted,
    StepTimeout,
    TooManyRecoveries,
    UnknownWorkflow,
    WaitTimeout,
    WrongContext,
)
from .replay.context import AsyncContext, Context
from .retry import Retry
from .workflows import workflow

if TYPE_CHECKING:
    from .status import RunStatus

__all__ = [
    "AlreadyStarted",
    "AsyncContext",
    "CanxFlowError",
    "Context",
    "DuplicateWorkflow",
    "GiveUp",
    "HistoryMismatch",
    "InsideTransaction",
    "InvalidState",
    "NotDecodable",
    "NotSerializable",
    "OutsideStep",
    "PayloadTooLarge",
    "Retry",
    "RetryAfter",
    "RunCancelled",
    "RunFailed",
    "RunNotFound",
    "RunTimedOut",
    "StepFailed",
    "StepInterrupted",
    "StepTimeout",
    "TooManyRecoveries",
    "UnknownWorkflow",
    "WaitTimeout",
    "WrongContext",
    "current_step",
    "get_run",
    "register_type",
    "send_event",
    "workflow",
]


def send_event(event: str, payload: Any = None, *, key: str | None = None, dedup_id: str | None = None) -> bool:
    """Broadcast an event to every run that waits for it, now or later: `True` if stored, `False` if seen before.

    `key=None` reaches only waits without a key. Delivered by workers after the caller's transaction has committed.
    """
    from . import client

    return client.send_event(event, payload, key=key, dedup_id=dedup_id)


def get_run(run_id: UUID | str) -> RunStatus:
    """Where any run stands now; RunNotFound if there is none."""
    from . import client

    return client.get_run(run_id)
