"""A change handed in to the committer, and how its outcome is waited for: by a thread, by a task, or by a call.

Made by the committer for whatever a run wants stored; what replay's port calls a ticket.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

from ..core.changes import Change, Outcome
from ..observe import announce, facts
from .upkeep import PATIENCE, give_back_connections

_REFUSED = Outcome(False)

Call = Callable[[Outcome], object]


class Leader(Protocol):
    """The committer, as its tickets know it."""

    @property
    def failing(self) -> bool: ...
    def wait(self, ticket: Ticket) -> None: ...
    def is_answered(self, ticket: Ticket) -> bool: ...
    def call_later(self, ticket: Ticket, call: Call) -> bool: ...
    def lead_in_background(self) -> None: ...


class Ticket:
    """One change. Its outcome comes once; it is set under the committer's mutex, by the thread that leads."""

    #: What became of the change; `None` until that is known.
    outcome: Outcome | None = None
    #: Another transaction has locked the row of its run: it is in no queue until the next tick.
    held = False
    #: The ticket whose thread is woken next, by the thread of this one.
    _after: Ticket | None = None
    _lock: threading.Lock | None = None
    _future: asyncio.Future[Outcome] | None = None
    _call: Call | None = None

    def __init__(self, change: Change, committer: Leader) -> None:
        self.change = change
        self._committer = committer

    # -- waiting: called by the slot or task whose change it is ------------------------------------------

    def wait(self) -> Outcome:
        """Block until it is stored or refused; lead the commit if there is no other change."""
        while self.outcome is None:
            self._committer.wait(self)
        return self.outcome

    async def wait_async(self) -> Outcome:
        """Wait in the event loop until it is stored or refused."""
        if not self._committer.is_answered(self):
            future = self._future = asyncio.get_running_loop().create_future()
            self._committer.lead_in_background()
            # Asked again: the outcome may have come before the future was there.
            if self.outcome is None:
                outcome: Outcome = await future
                return outcome
        assert self.outcome is not None
        return self.outcome

    def then(self, call: Call) -> None:
        """Wait for nothing: the thread that writes it calls this, even in the midst of another run. Be short."""
        if not self._committer.call_later(self, call):
            assert self.outcome is not None
            call(self.outcome)

    def block(self) -> None:
        """Sleep until the outcome is there, then wake the thread that comes next. After `prepare`."""
        assert self._lock is not None
        while not self._lock.acquire(timeout=PATIENCE):
            if self._committer.failing:
                give_back_connections()
        after, self._after = self._after, None
        if after is not None:
            after.rouse()

    # -- under the committer's mutex -----------------------------------------------------------------------

    def prepare(self) -> None:
        """Have its thread sleep on a lock from now on."""
        self._lock = threading.Lock()
        self._lock.acquire()

    def remember(self, call: Call) -> None:
        """Have this called with the outcome."""
        self._call = call

    def answer(self, outcome: Outcome) -> None:
        """Set the outcome."""
        self.outcome = outcome

    def refuse(self) -> None:
        """Set the outcome of a change that is not written any more."""
        self.outcome = _REFUSED

    def hold(self) -> None:
        """Take note that it is in no queue until the next tick."""
        self.held = True

    def release(self) -> None:
        """Take note that it is in the queue again."""
        self.held = False

    @property
    def is_awaited(self) -> bool:
        """Whether a thread, a task or a call waits for the outcome."""
        return self._lock is not None or self._future is not None or self._call is not None

    # -- after the outcome is set --------------------------------------------------------------------------

    def take_call(self) -> Call | None:
        """Return what is to be called with the outcome, and forget it: nothing of a run may outlive its end."""
        call, self._call = self._call, None
        return call

    def wakes(self, after: Ticket) -> None:
        """Have its thread wake the one of another ticket, once it is awake."""
        self._after = after

    def rouse(self) -> None:
        """Wake its thread."""
        assert self._lock is not None
        self._lock.release()

    def resolve(self) -> None:
        """Let its task go on. In the event loop."""
        if self._future is not None and not self._future.done() and self.outcome is not None:
            self._future.set_result(self.outcome)


def go_on(answered: Sequence[Ticket]) -> None:
    """Let everything go on that waits for these outcomes: threads, tasks, and calls last, which may take their time."""
    sleeping: list[Ticket] = []
    loops: dict[asyncio.AbstractEventLoop, list[Ticket]] = {}
    calling: list[Ticket] = []
    for ticket in answered:  # By their fields: this is done for each change.
        if ticket._lock is not None:
            sleeping.append(ticket)
        elif ticket._future is not None:
            loops.setdefault(ticket._future.get_loop(), []).append(ticket)
        elif ticket._call is not None:
            calling.append(ticket)
    _wake(sleeping)
    for loop, tickets in loops.items():
        _resolve(loop, tickets)
    for ticket in calling:
        _call(ticket)


def _wake(sleeping: Sequence[Ticket]) -> None:
    """Wake threads in a chain, each by the one before it: all at once they would only compete for the GIL."""
    for ticket, after in pairwise(sleeping):
        ticket.wakes(after)
    if sleeping:
        sleeping[0].rouse()


def _resolve(loop: asyncio.AbstractEventLoop, tickets: Sequence[Ticket]) -> None:
    """Let tasks go on in their event loop: a worker has one, and another one once that has broken."""
    try:
        loop.call_soon_threadsafe(_resolve_all, tickets)
    except RuntimeError:
        announce(facts.LoopGone())


def _resolve_all(tickets: Sequence[Ticket]) -> None:
    for ticket in tickets:
        ticket.resolve()


def _call(ticket: Ticket) -> None:
    call = ticket.take_call()
    if call is None:
        return
    assert ticket.outcome is not None
    try:
        call(ticket.outcome)
    except Exception as error:  # noqa: BLE001 - the thread that wrote it and the rest of its batch go on
        announce(facts.AfterStoreFailed(error))
