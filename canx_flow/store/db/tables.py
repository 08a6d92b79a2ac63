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
ATTRIBUTE = "canx_flow_runattribute"
STEP = "canx_flow_steprecord"
TIMER = "canx_flow_timer"
WORKER = "canx_flow_worker"
EVENT = "canx_flow_event"

RECORD_COLUMNS = "run_id, epoch, seq, name, kind, state, attempts, result, errors, event_id, started_at, finished_at"

#: A run, by its UUID's number, and one of its epochs: as `Change.lease` has it.
Lease = tuple[int, int]


@dataclass(slots=True)
class Locked:
    """A run's row as it stands while this transaction has it locked for its owner."""

    state: str
    ended: bool = False


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
