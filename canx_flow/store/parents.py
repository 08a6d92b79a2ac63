"""The parents of children that complete: told with that, and woken, by the worker that has run the child.

Called by `writes`, in the transaction that has the children's rows locked; PostgreSQL does the same in one statement.
What cannot be done at once is left to be delivered, as any event: nothing here waits for another run's row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ..core import arrows, clock, naming
from ..states import RUNNING, SUSPENDED
from . import children
from .children import End
from .db.assignments import assignments
from .db.portable import Portable
from .db.tables import EVENT, RUN, TIMER, placeholders

_COLUMNS = f"SELECT id, seed, state, ending, owner_id FROM {RUN} WHERE"


@dataclass(frozen=True, slots=True)
class Told:
    """Whether every reader has been told, and is pending if it waits for that; and how many became so."""

    heard: bool
    woken: int


@dataclass(frozen=True, slots=True)
class _Reader:
    """A parent or a fork, by its id as the driver has it: how it stood before it was locked."""

    id: Any
    state: str
    owner: Any


def told_at_once(session: Portable, owner: UUID, ends: Sequence[End]) -> Told:
    """Store for each parent, and its forks, that its child has ended; wake those that are suspended on that."""
    readers = _readers(session, {session.uuid(end.parent) for end in ends})
    told = [(reader, end) for end in ends for reader in readers[session.uuid(end.parent)]]
    held = _lock(session, session.uuid(owner), {reader for reader, _end in told})
    woken = _waiting(session, [(reader.id, end) for reader, end in told if held.get(reader.id) in SUSPENDED])
    now = session.moment(clock.now())
    session.execute_many(
        f"INSERT INTO {EVENT} (run_id, name, payload, created_at, delivered) VALUES (%s, %s, %s, %s, %s)",
        [(to.id, naming.end_of(end.child), children.payload(end), now, to.id in held) for to, end in told],
    )
    if woken:
        session.execute_of(f"UPDATE {RUN} SET {assignments(arrows.WAKE)} WHERE id", [], woken)
    return Told(all(reader.id in held for reader, _end in told), len(woken))


def _readers(session: Portable, parents: Collection[Any]) -> Mapping[Any, Sequence[_Reader]]:
    """Return who reads of the ends of each parent's children: see `children.tell`."""
    roots, reading = {parent: parent for parent in parents}, dict[Any, list[_Reader]]()
    for run_id, seed, state, ending, owner in session.fetch_of(f"{_COLUMNS} id", list(parents)):
        roots[run_id] = seed or run_id
        reading[run_id] = [_Reader(run_id, state, owner)] if children.reads(state, ending) else []
    forks: dict[Any, list[_Reader]] = {root: [] for root in roots.values()}
    for run_id, seed, state, ending, owner in session.fetch_of(f"{_COLUMNS} seed", list(forks)):
        if children.reads(state, ending):
            forks[seed].append(_Reader(run_id, state, owner))
    return {parent: _each_once([*reading.get(parent, ()), *forks[root]]) for parent, root in roots.items()}


def _each_once(readers: Sequence[_Reader]) -> Sequence[_Reader]:
    """Return each as it was seen last: a parent that is a fork itself was seen twice, and may have changed between."""
    return list({reader.id: reader for reader in readers}.values())


def _lock(session: Portable, owner: Any, readers: Collection[_Reader]) -> dict[Any, str]:
    """Lock those that are suspended, or this owner's, unless others have them locked; return their states.

    What such a run waits for, a later statement tells for certain: it is suspended by a transaction that has locked its
    row, and looks for events then. Runs that other workers have are not to be held up.
    """
    wanted = sorted(each.id for each in readers if _is_free(each.state, each.owner, owner))
    if not wanted:
        return {}
    statement = f"SELECT id, state, owner_id FROM {RUN} WHERE id"
    rows = session.fetch_of(statement, wanted, f" ORDER BY id{session.lock_free_rows}")
    return {run_id: state for run_id, state, its in rows if _is_free(state, its, owner)}


def _is_free(state: str, its: Any, owner: Any) -> bool:
    return state in SUSPENDED or (state == RUNNING and its == owner)


def _waiting(session: Portable, told: Sequence[tuple[Any, End]]) -> list[Any]:
    """Return which of these runs, whose rows are locked, have an open wait for what they are told of."""
    woken = set[Any]()
    for some in children.batches(told):
        runs, events = sorted({run_id for run_id, _end in some}), [naming.end_of(end.child) for _run_id, end in some]
        of_runs, of_events = placeholders(runs), placeholders(events)
        statement = f"SELECT run_id FROM {TIMER} WHERE run_id IN ({of_runs}) AND event IN ({of_events})"
        woken.update(run_id for (run_id,) in session.fetch(statement, [*runs, *events]))
    return sorted(woken)
