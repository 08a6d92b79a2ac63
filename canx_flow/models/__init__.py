"""The nouns: a run, its key, attributes, step records and timers, the events sent to it, the workers: a file per table.

Columns, constraints, indexes and read-only scopes. Nothing here changes a row: that is `store`'s work.
"""

from .attributes import RunAttribute
from .events import Event
from .keys import RunKey
from .runs import RunManager, RunQuerySet, WorkflowRun
from .steps import StepRecord
from .timers import Timer
from .workers import Worker

__all__ = [
    "Event", "RunAttribute", "RunKey", "RunManager", "RunQuerySet", "StepRecord", "Timer", "Worker", "WorkflowRun",
]  # fmt: skip
