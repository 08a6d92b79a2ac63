"""The nouns: a run, its key, attributes, steps, timers, history, the events sent to it, workers, queues, schedules.

Columns, constraints, indexes and read-only scopes. Nothing here changes a row: that is `store`'s work.
"""

from .attributes import RunAttribute
from .delegations import Delegation
from .events import Event
from .history import RunHistory
from .keys import RunKey, RunSingleton
from .limits import LimitBucket, LimitHolder
from .queues import PartitionWindow, PausedWorkflow, Queue
from .runs import RunManager, RunQuerySet, WorkflowRun
from .schedules import Schedule
from .steps import StepRecord
from .timers import Timer
from .workers import Worker

__all__ = [
    "Delegation", "Event", "LimitBucket", "LimitHolder", "PartitionWindow", "PausedWorkflow", "Queue", "RunAttribute",
    "RunHistory", "RunKey", "RunManager", "RunQuerySet", "RunSingleton", "Schedule", "StepRecord", "Timer", "Worker",
    "WorkflowRun",
]  # fmt: skip
