"""Claiming by queues: those without limits all together, those with limits one by one, within them.

Called by a worker's `capacity` and by the inline driver. How many runs of a queue are owned is counted, never kept: a
counter would drift. To claim from a queue with limits a worker locks the queue's row, then, in a later statement,
counts what is owned, then takes what fits, and commits: no other worker claims from it meanwhile, and the count sees
all that others have committed, for engine connections read what is committed. A row that another worker has locked is
left to it. On SQLite, BEGIN IMMEDIATE is the lock.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from ..core.claimed import ClaimedRun
from . import claims
from .bookmark import Bookmark
from .db.databases import session_of
from .db.engine import current, transaction
from .db.ready import Identities
from .filling import Filled, fill
from .queue_rows import Row, apart, full, unlimited
from .turns import Turns

#: Seconds after which a queue is tried again whose row another worker had locked.
_CONTENDED = 0.02


@dataclass(slots=True)
class Taken:
    """What a claim has taken, and what that says of what is left."""

    runs: list[ClaimedRun] = field(default_factory=list)
    #: There may be more that this worker could take, had it more room.
    more: bool = False
    #: Other workers may take what this one has left, for it has as many of that queue as one worker may have.
    for_others: bool = False
    #: In so many seconds more may be taken: by then a rate allows it, or another worker has claimed.
    again_in: float | None = None


class QueueClaims:
    """The claims of one worker, for the queues that it serves (none: for all).

    Rates are kept by the database's clock, unless another one is given, which returns seconds.
    """

    def __init__(self, owner: UUID, queues: Sequence[str] = (), now: Callable[[], float] | None = None) -> None:
        self._owner = owner
        self._queues = queues
        self._now = now
        #: Some queue has limits or is paused, as far as this worker knows; else only the one claim is made.
        self.any_apart = True
        #: Queues in which runs are ready that their limits do not allow now: each end there may allow one.
        self.blocked: frozenset[str] = frozenset()
        self._turns = Turns()
        self._begin = random.SystemRandom().randrange(1 << 16)
        self._bound: frozenset[str] = frozenset()

    def claim(
        self,
        connection: BaseDatabaseWrapper,
        free: int,
        ahead: int,
        known: Identities,
        *,
        alone: bool = False,
        bookmark: Bookmark | None = None,
        anywhere: bool = True,
    ) -> Taken:
        """Take up to `free` ready runs, and up to so many more `ahead`; the rest is as for `claims.claim`.

        Of a queue with limits none is taken ahead that another worker could begin at once.
        """
        most = free + ahead
        how: dict[str, Any] = {"alone": alone, "bookmark": bookmark, "anywhere": anywhere}
        if not self.any_apart or most < 1 or not known:
            self.blocked = frozenset()
            runs = claims.claim(connection, self._owner, most, known, self._queues, **how)
            return Taken(runs, more=len(runs) == most)
        session = session_of(connection)
        session.connection.ensure_connection()
        found = apart(session, self._queues)
        rows = [row for row in found if not row.paused and row.is_ready]
        self.blocked = frozenset(row.name for row in rows)  # A run that ends while these are counted frees a place.
        taken, filled = Taken(), dict.fromkeys(full(session, rows), Filled(is_blocked=True))
        for row in self._in_turn(rows):
            left = most - len(taken.runs)
            if left < 1:
                taken.more = True
                break
            if row is None:
                runs = self._of_others(connection, found, left, known, how)
                taken.more = taken.more or len(runs) == left
                taken.runs += runs
            elif row.name not in filled:
                room = free - len(taken.runs)
                filled[row.name] = self._fill(connection, row, room, left - max(0, room), known, alone=alone)
                taken.runs += filled[row.name].runs
        if alone:
            return taken
        self._conclude(taken, filled)
        return taken

    def _in_turn(self, rows: Sequence[Row]) -> Iterator[Row | None]:
        """Yield the queues, and `None` for all that have no limits, each claim beginning with another one."""
        parts: list[Row | None] = [None, *rows]
        self._begin += 1
        at = self._begin % len(parts)
        yield from parts[at:] + parts[:at]

    def _of_others(
        self,
        connection: BaseDatabaseWrapper,
        found: Sequence[Row],
        most: int,
        known: Identities,
        how: dict[str, Any],
    ) -> list[ClaimedRun]:
        """Claim from all queues that have no limits: by name, so that no backlog of the others is read."""
        names = unlimited(session_of(connection), {row.name for row in found}, self._queues)
        if names is not None and not names:
            return []
        queues = self._queues if names is None else names
        return claims.claim(connection, self._owner, most, known, queues, **how)

    def _fill(
        self, connection: BaseDatabaseWrapper, row: Row, free: int, ahead: int, known: Identities, *, alone: bool
    ) -> Filled:
        with transaction(connection), current(connection):
            now = None if self._now is None else self._now()
            taker = claims.taker_within_limits(self._owner, known, row.name, alone=alone)
            return fill(session_of(connection), taker, row.name, free, ahead, self._turns, now)

    def _conclude(self, taken: Taken, filled: dict[str, Filled]) -> None:
        taken.more = taken.more or any(each.more for each in filled.values())
        self.blocked = frozenset(name for name, each in filled.items() if each.is_blocked)
        bound = frozenset(name for name, each in filled.items() if each.is_bound)
        taken.for_others, self._bound = bool(bound - self._bound), bound
        waits = [each.again_in for each in filled.values() if each.again_in is not None]
        waits += [_CONTENDED] * any(each.is_contended for each in filled.values())
        taken.again_in = min(waits, default=None)
