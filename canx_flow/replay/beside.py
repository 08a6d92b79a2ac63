"""The branches of one activation that go on side by side: which run, which wait for a place, which are blocked.

Made by an activation's first `gather`, `race` or `map`. All of it happens in the event loop of an `async def` workflow,
or in that thread of a `def` workflow that has the baton; only `waits`, `tell` and `rouse` are called from elsewhere.
"""

from __future__ import annotations

import asyncio
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from threading import Lock
from typing import Any, Protocol, Self

from ..core import clock
from ..core.changes import Wait, WaitEnd
from ..core.journal import Journal
from ..states import Kind
from .call import Found

#: The waits of a step, which may have several of them one after another.
_AGAIN = (Kind.RETRY, Kind.LIMIT, Kind.DELEGATE)


class Signal(Protocol):
    """What the branch waits for that has begun others."""

    def set(self) -> None:
        """Let it go on and look. Any thread may do so."""

    async def wait(self) -> None:
        """Wait until it was set, since the last time; others have the baton meanwhile."""


class Member(ABC):
    """One of those that were begun together: a branch, or an item of a map."""

    #: Whether it may be called in the task of the one before it.
    shares_task = False
    #: Those it was begun with.
    team: Any
    #: Whether it waits for a place.
    waits = False

    @property
    def places(self) -> Places:
        """Where it runs."""
        places: Places = self.team.places
        return places

    def take(self) -> Self | None:
        """Return itself, once, unless it need not begin any more."""
        if not self.waits or self.team.is_over:
            return None
        self.waits = False
        self.team.start()
        return self

    def launch(self) -> None:
        """Enter it, in a thread or a task of its own. Should there be none, its team is told."""
        try:
            self.team.driver.launch(self)
        except Exception as error:  # noqa: BLE001 - no thread, no memory
            self.broke(error)
            self.team.stop()

    def broke(self, error: BaseException) -> None:
        """Note what has come apart around it, and give back its place: its team tells what has begun it."""
        self.team.came_apart(error)
        self.places.give_back()

    @abstractmethod
    async def serve(self) -> Member | None:
        """Enter it with a place; return what takes that over."""

    @abstractmethod
    def steps(self) -> Sequence[str]:
        """Return the steps that block it."""

    @abstractmethod
    def wake(self) -> Source:
        """Note that its wait has ended; return what waits for a place now."""


class Line(Member):
    """One that may be entered alone, too: a branch."""

    @abstractmethod
    async def enter(self) -> None:
        """Call what it is from its beginning, in this thread or task."""


class Source(Protocol):
    """What waits for places: one branch, or all items of a map."""

    def take(self) -> Member | None:
        """Return the next one, which has its place; `None` if there is none any more."""


