"""The nouns: a run, its key, its step records, its timers, the events sent to it, and the workers. One file per table.

Columns, constraints, indexes and read-only scopes. Nothing here changes a row: that is `store`'s work.
"""

from .events import Event
from .keys import RunKey
from .runs import RunManager, RunQuerySet, WorkflowRun
from .steps import StepRecord
from .timers import Timer
from .workers import Worker

__all__ = ["Event", "RunKey", "RunManager", "RunQuerySet", "StepRecord", "Timer", "Worker", "WorkflowRun"]
