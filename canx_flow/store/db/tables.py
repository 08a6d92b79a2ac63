"""What every statement names: the tables, the columns of a record, and what a statement says of a run's row.

Used by the statements of each database, and by the verbs that write statements of their own.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

RUN = "canx_flow_workflowrun"
KEY = "canx_flow_runkey"
SINGLETON = "canx_flow_runsingleton"
ATTRIBUTE = "canx_flow_runattribute"
STEP = "canx_flow_steprecord"
TIMER = "canx_flow_timer"
WORKER = "canx_flow_worker"
EVENT = "canx_flow_event"
HISTORY = "canx_flow_runhistory"
BUCKET = "canx_flow_limitbucket"
HOLDER = "canx_flow_limitholder"
DELEGATION = "canx_flow_delegation"
SCHEDULE = "canx_flow_schedule"
QUEUE = "canx_flow_queue"
PAUSED_WORKFLOW = "canx_flow_pausedworkflow"
PARTITION_WINDOW = "canx_flow_partitionwindow"

RECORD_COLUMNS = "run_id, epoch, seq, name, kind, state, attempts, result, errors, event_id, started_at, finished_at"

#: What holds where a workflow is not paused. Of such there are few, if any, as of queues with limits, and the table is
#: read once in a statement.
NOT_PAUSED = f"workflow NOT IN (SELECT workflow FROM {PAUSED_WORKFLOW})"

#: A run, by its UUID's number, and one of its epochs: as `Change.lease` has it.
Lease = tuple[int, int]


@dataclass(slots=True)
class Locked:
    """A run's row as it stands while this transaction has it locked for its owner."""

    state: str
    ended: bool = False
    #: As in `Outcome`.
    heard: bool = False
    woke: int = 0


@dataclass(frozen=True, slots=True)
class OpenWait:
    """A timer as the database gives it."""

    id: int
    run_id: UUID
    kind: str
    held: bool
    due_at: Any


def placeholders(values: Collection[Any]) -> str:
    """Return the placeholders for so many parameters."""
    return ", ".join(["%s"] * len(values))


def none_of(kinds: Collection[str]) -> str:
    """Return the condition that a timer is of none of these kinds.

    Not `kind <> …`: of that MySQL and MariaDB make ranges of the index that begins with the run, and lock the row
    behind each range, which is another run's.
    """
    whens = " ".join(f"WHEN '{kind}' THEN 0" for kind in kinds)
    return f"CASE kind {whens} ELSE 1 END = 1"