class Places:
    """Where so many run at a time (`most`), and what waits for that."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        #: What begins next stands last: branches of branches before their parents' siblings, so that few are begun.
        self._ready: list[Source] = []
        #: Branches whose own branches have come to an end, and that wait for a place to go on.
        self._returning: deque[Signal] = deque()

    def begin(self, sources: Sequence[Source]) -> None:
        """Have these begun, the first one first, as soon as there are places."""
        self._ready += reversed(sources)
        while self.taken < self.most and (line := self._next()) is not None:
            self.taken += 1
            line.launch()

    def follow(self) -> Member | None:
        """Return what takes over a place, `None` if nothing does now."""
        line = None if self._returning else self._next()
        if line is None:
            self.give_back()
        return line

    def give_back(self) -> None:
        """Give a place back, without beginning anything in it."""
        if self._returning:
            self._returning.popleft().set()
        else:
            self.taken -= 1

    def rest(self) -> None:
        """Give up a place, for as long as branches below this one run."""
        line = self.follow()
        if line is not None:
            line.launch()

    async def go_on(self, signal: Signal) -> None:
        """Take a place again; none, if it is cut off while it waits for one."""
        if self.taken < self.most:
            self.taken += 1
            return
        self._returning.append(signal)
        try:
            while signal in self._returning:
                await signal.wait()
        except BaseException:
            if signal in self._returning:
                self._returning.remove(signal)
            else:
                self.give_back()
            raise

    def _next(self) -> Member | None:
        while self._ready:
            line = self._ready[-1].take()
            if line is not None:
                return line
            self._ready.pop()
        return None


class Beside:
    """What the branches of one activation share. `most`: how many of them run at a time."""

    def __init__(self, journal: Journal, most: int) -> None:
        self._journal = journal
        #: Of a `def` workflow: held by the thread that executes code of its body or of the engine.
        self.baton = Lock()
        #: Of an `async def` one: held by the branch that looks for an event.
        self.looking = asyncio.Lock()
        self.places = Places(most)
        #: How many run, wherever.
        self.running = 0
        #: By step: what has come for the waits of races while the run was suspended, and was not read yet.
        self.arrived: dict[str, tuple[Wait, Found]] = {}
        #: By step: what blocks a branch that may go on before the others have ended.
        self.blocked: dict[str, tuple[Wait, Member]] = {}
        #: Steps that wait once more, as far as that is not stored yet: their records say how the wait before has ended.
        self._opening: set[str] = set()
        #: Of branches that wait for those they have begun.
        self.signals: list[Signal] = []
        self._told: deque[WaitEnd] = deque()
        #: Events that were told of, by the step of the wait: once, whatever becomes of that.
        self._offered: set[tuple[str, int]] = set()

    # -- from elsewhere -------------------------------------------------------------------------------

    def waits(self) -> list[Wait]:
        """Return what blocks branches now, while others run."""
        if not self.signals:
            return []
        return [wait for wait, _line in list(self.blocked.values()) if wait.step not in self._opening]

    def tell(self, ends: Iterable[WaitEnd]) -> None:
        """Tell of waits that have ended."""
        events = self._journal.events
        for end in ends:
            if end.event_id is not None:
                if end.event_id in events or (end.wait.step, end.event_id) in self._offered:
                    continue
                self._offered.add((end.wait.step, end.event_id))
            self._told.append(end)
        if self._told:
            self.rouse()

    def rouse(self) -> None:
        """Let all that wait for branches look whether they still have to."""
        for signal in list(self.signals):
            signal.set()

    # -- waits that begin and end ---------------------------------------------------------------------

    def opens(self, wait: Wait) -> None:
        """Note a wait that is not stored yet, before it blocks a branch."""
        if wait.kind in _AGAIN:
            self._opening.add(wait.step)

    def stored(self, waits: Iterable[Wait]) -> None:
        """Note that these waits are stored."""
        self._opening.difference_update(wait.step for wait in waits)

    def hear(self) -> None:
        """Let branches go on whose waits have ended: the first to end first; of one moment, the first to be opened."""
        records, now = self._journal.records, clock.now()
        lines: dict[str, Member] = {}
        order: dict[str, tuple[datetime, int]] = {}
        while self._told:
            end = self._told.popleft()
            step = end.wait.step
            wait, line = self.blocked.get(step, (None, None))
            if line is None or wait is not end.wait:  # It has gone on since, and waits for another attempt perhaps.
                continue
            if end.state is not None:
                self._journal.become(step, end.state, end.at)
            lines[step] = line
            order[step] = min(order.get(step, (now, sys.maxsize)), (end.at or now, records[step].seq))
        if not lines:
            return
        # A child may have ended: looked for anew. What another branch has asked before is not to be noted there.
        self._journal.child_ends = {}
        woken = list(dict.fromkeys(lines[step] for step in sorted(lines, key=order.__getitem__)))
        ready: dict[Places, list[Source]] = {}
        for line in woken:
            for step in line.steps():
                self.blocked.pop(step, None)
            ready.setdefault(line.places, []).append(line.wake())
        for places, sources in ready.items():
            places.begin(sources)

    def forget(self, waits: Iterable[Wait]) -> None:
        """Let others have what comes for these: what they have blocked is decided."""
        for wait in waits:
            self.blocked.pop(wait.step, None)

    def take_arrived(self, wait: Wait) -> Found | None:
        """Return what has come for this wait, once, if it still waits for that, and no other has read it."""
        earlier, found = self.arrived.pop(wait.step, (wait, None))
        if found is None or found.id in self._journal.events:
            return None
        return found if (earlier.event, earlier.key) == (wait.event, wait.key) else None

    def is_anothers(self, wait: Wait, found: Found) -> bool:
        """Return whether an event belongs to a branch that has waited for it longer; that one goes on then."""
        if any(kept.id == found.id and step != wait.step for step, (_wait, kept) in self.arrived.items()):
            return True
        records = self._journal.records
        record = records.get(wait.step)
        since = self._journal.last_seq + 1 if record is None else record.seq
        for other, _line in self.blocked.values():
            matches = other.event == wait.event and (found.directed or other.key == wait.key)
            if matches and records[other.step].seq < since:
                self.tell([WaitEnd(other)])
                return True
        return False

    async def end(self, signal: Signal) -> None:
        """Wait until nothing runs any more: of a race that is decided, steps of others may be in flight."""
        self.signals.append(signal)
        while self.running:
            await signal.wait()
        self.signals.remove(signal)
