"""The whole of an idle worker's poll, in one statement: whether there is anything to do.

Called by the worker's turn; what it finds is then done by the verbs that know how.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from .bookmark import Bookmark
from .db.databases import session_of
from .db.ready import ALONE, OF_ANY_QUEUE, Place, apart
from .db.session import Session
from .db.tables import EVENT, QUEUE, RUN, SCHEDULE, TIMER, WORKER, placeholders


@dataclass(frozen=True, slots=True)
class Found:
    """What there is: ready runs, ready runs that must be alone, and so on; `next_due` is the next timer's moment.

    `event`: the id of the last event, where a bookmark is of use.
    """

    ready: bool
    alone: bool
    undelivered: bool
    orphaned: bool
    parked: bool
    next_due: datetime | None
    event: int | None = None
    #: When the next schedule is due.
    next_tick: datetime | None = None
    #: Some queue has limits or is paused.
    any_apart: bool = False


def ask(
    connection: BaseDatabaseWrapper,
    queues: Sequence[str] = (),
    bookmark: Bookmark | None = None,
    *,
    remember: bool = False,
) -> Found:
    """Ask the database once. It tells of ready runs in these queues (none: in all), known or not to the worker.

    `bookmark`: it tells of what is behind that only, and of no runs whose owners are gone. `remember`: it tells which
    is the last event, for a bookmark.

    Each part is the first row of an index over rows that matter, or nearly: not EXISTS, which drops the order by which
    PostgreSQL is told the index.
    """
    session = session_of(connection)
    false, by, first = session.false, session.by_index, session.first_by
    chosen = f" AND queue IN ({placeholders(queues)})" if queues else ""
    ready, parameters = _ready(session, queues, chosen, bookmark.place if bookmark is not None else None)
    parameters += queues
    unseen, opened, orphaned = "", "due_at IS NOT NULL", _ORPHANED.format(first("owner_id"))
    if bookmark is not None:
        unseen, opened, orphaned = " AND id > %s", "due_at >= %s", "NULL"
        parameters += [bookmark.event, session.moment(bookmark.due_at)]
    statement = f"""
      SELECT
        {ready},
        (SELECT 1 FROM {RUN}{by("canx_run_alone")} WHERE {ALONE} AND {session.is_ready}{chosen} {first("recoveries")}),
        (SELECT 1 FROM {EVENT} WHERE delivered = {false} AND seen_at IS NULL{unseen} {first("seen_at, id")}),
        {orphaned},
        (SELECT 1 FROM {RUN}{by("canx_run_parked")} WHERE state = 'parked' {first("workflow")}),
        (SELECT due_at FROM {TIMER} WHERE held = {false} AND {opened} ORDER BY due_at LIMIT 1),
        {f"(SELECT MAX(id) FROM {EVENT})" if remember else "NULL"},
        (SELECT due_at FROM {SCHEDULE} WHERE due_at IS NOT NULL ORDER BY due_at LIMIT 1),
        (SELECT 1 FROM {QUEUE} WHERE apart = {session.true} LIMIT 1)
    """
    row = session.prepared(statement, parameters)[0]
    is_ready, alone, undelivered, orphans, parked = (bool(value) for value in row[:5])
    return Found(
        is_ready, alone, undelivered, orphans, parked, session.read_moment(row[5]), row[6], session.read_moment(row[7]),
        any_apart=bool(row[8]),
    )  # fmt: skip


_ORPHANED = f"""(SELECT 1 FROM {RUN} run WHERE owner_id IS NOT NULL AND NOT EXISTS
          (SELECT 1 FROM {WORKER} worker WHERE worker.id = run.owner_id AND worker.state = 'alive') {{}})"""


def _ready(session: Session, queues: Sequence[str], chosen: str, begin: Place | None) -> tuple[str, list[Any]]:
    """Return what tells whether runs are ready, and its parameters."""
    by, first = session.by_index, session.first_by
    if queues:
        text = f"{by('canx_run_ready_queue')} WHERE ready = {session.true}{chosen}{{}} {first('queue, priority DESC')}"
    else:
        text = f"{by('canx_run_ready')} WHERE ready = {session.true} AND {OF_ANY_QUEUE}{{}} {first('priority DESC')}"
    if begin is None:
        return f"(SELECT 1 FROM {RUN}{text.format('')})", [*queues]
    parts = [(f"(SELECT 1 FROM {RUN}{text.format(f' AND {part}')})", values) for part, values in apart(begin)]
    return f"COALESCE({', '.join(part for part, _ in parts)})", [
        value for _, values in parts for value in (*queues, *values)
    ]
