"""The whole of an idle worker's poll, in one statement: whether there is anything to do.

Called by the worker's turn; what it finds is then done by the verbs that know how.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.backends.base.base import BaseDatabaseWrapper

from .db.databases import session_of
from .leases import ALONE_FROM


@dataclass(frozen=True, slots=True)
class Found:
    """What there is: ready runs, ready runs that must be alone, and so on; `next_due` is the next timer's moment."""

    ready: bool
    alone: bool
    undelivered: bool
    orphaned: bool
    parked: bool
    next_due: datetime | None


def ask(connection: BaseDatabaseWrapper, queues: Sequence[str] = ()) -> Found:
    """Ask the database once; every part is answered by an index over rows that matter, or nearly."""
    session = session_of(connection)
    true, false = session.true, session.false
    chosen = f"AND queue IN ({', '.join(['%s'] * len(queues))})" if queues else ""
    statement = f"""
      SELECT
        EXISTS (SELECT 1 FROM canx_flow_workflowrun WHERE ready = {true} {chosen}),
        EXISTS (SELECT 1 FROM canx_flow_workflowrun WHERE recoveries >= {ALONE_FROM} AND ready = {true}
          AND state <> 'stopping' {chosen}),
        EXISTS (SELECT 1 FROM canx_flow_event WHERE delivered = {false} AND seen_at IS NULL),
        EXISTS (SELECT 1 FROM canx_flow_workflowrun run WHERE owner_id IS NOT NULL AND NOT EXISTS
          (SELECT 1 FROM canx_flow_worker worker WHERE worker.id = run.owner_id AND worker.state = 'alive')),
        EXISTS (SELECT 1 FROM canx_flow_workflowrun WHERE state = 'parked'),
        (SELECT due_at FROM canx_flow_timer WHERE held = {false} AND due_at IS NOT NULL ORDER BY due_at LIMIT 1)
    """
    row = session.prepared(statement, [*queues, *queues])[0]
    ready, alone, undelivered, orphaned, parked = (bool(value) for value in row[:5])
    return Found(ready, alone, undelivered, orphaned, parked, session.read_moment(row[5]))
