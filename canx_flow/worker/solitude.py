"""Making room for a run that must run alone: one worker at a time claims nothing until it has nothing in flight.

A run whose workers have died again and again may run beside no other (`ready.ALONE_FROM`). A worker that is empty
claims such a run at once; a busy one is never empty by itself. So all workers that may take the run sort their ids, and
give each of them a turn in which it claims nothing else, counted from when each of them saw the run first, by its own
clock: they agree without a message, and a worker that dies is left out once it is found dead. A turn that was too short
for a step in flight is followed by the next worker's, and each round has longer turns, so steps of any length end in
one. Asked by `capacity`, kept up to date by `chores.make_room`.
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
        #: Whether the run in flight must be alone.
        self._is_alone = False

    @property
    def is_wanted(self) -> bool:
        """Whether there is such a run: to be claimed as soon as nothing else is in flight."""
        return self._suspect is not None

    def leaves_room(self, in_flight: int) -> bool:
        """Return whether more may be claimed beside what is in flight."""
        return not in_flight or not (self._is_alone or self.makes_room)

    def enter(self, alone: bool, *, tried: bool) -> None:
        """Take note of a claim: of such a run `alone`, or of others, perhaps since that run was `tried` in vain."""
        self._is_alone = alone
        if tried and not alone:
            self._suspect, self.makes_room = None, False

    def consider(self, suspect: Suspect | None, live: Iterable[Worker], now: float) -> bool:
        """Take note of that run, if any, and of the live workers; return whether this worker begins to make room."""
        if suspect is None or self._suspect is None or suspect.id != self._suspect.id:
            self._since = now
        self._suspect = suspect
        before, self.makes_room = self.makes_room, suspect is not None and self._has_its_turn(suspect, live, now)
        return self.makes_room and not before

    def _has_its_turn(self, suspect: Suspect, live: Iterable[Worker], now: float) -> bool:
        able = sorted({self._owner, *(worker.id for worker in live if may_take(worker, suspect))})
        return able[turn(now - self._since, len(able))] == self._owner

    def announce(self, in_flight: int) -> None:
        """Announce why this worker claims nothing."""
        assert self._suspect is not None
        announce(facts.RunNeedsRoom(facts.RunRef.of(self._suspect), in_flight))


def turn(waited: float, workers: int) -> int:
    """Return which of so many workers has its turn, so many seconds after the run was seen."""
    length = _FIRST_TURN
    while waited >= length * workers:
        waited -= length * workers
        length *= 2
    return int(waited // length)


def may_take(worker: Worker, suspect: Suspect) -> bool:
    """Return whether the worker serves the run's queue and knows its workflow."""
    queues = json.loads(worker.queues)
    return (not queues or suspect.queue in queues) and [suspect.workflow, suspect.version] in json.loads(
        worker.workflows
    )
