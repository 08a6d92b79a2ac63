"""How far a worker has read what is ready, due and undelivered, so that its next looks may begin there.

As long as a transaction anywhere on the server has an old snapshot, PostgreSQL keeps the index entries of all runs that
were ready, timers that were open and events that were undelivered since: each look would read them again, to find that
nothing of it is there any more. Kept by a worker's `horizon`, read by `poll`, `claims` and `timers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from ..core import clock
from ..core.identity import first_id_at
from .db.ready import Place

#: What a clock may be behind another one, and what a transaction that makes a run or a timer usually takes at most.
_MARGIN = timedelta(seconds=10)


@dataclass(slots=True)
class Bookmark:
    """Behind what there may be something: a place among ready runs, a moment among timers, the id of an event.

    What comes to stand before it all the same, as a run that is woken, is found by a look at everything.
    """

    place: Place | None
    due_at: datetime
    event: int

    @classmethod
    def behind(cls, *, nothing_ready: bool, next_due: datetime | None, event: int) -> Bookmark:
        """Return where to go on after a look at everything, which has found this."""
        before = clock.now() - _MARGIN
        place = (0, first_id_at(before)) if nothing_ready else None
        return cls(place, before if next_due is None else min(next_due, before), event)

    def move(self, last: Place, *, are_all: bool) -> None:
        """Go on behind the last run that was taken, for those before it were, too; `are_all`: nothing is left."""
        priority, run_id = last
        before = first_id_at(clock.now() - _MARGIN)
        self.place = priority, before if are_all else min(run_id, before)
