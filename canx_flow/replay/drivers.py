"""Drivers answer what operations ask for, through a port to the world. Here: what both share, and the sync one.

A worker's port talks to its committer, its heartbeat and its threads; the inline port of `canx_flow.testing`
writes on the caller's connection. The drivers decide nothing about a run that the operations could decide.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager
from contextvars import Context, copy_context
from threading import Lock
from typing import Any, NoReturn, Protocol

from asgiref.sync import async_to_sync
from django.db.utils import Error

from ..core import current
from ..core.callables import is_async, is_awaitable
from ..core.changes import Change, ClaimedRun, NotTaken, Outcome, Settle
from ..exceptions import InsideTransaction, StepTimeout
from ..states import PAUSED, RETRYING, SLEEPING, STOPPING, WAITING, Kind
from ..store.db import lending
from . import reports
from .activation import RELOAD, Activation, Leave
from .awaiting import in_context
from .connections import Transactions
from .endings import failed, outage
from .operations import Barrier, Block, Call, Found, Look, MayStart, Operation, Raised, Submit, Synced

_STALE_SECONDS = 0.05  # after which what the claim said of a run's state is asked again
_SUSPENDED_AS = {Kind.SLEEP: SLEEPING, Kind.WAIT: WAITING, Kind.RETRY: RETRYING}


class Ticket(Protocol):
    """A change handed in: wait for what became of it, from a thread or from the event loop."""

    def wait(self) -> Outcome: ...
    async def wait_async(self) -> Outcome: ...

    def then(self, call: Callable[[Outcome], object]) -> None:
        """Wait for nothing: whoever learns what became of it calls this, be it in the midst of another run."""


class SyncCode:
    """What an async run does in threads of its own. This one: nothing that need be looked after."""

    #: Whether it has ever done anything.
    used = False

    def settle(self, step: str) -> Awaitable[None] | None:  # noqa: ARG002
        """Have its one thread take its connections back; `InsideTransaction` if it cannot. `None`: there is no need."""
        return None

    def leave_behind(self) -> None:
        """A step is over: what it still has under way in threads is left behind."""


class Port(Protocol):
    """What a driver needs of the world around it."""

    def store(self, change: Change) -> Ticket:
        """Hand in a change; changes of one run are stored in the order handed in."""

    def look(self, activation: Activation, look: Look) -> Found | None:
        """The oldest unread event for this wait."""

    def may_start(self) -> bool:
        """False once this worker is stopping: it starts no further step."""

    def confirm_lease(self) -> bool:
        """Whether the lease still holds; blocks while that is uncertain, False once it is lost."""

    def lease_is_fresh(self) -> bool:
        """The same without blocking: True only if there is no doubt."""

    def call_atomic(self, call: Call, invoke: Callable[[], Any], gate: Gate) -> tuple[Outcome, Change, Any]:
        """`invoke()` and the change it leads to, in one transaction of this thread's connection."""

    def call_limited(self, call: Callable[[Gate], Any], timeout: float) -> Any:
        """`call` in a thread of its own, left behind after `timeout` seconds: then StepTimeout."""

    def await_limited(self, make: Callable[[], Coroutine[Any, Any, Any]], timeout: float, step: str) -> Any:
        """Run the coroutine that `make` makes, which keeps to its timeout; should it not, as `call_limited`."""

    def guard(self) -> AbstractContextManager[object] | None:
        """What is to be held around a step's function, by a thread; `None` where nothing needs it."""

    def entered(self, activation: Activation) -> None:
        """An activation begins: what the worker shows of itself."""

    def reload(self, run: ClaimedRun) -> None:
        """Load the run's journal and state again, for another replay by the same owner."""

    async def in_thread(self, call: Callable[[], Any]) -> Any:
        """`call` in a thread, for the event loop."""

    async def call_in_thread(self, call: Callable[[Gate], Any], timeout: float | None) -> Any:  # noqa: ASYNC109
        """As `call_limited`, for the event loop; the thread is left behind, too, when this is cancelled."""

    def sync_code(self) -> SyncCode:
        """What the run of this task does in threads of its own."""

    def interrupted(self, error: BaseException) -> bool:
        """Whether it comes from whoever started this process, as Ctrl-C in a test, and is no failure of a run's."""

    def connected(self) -> bool:
        """Whether this worker's own connection works."""


class Gate:
    """Who was first: a step with its result, or its timeout. Whoever shuts it first decides."""

    def __init__(self) -> None:
        self._lock = Lock()

    def shut(self) -> bool:
        """True for the first caller. An atomic step asks before it commits, and from then on is waited for."""
        return self._lock.acquire(blocking=False)


