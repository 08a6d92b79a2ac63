"""Deleting broadcasts that are too old to be read, a batch at a time.

Called by the chore `tidy` and by `pruneflows`. Events sent to single runs go with their runs, by `pruning`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial

from django.db import connections

from ..models import Event
from .db.databases import session_for
from .db.engine import transaction
from .db.tables import EVENT
from .repeats import patiently

#: Events that one batch reads.
MOST_FORGOTTEN = 1000


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many events were deleted, and behind which id the next ones are; `None`: there are no more."""

    deleted: int
    last: int | None


def forget(alias: str, before: datetime, after: int = 0) -> Forgotten:
    """Delete broadcasts sent before a moment; their dedup ids may come again. Reads `MOST_FORGOTTEN` events at most.

    There is no index of the moments: ids are given in the same order, or nearly. What is met too early, or before it is
    delivered, is left to the next time that all are walked. Events sent to single runs, which their runs' pruning
    deletes, are passed by, but for what runs that have continued as new remember of them.
    """
    events = Event.objects.using(alias)
    behind = events.filter(id__gt=after).order_by("id")
    rows = list(behind.values_list("id", "run_id", "delivered", "created_at", "consumed_by")[:MOST_FORGOTTEN])
    ids = [
        key
        for key, run_id, delivered, sent_at, reader in rows
        if (run_id is None or reader == "") and delivered and sent_at < before
    ]
    deleted = 0
    if ids:  # Else SQLite would take its one lock for nothing.
        with transaction(connections[alias]):  # MySQL deletes them one by one.
            deleted = session_for(alias).delete(EVENT, "id", ids)
    is_last = len(rows) < MOST_FORGOTTEN or rows[-1][3] >= before
    return Forgotten(deleted, None if is_last else rows[-1][0])


def forget_all(alias: str, before: datetime) -> int:
    """Delete all broadcasts sent before a moment, in batches; return how many that was."""
    found = patiently(alias, partial(forget, alias, before))
    deleted = found.deleted
    while found.last is not None:
        found = patiently(alias, partial(forget, alias, before, found.last))
        deleted += found.deleted
    return deleted
