"""What a run leaves behind that goes on as a new generation: no record, no timer, and the memory of what it has read.

Called by `settling`, in the transaction that has the run's row locked.

The records of its waits said which events it has read. In their place stand rows of events, read and named by no
record (`consumed_by` is empty), which are deleted when events of that age are: one for each event with a dedup id, so
that this is not sent again, and one for each name and key of broadcasts. So nothing grows with the generations.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from uuid import UUID

from ..core import naming
from ..models import Event
from . import remembered
from .db.portable import Portable
from .db.tables import DELEGATION, EVENT, STEP

_AT_ONCE = 1_000  # events in one statement


def begin(session: Portable, run_ids: Sequence[UUID]) -> None:
    """Forget the history of runs that have just become a new generation's; what they have read stays read."""
    for run_id in run_ids:
        for ids in _read_by(session, run_id):
            _forget(session, run_id, ids)
    session.delete(STEP, "run_id", run_ids)
    # Nobody waits any more for the ends of the children that the old generation has started, nor for its tasks.
    for prefix in (naming.END, naming.TASK):
        session.delete(EVENT, "run_id", run_ids, " AND consumed_at IS NULL AND name LIKE %s", [f"{prefix}%"])
    session.delete(DELEGATION, "run_id", run_ids)


def _read_by(session: Portable, run_id: UUID) -> Iterator[list[int]]:
    """Yield the ids of the events that records and delegations of this run name, in their order, some at a time."""
    statements = [f"SELECT event_id FROM {table} WHERE event_id IS NOT NULL AND run_id" for table in (STEP, DELEGATION)]
    rows = [row for statement in statements for row in session.fetch_of(statement, [session.uuid(run_id)])]
    ids = sorted({event_id for (event_id,) in rows})
    for first in range(0, len(ids), _AT_ONCE):
        yield ids[first : first + _AT_ONCE]


def _forget(session: Portable, run_id: UUID, ids: Sequence[int]) -> None:
    """Forget these events, but for what is to be remembered of them."""
    alias = session.connection.alias
    found = Event.objects.using(alias).filter(id__in=ids).values_list("id", "run_id", "name", "key", "dedup_id")
    broadcasts: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    sent: list[int] = []
    named: list[int] = []
    for event_id, receiver, name, key, dedup_id in found:
        if receiver is None:
            broadcasts[name, key].append(event_id)
        elif receiver == run_id:  # Those that a fork was given to have read are the other run's.
            (sent if dedup_id is None else named).append(event_id)
    session.delete(EVENT, "id", sent)
    if named:
        Event.objects.using(alias).filter(id__in=named).update(consumed_by="", payload="null")
    for (name, key), read in broadcasts.items():
        remembered.add(alias, run_id, name, key, read)