class Driver:
    """What both drivers share: changes handed in, and what is learned from what became of them."""

    def __init__(self, activation: Activation, port: Port) -> None:
        self.activation = activation
        self.port = port
        self._tickets: list[tuple[Change, Ticket]] = []
        #: Whether the run's state is known from after its claim.
        self._asked = False

    def submit(self, settle: Settle | None = None) -> None:
        activation = self.activation
        if activation.change is None and settle is None and not activation.publishes:
            return  # As before each step, mostly.
        change = activation.take_change(settle)
        if change is not None:
            self._hand_in(change)

    def has_news(self) -> bool:
        """Whether there is something to tell of what was handed in, once it is stored."""
        return any(change.failed for change, _ticket in self._tickets)

    def _hand_in(self, change: Change) -> None:
        self._asked = True
        self._tickets.append((change, self.port.store(change)))

    def _learn(self, change: Change, outcome: Outcome) -> Outcome:
        """Go on with what was stored; leave if it was not."""
        activation = self.activation
        if outcome.error is not None:
            # Nothing that was handed in after it has been stored either.
            self._tickets.clear()
            activation.start_over()
            activation.leave("a change could not be stored", failed(outcome.error))
        if outcome.awake and (change.settle is None or not outcome.stored):
            activation.leave("another attempt's result is stored", RELOAD)
        if not outcome.stored:
            reports.refused(activation.run, change)
            activation.lost("the run belongs to another owner, or has ended")
        activation.told = outcome.state
        return outcome

    def _go_on_if_ours(self, outcome: Outcome) -> None:
        if outcome.lost:  # It is stored, and told: the answer came after the run had got another owner.
            self.activation.lost("the run belongs to another owner")

    def _refuse_start(self) -> None:
        """Leave if no step may be started: the store told us of a pause or an end, or this worker is stopping."""
        if self.activation.told in (PAUSED, STOPPING):
            self.activation.hand_back(self.activation.told)
        if not self.port.may_start():
            self.activation.hand_back("the worker is stopping")

    def may_start(self) -> bool:
        return self.activation.told not in (PAUSED, STOPPING) and self.port.may_start()

    def _look(self, request: Look) -> Found | None:
        try:
            return self.port.look(self.activation, request)
        except Error as error:
            # No answer of the wait's, so the body must not be able to take it for one.
            self.activation.leave("an outage", outage(self.activation, error, connected=self.port.connected()))

    def _ask(self) -> None:
        """Learn how the run stands before its first step: it may have waited for its slot for a while."""
        self._asked = True
        if time.monotonic() - self.activation.run.claimed_at > _STALE_SECONDS:
            self._hand_in(self.activation.empty_change())

    def _is_ours(self, error: BaseException) -> bool:
        """Whether it was not a step's function that has raised it."""
        return isinstance(error, Leave) or self.port.interrupted(error)

    def block(self, request: Block) -> NoReturn:
        state = _SUSPENDED_AS[request.wait.kind]
        consumed = self.activation.journal.consumed_events() if request.wait.event is not None else frozenset()
        self.activation.leave("suspended", Settle(state, blocked=(request.wait,), consumed=consumed))

    def _atomic(self, call: Call, gate: Gate) -> Any:
        assert call.commit is not None
        try:
            outcome, change, value = self.port.call_atomic(call, lambda: _call_sync(call, Transactions()), gate)
        except NotTaken as error:
            cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
            self.activation.leave("an outage", outage(self.activation, cause, connected=self.port.connected()))
        if outcome.stored:
            self.activation.keep(change)
        self._learn(change, outcome)
        reports.stored(self.activation, change)
        self._go_on_if_ours(outcome)
        return value


