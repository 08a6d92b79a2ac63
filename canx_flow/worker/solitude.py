"""Making room for a run that must run alone: one worker at a time claims nothing until it has nothing in flight.

Whose workers have died again and again may run beside nothing else (`leases.ALONE_FROM`). A worker that is empty
takes such a run at once; a busy one is never empty by itself. So all that may take the run sort their ids, and give
each of them a turn in which it claims nothing else, counted from when each of them saw the run first, by its own clock:
they agree without a word, and a worker that dies is left out once it is found dead. A turn that was too short for a
step in flight is followed by the next worker's, and each round has longer turns, so steps of any length end in one.
Called by the loop.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from uuid import UUID

from ..models import Worker
from ..observe import announce, facts
from ..store.claims import Suspect

_FIRST_TURN = 30.0  # seconds


class Solitude:
    """What one worker knows of the most urgent run that must be alone, if there is one that it may take."""

    def __init__(self, owner: UUID) -> None:
        self._owner = owner
        self._suspect: Suspect | None = None
        self._since = 0.0
        #: Whether this worker is to claim nothing else until it is empty.
        self.makes_room = False
        self._kept = False

    @property
    def is_wanted(self) -> bool:
        """Whether there is such a run: to be claimed as soon as nothing else is in flight."""
        return self._suspect is not None

    def leaves_room(self, in_flight: int) -> bool:
        """Whether more may be claimed beside what is in flight."""
        return not in_flight or not (self._kept or self.makes_room)

    def enter(self, alone: bool, *, tried: bool) -> None:
        """Something is claimed now: such a run `alone`, or others; which may be because it was `tried` in vain."""
        self._kept = alone
        if tried and not alone:
            self._suspect, self.makes_room = None, False

    def look(self, suspect: Suspect | None, live: Iterable[Worker], now: float) -> bool:
        """This is the run now, and these workers are alive; whether this worker begins to make room for it."""
        if suspect is None or self._suspect is None or suspect.id != self._suspect.id:
            self._since = now
        self._suspect = suspect
        before, self.makes_room = self.makes_room, suspect is not None and self._has_its_turn(suspect, live, now)
        return self.makes_room and not before

    def _has_its_turn(self, suspect: Suspect, live: Iterable[Worker], now: float) -> bool:
        able = sorted({self._owner, *(worker.id for worker in live if may_take(worker, suspect))})
        return able[turn(now - self._since, len(able))] == self._owner

    def say(self, in_flight: int) -> None:
        """That this worker seems idle, and why."""
        assert self._suspect is not None
        announce(facts.RunNeedsRoom(facts.RunRef.of(self._suspect), in_flight))


def turn(waited: float, workers: int) -> int:
    """Whose turn it is, of so many workers, so many seconds after the run was seen."""
    length = _FIRST_TURN
    while waited >= length * workers:
        waited -= length * workers
        length *= 2
    return int(waited // length)


def may_take(worker: Worker, suspect: Suspect) -> bool:
    """Whether it serves the run's queue and knows its workflow."""
    queues = json.loads(worker.queues)
    return (not queues or suspect.queue in queues) and [suspect.workflow, suspect.version] in json.loads(
        worker.workflows
    )
