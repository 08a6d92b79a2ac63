"""The whole of an idle worker's poll, in one statement: whether there is anything to do.

Called by the worker's turn; what it finds is then done by the verbs that know how.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.backends.base.base import BaseDatabaseWrapper

from .db.databases import session_of
from .db.ready import ALONE, OF_ANY_QUEUE
from .db.tables import EVENT, RUN, TIMER, WORKER, placeholders


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
    """Ask the database once. It tells of ready runs in these queues (none: in all), known or not to the worker.

    Each part is the first row of an index over rows that matter, or nearly: not EXISTS, which drops the order by which
    PostgreSQL is told the index.
    """
    session = session_of(connection)
    false, by, first = session.false, session.by_index, session.first_by
    chosen = f" AND queue IN ({placeholders(queues)})" if queues else ""
    if queues:
        ready = f"{by('canx_run_ready_queue')} WHERE ready = {session.true}{chosen} {first('queue, priority DESC')}"
    else:
        ready = f"{by('canx_run_ready')} WHERE ready = {session.true} AND {OF_ANY_QUEUE} {first('priority DESC')}"
    statement = f"""
      SELECT
        (SELECT 1 FROM {RUN}{ready}),
        (SELECT 1 FROM {RUN}{by("canx_run_alone")} WHERE {ALONE} AND {session.is_ready}{chosen} {first("recoveries")}),
        (SELECT 1 FROM {EVENT} WHERE delivered = {false} AND seen_at IS NULL {first("seen_at, id")}),
        (SELECT 1 FROM {RUN} run WHERE owner_id IS NOT NULL AND NOT EXISTS
          (SELECT 1 FROM {WORKER} worker WHERE worker.id = run.owner_id AND worker.state = 'alive')
          {first("owner_id")}),
        (SELECT 1 FROM {RUN}{by("canx_run_parked")} WHERE state = 'parked' {first("workflow")}),
        (SELECT due_at FROM {TIMER} WHERE held = {false} AND due_at IS NOT NULL ORDER BY due_at LIMIT 1)
    """
    row = session.prepared(statement, [*queues, *queues])[0]
    is_ready, alone, undelivered, orphaned, parked = (bool(value) for value in row[:5])
    return Found(is_ready, alone, undelivered, orphaned, parked, session.read_moment(row[5]))
