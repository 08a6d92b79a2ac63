"""The protocol between operations and the world, written once for both kinds of workflow; one driver for each branch.

Operations await it. In an event loop its waits suspend; in the thread of a `def` workflow they block instead, so that
a coroutine runs to its end at once. What must differ is named in
`base_driver`, and stands in `sync_driver` and `async_driver`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any, NoReturn

from django.db.utils import Error

from ..core.changes import Change, NotTaken, Outcome, Settle
from ..core.limits import Admission, Request
from . import limiting, reports
from .activation import RELOAD, Leave
from .awaiting import called
from .base_driver import BaseDriver
from .beside import Beside, Member
from .branch import Branch
from .branch_port import BranchPort
from .call import Call, Found, Gate, Raised
from .connections import Transactions, closed
from .endings import failed, outage
from .port import Port, Ticket

_STALE_SECONDS = 0.05  # after which what the claim said of a run's state is asked again


class Driver(BaseDriver):
    """Hands in what a branch has to store, learns what became of it, and lets a step begin only if it may."""

    def __init__(self, branch: Branch, port: Port) -> None:
        self.branch = branch
        self.activation = branch.activation
        self.port = port
        self._lease = port.lease
        #: What was handed in, and is not known to be stored.
        self.tickets: deque[tuple[Change, Ticket]] = deque()
        #: Of a branch below the body: the driver of the one that has begun it, and its place beside others, if any.
        self.above: Driver | None = None
        self.line: Member | None = None

    # -- branches beside it -------------------------------------------------------------------

    def below(self, branch: Branch) -> Driver:
        """Return the driver of a branch below this one."""
        driver = type(self)(branch, self.port)
        driver.above = self
        if self.activation.beside is not None:
            driver.share(self.activation.beside)
        return driver

    def side_by_side(self) -> Beside:
        """Return where this activation's branches run side by side, from now on."""
        beside = self.activation.beside
        if beside is None:
            beside = self.activation.beside = Beside(self.branch.journal, self.port.places)
            beside.baton.acquire()
            for driver in self._up():
                driver.share(beside)
            self.port.watch(self.branch.run.id, beside)
        return beside

    def share(self, beside: Beside) -> None:
        """Have the port that branches have of which each lets the others go on."""
        self.port = BranchPort(self.port, self.branch, None if self.awaits else beside.baton)
        self._lease = self.port.lease

    def adopt(self, driver: Driver) -> None:
        """Take over what a branch below this one has left to be stored, and what it has not heard of."""
        self.branch.absorb(driver.branch)
        self.tickets.extend(driver.tickets)

    def _up(self) -> Iterator[Driver]:
        yield self
        if self.above is not None:
            yield from self.above._up()

    # -- the protocol -------------------------------------------------------------------------

    def submit(self, settle: Settle | None = None) -> None:
        """Have what was collected stored, with the run's end if one is given; wait for nothing."""
        branch = self.branch
        if settle is None and branch.change is None and not self.activation.published.used:
            return  # As before each step, mostly.
        change = branch.take_change(settle)
        if change is not None:
            self._hand_in(change)

    async def sync(self) -> Outcome | None:
        """Wait until everything handed in is stored; return what became of the last of it."""
        outcome = None
        while self.tickets:
            change, ticket = self.tickets[0]
            answer = await self.outcome(ticket)
            # A call that was cut off here has left it to the next one, and two that wait for it take it once.
            if not self.tickets or self.tickets[0][1] is not ticket:
                continue
            self.tickets.popleft()
            outcome = self._learn(change, answer)
            if change.failed or reports.steps_listened_to():
                await self.apart(partial(reports.stored, self.activation.run, change))
            if outcome.lost:
                self._lose()
        return outcome

    async def flush(self) -> None:
        """Have what was collected stored, and wait for it."""
        self.submit()
        await self.sync()

    async def barrier(self) -> None:
        """Wait until everything is stored; leave if the worker may not start a step of this run now."""
        self.submit()
        if not self.activation.asked:
            self._ask()
        if self.tickets:
            await self.sync()
        if not self.may_start():
            self.refuse_start()
        lease = self._lease
        if not lease.is_fresh():
            if not await self.apart(lease.wait_fresh):
                self.activation.lose("the lease ran out")
            self.ask_anew()  # That may have taken long.
            await self.barrier()

    def may_start(self) -> bool:
        """Return whether a step may be started, as far as the last commit has told."""
        activation = self.activation
        return activation.told not in activation.halted_by and self._lease.may_start()

    async def admit(self, request: Request) -> Admission:
        """Ask the bucket of a step's limit."""
        return await limiting.ask(self, request)

    async def stay(self, seconds: float) -> None:
        """Wait for so long, with the step's place in hand; leave if no step of this run may be started any more."""
        await limiting.stay(self, seconds)

    async def linger(self, seconds: float) -> None:
        """Wait, while other branches go on."""
        await self.pause(seconds)

    def ask_anew(self) -> None:
        """Have the store tell how the run stands now."""
        self._hand_in(self.branch.empty_change())

    async def find_event(self, event: str, key: str | None) -> Found | None:
        """Return the oldest unread event that ends a wait for this name and key."""
        found: Found | None = await self.look(self.port.store.find_event, self.activation.journal, event, key)
        return found

    async def look(self, find: Callable[..., Any], *arguments: Any) -> Any:
        """Ask the store about the run; leave if the database is away."""
        try:
            return await self.ask(partial(find, self.activation.run, *arguments))
        except Error as error:
            # No answer of the wait's, so the body must not be able to take it for one.
            self.activation.leave("an outage", self.outage(error))

    async def still_undoes(self) -> bool:
        """Return whether what is left to be undone still is to be: `cancel(undo=False)` says no."""
        wanted: bool = await self.ask(partial(self.port.store.has_undo, self.activation.run))
        return wanted

    async def one_by_one(self, look: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Do this while no other branch does the like: who does it has the baton."""
        return await look()

    # -- its parts ----------------------------------------------------------------------------

    def _hand_in(self, change: Change) -> None:
        self.activation.asked = True
        self.tickets.append((change, self.port.store.hand_in(change)))

    def _learn(self, change: Change, outcome: Outcome) -> Outcome:
        """Go on with what was stored; leave if it was not."""
        activation = self.activation
        if not outcome.stored or (outcome.awake and change.settle is None):
            if outcome.error is not None:
                # What was handed in after it is stored only if it does not build on it: nobody waits for that.
                self.tickets.clear()
                self.branch.start_over()
                activation.start_over()
                activation.leave("a change could not be stored", failed(outcome.error))
            if outcome.awake:
                activation.leave("another attempt's result is stored", RELOAD)
            if activation.leaving is not None and change.chain is not activation.chain:
                raise activation.leaving  # A change of another branch, before it, was not stored: that one knows why.
            reports.refused(activation.run, change)
            activation.lose("the run belongs to another owner, or has ended")
        if change.waits.opens and activation.beside is not None:
            activation.beside.stored(change.waits.opens)
        activation.told = outcome.state
        return outcome

    def _lose(self) -> NoReturn:
        """Leave a run whose change is stored, and told of; the answer came after the run had got another owner."""
        self.activation.lose("the run belongs to another owner")

    def refuse_start(self) -> NoReturn:
        """Leave: the store told of a pause or an end, or this worker is stopping, or other branches have decided."""
        if self.branch.leaving is not None:
            raise self.branch.leaving
        activation = self.activation
        activation.hand_back(activation.told if activation.told in activation.halted_by else "the worker is stopping")

    def _ask(self) -> None:
        """Learn how the run stands before its first step: it may have waited for its slot for a while."""
        self.activation.asked = True
        if time.monotonic() - self.activation.run.claimed_at > _STALE_SECONDS:
            self._hand_in(self.branch.empty_change())

    def outage(self, error: Exception) -> Settle:
        """Return how the run is left after an error of the database, which other branches may have met before."""
        if self.activation.leaving is not None:
            raise self.activation.leaving
        *_, root = self._up()
        return outage(root.branch, error, connected=self.port.store.works())

    def is_ours(self, error: BaseException) -> bool:
        """Return whether it was not a step's function that has raised it."""
        return isinstance(error, Leave) or self.port.threads.interrupted(error)

    def call_atomic(self, call: Call, gate: Gate) -> Any:
        """Call an atomic step and have its record written, in one transaction of this thread's connection."""
        return self.port.store.call_atomic(call, lambda: closed(Transactions(), call.step.name, called, call), gate)

    async def learn_atomic(self, answer: Any) -> Any:
        """Go on with what became of an atomic step; return what it returns, or `Raised`."""
        if type(answer) is Raised:
            if isinstance(answer.error, NotTaken):
                cause = answer.error.__cause__ if isinstance(answer.error.__cause__, Exception) else answer.error
                self.activation.leave("an outage", self.outage(cause))
            return answer
        outcome, change, value = answer
        if outcome.stored:
            self.branch.keep(change)
        self._learn(change, outcome)
        if change.failed or reports.steps_listened_to():
            await self.apart(partial(reports.stored, self.activation.run, change))
        if outcome.lost:
            self._lose()
        return value
