"""The reasons for which a run does not move, or what it does: each is a type, with its facts and its words.

Made by `why`, drawn by whoever shows them.
"""

from __future__ import annotations

from .base import DUE, NAMES, Exact, Level, Reason
from .limited import PartitionBusy, QueueFull, QueuePaused, RateFull, WorkflowPaused
from .owned import Blocking, Gone, Interrupted, Silent, Working
from .standing import (
    Alone,
    Behind,
    Cancelled,
    Completed,
    Failed,
    Next,
    Parked,
    Paused,
    Scheduled,
    Stopping,
    Unknown,
    Unserved,
)
from .waiting import (
    Calling,
    Debounced,
    Delegated,
    Ending,
    Expiring,
    Held,
    LimitFull,
    LimitRate,
    Others,
    Outage,
    Retrying,
    Sleeping,
    Starting,
    Wait,
    Waiting,
)

__all__ = [
    "DUE",
    "NAMES",
    "Alone",
    "Behind",
    "Blocking",
    "Calling",
    "Cancelled",
    "Completed",
    "Debounced",
    "Delegated",
    "Ending",
    "Exact",
    "Expiring",
    "Failed",
    "Gone",
    "Held",
    "Interrupted",
    "Level",
    "LimitFull",
    "LimitRate",
    "Next",
    "Others",
    "Outage",
    "Parked",
    "PartitionBusy",
    "Paused",
    "QueueFull",
    "QueuePaused",
    "RateFull",
    "Reason",
    "Retrying",
    "Scheduled",
    "Silent",
    "Sleeping",
    "Starting",
    "Stopping",
    "Unknown",
    "Unserved",
    "Wait",
    "Waiting",
    "WorkflowPaused",
    "Working",
]
