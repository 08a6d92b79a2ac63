"""The SELECTs that find the runs of one queue with limits: in order, by age alone, and by partition.

Called by `filling`, under the queue's lock. Each reads a bounded number of rows, however many are ready, each part by
the one index that has them in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from ..core.options import HIGHEST_PRIORITY, LOWEST_PRIORITY
from .db.merging import ORDER, merged
from .db.portable import Portable
from .db.ready import Taker
from .db.tables import RUN, placeholders
from .jumps import Jumps, jumps

_LOOK = 100  # runs of each priority that a look by age reads
_COLUMNS = "id, priority, workflow, version, queue, state, recoveries, has_undo, partition_key, epoch"


class Found(NamedTuple):
    """A ready run that the worker could take."""

    id: Any
    partition: str | None
    is_fresh: bool

    @property
    def uuid(self) -> UUID:
        """Its id, as Python has it."""
        return self.id if isinstance(self.id, UUID) else UUID(self.id)


def first(session: Portable, taker: Taker) -> list[Found]:
    """Find the first run in the order of claims; nothing else is to be taken before it."""
    look = taker.first(session, _LOOK)
    while True:
        rows = session.prepared(look.text, look.parameters)
        fitting = [run_id for run_id, _priority, fits in rows if fits]
        if fitting:
            return of_ids(session, fitting[:1])
        if len(rows) < look.most:
            return []
        look = taker.known_after(session, (rows[-1][1], rows[-1][0]), _LOOK)


def alone(session: Portable, taker: Taker) -> list[Found]:
    """Find the run that must be alone, if there is one in this queue."""
    look = taker.first(session, 1)
    return of_ids(session, [row[0] for row in session.prepared(look.text, look.parameters)])


def of_ids(session: Portable, ids: Sequence[Any]) -> list[Found]:
    """Return what there is to know of these runs, in the order of the ids."""
    if not ids:
        return []
    rows = session.fetch(f"SELECT id, partition_key, epoch FROM {RUN} WHERE id IN ({placeholders(ids)})", ids)
    found = {row[0]: row for row in rows}
    return [Found(run_id, found[run_id][1], found[run_id][2] == 0) for run_id in ids if run_id in found]


def oldest(
    session: Portable, taker: Taker, most: int, *, only_woken: bool = False, without_partition: bool = False
) -> list[Found]:
    """Find the oldest runs, whatever their priority; among the first hundred of each.

    `only_woken`: those that were claimed before, in the order of claims. `without_partition`: those of no partition.
    """
    (queue,) = taker.queues
    by = session.by_index("canx_run_ready_queue")
    ready = f"{RUN}{by} WHERE ready = {session.true} AND queue = %s"
    below = f" AND priority <= {HIGHEST_PRIORITY}"
    of_queue = Jumps("priority", f"FROM {ready}", [queue], "priority DESC, id", "<", below)
    priorities = jumps(session, of_queue, HIGHEST_PRIORITY - LOWEST_PRIORITY + 1)
    if not priorities:
        return []
    part = f"SELECT {_COLUMNS} FROM {ready} AND priority = %s ORDER BY id LIMIT {_LOOK}"
    text, values = merged([(part, [queue, priority]) for priority in priorities], _LOOK * len(priorities))
    fits, parameters = taker.fits()
    condition = f"{taker.condition(session)} AND {fits}"
    if only_woken:
        condition += " AND epoch > 0"
    if without_partition:
        condition += " AND partition_key IS NULL"
    order = ORDER if only_woken else "ORDER BY id"
    text = f"SELECT id, partition_key, epoch FROM ({text}) looked WHERE {condition} {order} LIMIT {max(most, _LOOK)}"
    return [Found(run_id, name, epoch == 0) for run_id, name, epoch in session.prepared(text, [*values, *parameters])]


class Heads(NamedTuple):
    """The first runs of some partitions, of those that the worker could take; and how many partitions were looked at.

    `last`: the last of those, if there may be others behind it.
    """

    found: list[Found]
    looked: int
    last: str | None


def heads(session: Portable, taker: Taker, begin: str, end: str | None, most: int) -> Heads:
    """Look at up to so many partitions behind `begin`, up to `end`, if there is one.

    It goes from one partition to the next by the index, a step each, however many runs either has.
    """
    (queue,) = taker.queues
    by = session.by_index("canx_run_ready_partition")
    ready = f"{RUN}{by} WHERE ready = {session.true} AND queue = %s AND partition_key"
    first = "ORDER BY partition_key LIMIT 1"
    until = "" if end is None else " AND partition_key <= %s"
    of_end = [] if end is None else [end]
    fits, parameters = taker.fits()
    if not session.recursion_jumps:
        step = (
            f"SELECT partition_key, id, epoch FROM {ready} > %s{until} AND {taker.condition(session)} AND {fits} "
            "ORDER BY partition_key, priority DESC, id LIMIT 1"
        )
        found = _heads_by_steps(session, step, [queue], [*of_end, *parameters], begin, most)
        return Heads(found, len(found), found[-1].partition if len(found) == most else None)
    statement = f"""
      WITH RECURSIVE part (name, number) AS (
        SELECT (SELECT partition_key FROM {ready} > %s{until} {first}), 1
        UNION ALL
        SELECT (SELECT partition_key FROM {ready} > part.name{until} {first}), number + 1 FROM part
        WHERE name IS NOT NULL AND number < %s
      )
      SELECT name, (
        SELECT id FROM {ready} = part.name AND {taker.condition(session)} AND {fits} {ORDER} LIMIT 1
      ) FROM part WHERE name IS NOT NULL
    """
    values = [queue, begin, *of_end, queue, *of_end, most, queue, *parameters]
    rows = session.prepared(statement, values)
    ids = [run_id for _name, run_id in rows if run_id is not None]
    return Heads(of_ids(session, ids), len(rows), rows[-1][0] if len(rows) == most else None)


def _heads_by_steps(
    session: Portable, step: str, before: Sequence[Any], behind: Sequence[Any], begin: str, most: int
) -> list[Found]:
    """Do the same by a statement for each: to the first run, of those that fit, in a partition behind the one before.

    `before`, `behind`: the step's values before and behind the partition's.
    """
    found: list[Found] = []
    while len(found) < most:
        rows = session.prepared(step, [*before, begin, *behind])
        if not rows:
            break
        begin, run_id, epoch = rows[0]
        found.append(Found(run_id, begin, epoch == 0))
    return found


def rounds(session: Portable, taker: Taker, partitions: Sequence[str], most: int) -> list[Found]:
    """Find up to so many runs of each of these partitions, in rounds: the first of each, then the second, and so on."""
    if not partitions:
        return []
    (queue,) = taker.queues
    by = session.by_index("canx_run_ready_partition")
    fits, parameters = taker.fits()
    part = (
        f"SELECT {_COLUMNS} FROM {RUN}{by} WHERE ready = {session.true} AND queue = %s AND partition_key = %s "
        f"AND {taker.condition(session)} AND {fits} {ORDER} LIMIT {most}"
    )
    places = {name: place for place, name in enumerate(partitions)}
    parts = [(part, [queue, name, *parameters]) for name in partitions]
    text, values = merged(parts, most * len(partitions))
    rows = session.prepared(f"SELECT id, partition_key, epoch, priority FROM ({text}) found {ORDER}", values)
    of_each: dict[str, int] = dict.fromkeys(partitions, 0)
    ranked = []
    for run_id, name, epoch, _priority in rows:
        ranked.append((of_each[name], places[name], Found(run_id, name, epoch == 0)))
        of_each[name] += 1
    return [found for _rank, _place, found in sorted(ranked, key=lambda each: each[:2])]
