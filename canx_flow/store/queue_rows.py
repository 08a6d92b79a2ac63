"""Which queues have limits or are paused, which of them have ready runs, and which others there are.

Read at each claim of a worker that knows of such queues, a few statements: the tables are small, and of the runs only
the first of each queue is looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from ..core.queue_limits import Limits, in_force
from ..core.windows import Window
from .db.portable import Portable
from .db.tables import QUEUE, RUN
from .jumps import Jumps, jumps

#: Names of queues without limits that a claim asks for. Where there are more, all are looked at together.
_MOST = 50


@dataclass(frozen=True, slots=True)
class Row:
    """A queue that has limits or is paused; `is_ready`: there are ready runs in it."""

    name: str
    paused: bool
    is_ready: bool
    limits: Limits


def apart(session: Portable, served: Sequence[str] = ()) -> list[Row]:
    """Return the queues that claims for all queues leave out, of those that are served (none: all)."""
    by, first = session.by_index("canx_run_ready_queue"), session.first_by("priority DESC, id")
    statement = f"""
      SELECT name, paused, (
        SELECT 1 FROM {RUN}{by} WHERE ready = {session.true} AND queue = {QUEUE}.name {first}
      ), declared, chosen FROM {QUEUE} WHERE apart = {session.true}
    """
    return [
        Row(name, bool(paused), bool(ready), in_force(declared, chosen))
        for name, paused, ready, declared, chosen in session.prepared(statement, [])
        if not served or name in served
    ]


def full(session: Portable, rows: Sequence[Row]) -> frozenset[str]:
    """Return those of these queues of which as many runs are owned as may be, asked for all at once.

    So that each need not be locked for that. Where it is one queue, its lock costs no more.
    """
    most = {row.name: row.limits.concurrency for row in rows if row.limits.concurrency is not None}
    if len(most) < 2:
        return frozenset()
    statement = f"SELECT queue, COUNT(*) {_owned(session)} GROUP BY queue"
    counts = dict(session.prepared(statement, _owners(session)))
    return frozenset(name for name, concurrency in most.items() if counts.get(name, 0) >= concurrency)


def unlimited(session: Portable, leave_out: Collection[str], served: Sequence[str] = ()) -> list[str] | None:
    """Return the other queues that have ready runs, or all that are served; `None` if there are too many to name."""
    if served:
        return [name for name in served if name not in leave_out]
    by = session.by_index("canx_run_ready_queue")
    most = _MOST + len(leave_out)
    ready = Jumps("queue", f"FROM {RUN}{by} WHERE ready = {session.true}", [], "queue, priority DESC, id")
    names = jumps(session, ready, most)
    return None if len(names) == most else [name for name in names if name not in leave_out]


@dataclass(frozen=True, slots=True)
class Locked:
    """A queue's row, locked, as it stands; and the time by which its rates are kept."""

    name: str
    limits: Limits
    paused: bool
    window: str
    now: float


def lock(session: Portable, name: str, now: float | None = None) -> Locked | None:
    """Lock a queue's row and read it, with the database's time unless one is given; `None`: another one has it locked.

    On PostgreSQL it also tells the planner, for this transaction, to go by indexes that have the runs in order: its
    statistics may say that there are next to none.
    """
    window = session.connection.ops.quote_name("window")  # To MySQL this is a word of its own.
    statement = f"SELECT declared, chosen, paused, {window}, {session.time}{session.by_order} FROM {QUEUE}"
    rows = session.fetch(f"{statement} WHERE name = %s{session.lock_free_rows}", [name])
    if not rows:
        return None
    declared, chosen, paused, text, found = rows[0][:5]
    return Locked(name, in_force(declared, chosen), bool(paused), text, float(found) if now is None else now)


@dataclass(slots=True)
class Owned:
    """How many runs of a queue workers own: all, one of them, and of each partition."""

    all: int = 0
    mine: int = 0
    partitions: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, partition: str | None, number: int) -> None:
        """Count runs that the one worker claims."""
        self.all += number
        self.mine += number
        if partition is not None:
            self.partitions[partition] += number


def count_owned(session: Portable, locked: Locked, owner: UUID) -> Owned:
    """Count them, as far as the queue's limits ask for it: by the index of owners, for few runs have one."""
    limits, owned = locked.limits, Owned()
    if limits.concurrency is None and limits.per_worker is None and limits.partition_concurrency is None:
        return owned
    of_queue = f"{_owned(session)} AND queue = %s GROUP BY owner_id, partition_key"
    statement = f"SELECT owner_id, partition_key, COUNT(*) {of_queue}"
    mine = session.uuid(owner)
    for owner_id, partition, count in session.prepared(statement, [*_owners(session), locked.name]):
        owned.all += count
        owned.mine += count if owner_id == mine else 0
        if partition is not None:
            owned.partitions[partition] += count
    return owned


def _owned(session: Portable) -> str:
    by = session.by_index("canx_run_owner")
    return f"FROM {RUN}{by} WHERE owner_id IS NOT NULL AND owner_id BETWEEN %s AND %s"


def _owners(session: Portable) -> list[Any]:
    return [session.uuid(UUID(int=0)), session.uuid(UUID(int=(1 << 128) - 1))]


def write_window(session: Portable, name: str, window: Window) -> None:
    """Write how many runs of a queue, whose row is locked, were first claimed of late."""
    column = session.connection.ops.quote_name("window")
    session.execute(f"UPDATE {QUEUE} SET {column} = %s WHERE name = %s", [window.text(), name])