class SyncDriver(Driver):
    """Runs a `def` workflow's operations in the thread of its body."""

    def __init__(self, activation: Activation, port: Port) -> None:
        super().__init__(activation, port)
        self._thread = lending.this_thread()
        self._transactions = Transactions()

    def perform(self, operation: Operation) -> Any:
        answer: Any
        try:
            request = next(operation)
            while True:
                answer = None
                try:
                    # The first three are every step's.
                    if type(request) is Call:
                        answer = self._answer_call(request)
                    elif request is Barrier:
                        self._barrier()
                    elif request is Submit:
                        self.submit()
                    else:
                        answer = self._answer(request)
                except BaseException as error:  # noqa: BLE001 - the operation decides, whatever it is
                    request = operation.throw(error)
                else:
                    request = operation.send(answer)
        except StopIteration as stop:
            return stop.value

    def last_ticket(self) -> Ticket:
        """Of what was handed in last: once that is stored, everything before it is."""
        return self._tickets[-1][1]

    def sync(self) -> Outcome | None:
        """Wait until everything handed in is stored; what became of the last of it."""
        outcome = None
        while self._tickets:
            change, ticket = self._tickets.pop(0)
            outcome = self._learn(change, ticket.wait())
            reports.stored(self.activation, change)
            self._go_on_if_ours(outcome)
        return outcome

    def refuse_transaction(self) -> None:
        """A body that holds a transaction open would hold it over a commit, a sleep or a suspension."""
        alias = self._transactions.changed()
        if alias is not None:
            raise InsideTransaction(
                f"the body of run {self.activation.run.id} called its context inside a transaction on "
                f"{alias!r}. Open transactions inside steps, or use a step with atomic=True."
            )

    def restore_transactions(self) -> None:
        """Roll back what the body has left open."""
        self._transactions.restore()

    def refuse_left_open(self) -> None:
        """A body that ends inside a transaction has lost what it wrote there."""
        alias = self._transactions.changed()
        if alias is not None:
            raise InsideTransaction(
                f"the body of run {self.activation.run.id} has ended and left a transaction open on {alias!r}, or "
                f"autocommit off: what it wrote there is rolled back."
            )

    def _answer(self, request: Any) -> Any:
        if request is Synced:
            self.submit()
            return self.sync()
        if request is MayStart:
            return self.may_start()
        if isinstance(request, Look):
            return self._look(request)
        return self.block(request)

    def _barrier(self) -> None:
        self.submit()
        if not self._asked:
            self._ask()
        if self._tickets:
            self.sync()
        self._refuse_start()
        if not self.port.lease_is_fresh() and not self.port.confirm_lease():
            self.activation.lost("the lease ran out")

    def _answer_call(self, call: Call) -> Any:
        # In a copy of the body's context: on replay the function is not called, so the body may not see what it has
        # set.
        within = copy_context()
        within.run(current.step.set, call.step)
        try:
            guard = self.port.guard()
            if guard is None and call.timeout is None and call.commit is None:
                return self._call_plainly(call, within)
            return within.run(self._call, call, guard)
        except BaseException as error:
            if self._is_ours(error):
                raise
            return Raised(error)

    def _call_plainly(self, call: Call, within: Context) -> Any:
        """In the body's own thread, with nothing around it. Mostly it uses no connection: then nothing else is done."""
        transactions = self._transactions
        if transactions.in_use():
            return within.run(self._call_here, call)
        try:
            value = within.run(call.function, *call.arguments)
            if is_awaitable(value):
                value = within.run(async_to_sync(limited), value, call)
        except BaseException:
            if transactions.in_use():
                within.run(self._leave_step)
            raise
        if transactions.in_use():
            within.run(self._leave_step, call.step.name)
        return value

    def _leave_step(self, step: str | None = None) -> None:
        """After a step that has opened a connection; `step`: its name, if it has not failed by itself."""
        try:
            if step is None:
                self._transactions.restore()
            else:
                self._transactions.refuse_changed(step)
        finally:
            self._thread.end_step()

    def _call(self, call: Call, guard: AbstractContextManager[object] | None) -> Any:
        if guard is None:
            return self._call_in_time(call)
        with guard:
            return self._call_in_time(call)

    def _call_in_time(self, call: Call) -> Any:
        if call.timeout is None:
            return self._call_here(call)
        if is_async(call.function):
            step = call.step.name
            return self.port.await_limited(lambda: limited(in_context(copy_context(), call), call), call.timeout, step)
        within = copy_context()
        return self.port.call_limited(lambda gate: within.run(self._call_apart, call, gate), call.timeout)

    def _call_here(self, call: Call) -> Any:
        """In the body's own thread, where transactions stand as when it began: it was refused anything else."""
        self._thread.begin_step()
        try:
            return _call_sync(call, self._transactions) if call.commit is None else self._atomic(call, Gate())
        finally:
            self._thread.end_step()

    def _call_apart(self, call: Call, gate: Gate) -> Any:
        """In a thread of its own."""
        thread = lending.this_thread()
        thread.begin_step()
        try:
            return _call_sync(call, Transactions()) if call.commit is None else self._atomic(call, gate)
        finally:
            thread.end_step()


def _call_sync(call: Call, transactions: Transactions) -> Any:
    """Call a step's function from a thread; what it awaits is run to its end, and it leaves no transaction open."""
    try:
        value = call.function(*call.arguments)
        if is_awaitable(value):
            value = async_to_sync(limited)(value, call)
    except BaseException:
        transactions.restore()
        raise
    transactions.refuse_changed(call.step.name)
    return value


async def limited(awaitable: Awaitable[Any], call: Call) -> Any:
    if call.timeout is None:
        return await awaitable
    try:
        async with asyncio.timeout(call.timeout) as limit:
            return await awaitable
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise timed_out(call.timeout) from error


def timed_out(timeout: float | None) -> StepTimeout:
    return StepTimeout(f"the attempt took longer than its timeout of {timeout:g} seconds")
