"""What differs for a `def` workflow: its thread blocks instead of suspending, and calls most steps itself.

Used by the executor, by `Context`, and by a worker's slots, which need not wait for an end that was handed in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager
from contextvars import Context as Variables
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from inspect import iscoroutine
from types import coroutine
from typing import Any

from asgiref.sync import async_to_sync

from ..core import current
from ..core.callables import is_async, is_awaitable
from ..core.changes import Outcome, Settle
from ..exceptions import InsideTransaction
from ..store.db import lending
from . import reports
from .awaiting import called, finisher, in_context, limited
from .beside import Line, Member, Signal
from .branch import Branch
from .call import Call, Gate, Raised
from .connections import Transactions, closed
from .driver import Driver
from .port import Port, Ticket
from .serving import ThreadSignal, serve, serve_and_give
from .team import Team


@dataclass(frozen=True, slots=True)
class Departure:
    """A body has come to its end, and how its run is left is handed in: its thread may turn to another run."""

    settle: Settle
    ticket: Ticket
    #: Whether something is to be told of what is stored before it, or with it.
    news: bool = False

    def is_quiet(self) -> bool:
        """Return whether nothing is to be told of it, if all goes well."""
        return not self.news and not reports.is_told(self.settle, self.settle.state)

    def is_over(self, outcome: Outcome) -> bool:
        """Return whether nothing is left to be done after this outcome."""
        return outcome.stored and not outcome.awake and outcome.state == self.settle.state and self.is_quiet()


def until_departure(activation: Coroutine[Departure, None, str]) -> Departure | None:
    """Run an activation until its end is handed in; `None` if it is over, because nothing was left to hand in."""
    try:
        return activation.send(None)
    except StopIteration:
        return None


def conclude(activation: Coroutine[Departure, None, str]) -> str:
    """Run an activation to its end, waiting for what it hands in; return the state its run was left in."""
    while True:
        try:
            activation.send(None)
        except StopIteration as end:
            state: str = end.value
            return state


@coroutine
def _depart(departure: Departure) -> Generator[Departure, None, None]:
    yield departure


class SyncDriver(Driver):
    """Drives a branch of a `def` workflow in its thread."""

    def __init__(self, branch: Branch, port: Port) -> None:
        super().__init__(branch, port)
        self._thread = lending.this_thread()
        self._transactions = Transactions()
        #: Whether the body may have a transaction open. Looked up once: asked at every call of its context.
        self.may_hold_transaction = self._transactions.in_use
        self._finish = finisher()

    def finish(self, operation: Coroutine[Any, Any, Any]) -> Any:
        """Run an operation to its end, which never suspends here; return what it returns."""
        try:
            return self._finish(operation)
        except BaseException:
            self._finish = finisher()
            raise

    async def outcome(self, ticket: Ticket) -> Outcome:
        """Block until it is known."""
        return ticket.wait()

    async def apart(self, call: Callable[[], Any]) -> Any:
        """Call it here: no other run waits for this thread."""
        return call()

    async def pause(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)  # noqa: ASYNC251 - a thread's own

    async def linger(self, seconds: float) -> None:
        """Sleep; other branches have the baton meanwhile."""
        beside = self.activation.beside
        if beside is None:
            await self.pause(seconds)
            return
        beside.baton.release()
        try:
            await self.pause(seconds)
        finally:
            beside.baton.acquire()

    async def depart(self, settle: Settle) -> None:
        """Suspend: the slot that runs this activation decides which thread waits for it."""
        news = any(change.failed for change, _ticket in self.tickets)
        await _depart(Departure(settle, self.tickets[-1][1], news))

    # -- branches beside it -------------------------------------------------------------------

    def signal(self) -> Signal:
        """Return one that a thread waits for."""
        beside = self.activation.beside
        assert beside is not None
        return ThreadSignal(beside.baton)

    def launch(self, member: Member) -> None:
        """Enter it in another thread; one after another, here, where there is no other."""
        if self.port.places == 1:
            serve(member)
            return
        beside = self.activation.beside
        assert beside is not None
        # The baton goes with it: what is launched first comes first to whatever it waits for.
        self.port.threads.begin(partial(serve_and_give, member, beside.baton))
        beside.baton.acquire()

    async def in_turn(self, member: Line) -> None:
        """Enter it in this thread."""
        copy_context().run(finisher(), member.enter())

    async def awaited(self, value: Any) -> Any:
        """Refuse it."""
        if iscoroutine(value):
            value.close()
        raise TypeError(
            f"a branch of run {self.branch.run.id} has returned what is to be awaited: branches of a `def` workflow "
            f"are plain functions. In an `async def` workflow they may be async."
        )

    async def cut_off(self, team: Team) -> None:
        """Do nothing: threads cannot be cut off."""

    # -- the body -----------------------------------------------------------------------------

    async def isolated(self, replay: Coroutine[Any, Any, Settle | None]) -> Settle | None:
        """Run it in a copy of this thread's variables."""
        settle: Settle | None = copy_context().run(finisher(), replay)
        return settle

    def refuse_transaction(self) -> None:
        """Refuse a context call inside a transaction: it would be held over a commit, a sleep or a suspension."""
        alias = self._transactions.changed()
        if alias is not None:
            raise InsideTransaction(
                f"the body of run {self.branch.run.id} called its context inside a transaction on "
                f"{alias!r}. Open transactions inside steps, or use a step with atomic=True."
            )

    async def end_body(self, raised: BaseException | None) -> BaseException | None:
        """Refuse an end inside a transaction: what the body wrote there is lost."""
        alias = self._transactions.changed() if raised is None else None
        if alias is None:
            return raised
        return InsideTransaction(
            f"the body of run {self.branch.run.id} has ended and left a transaction open on {alias!r}, or "
            f"autocommit off: what it wrote there is rolled back."
        )

    def let_go(self) -> None:
        """Roll back what the body has left open."""
        self._transactions.restore()

    def closes(self, error: BaseException) -> bool:
        """Return whether it is Ctrl-C in a test."""
        return self.port.threads.interrupted(error)

    # -- steps --------------------------------------------------------------------------------

    async def call(self, call: Call) -> Any:
        """Call it in this thread, or in another one if it has a timeout.

        In a copy of the body's variables: on replay the function is not called, so the body may not see what it has
        set.
        """
        within = copy_context()
        within.run(current.step.set, call.step)
        try:
            guard = self.port.threads.guard()
            if guard is None and call.timeout is None and call.commit is None:
                return self._call_plainly(call, within)
            return within.run(self._call, call, guard)
        except BaseException as error:
            if self.is_ours(error):
                raise
            return Raised(error)

    def _call_plainly(self, call: Call, within: Variables) -> Any:
        """Call it with nothing around it. Mostly it uses no connection: then nothing else is done."""
        transactions = self._transactions
        if transactions.in_use():
            return within.run(self._call_here, call)
        try:
            value = within.run(call.function, *call.arguments)
            if is_awaitable(value):
                value = within.run(async_to_sync(limited), value, call.timeout)
        except BaseException:
            if transactions.in_use():
                within.run(self._end_step)
            raise
        if transactions.in_use():
            within.run(self._end_step, call.step.name)
        return value

    def _end_step(self, step: str | None = None) -> None:
        """Take the connections back from a step that has opened one; `step`: its name, if it has not failed."""
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
            return self.port.threads.await_limited(
                lambda: limited(in_context(copy_context(), call), call.timeout), call.timeout, call.step.name
            )
        within = copy_context()
        return self.port.threads.limited(lambda gate: within.run(self._call_apart, call, gate), call.timeout)

    def _call_here(self, call: Call) -> Any:
        """Call it in the body's own thread, whose transactions stand as when the body began."""
        transactions = self._transactions
        if call.commit is not None or transactions.in_use():
            return self._call_in(self._thread, transactions, call, None)
        try:
            value = called(call)
        except BaseException:
            if transactions.in_use():
                self._end_step()
            raise
        if transactions.in_use():
            self._end_step(call.step.name)
        return value

    def _call_apart(self, call: Call, gate: Gate) -> Any:
        """Call it in a thread of its own."""
        return self._call_in(lending.this_thread(), None, call, gate)

    def _call_in(self, thread: lending.Thread, transactions: Transactions | None, call: Call, gate: Gate | None) -> Any:
        thread.begin_step()
        try:
            if call.commit is not None:
                return self.call_atomic(call, gate or Gate())
            return closed(transactions or Transactions(), call.step.name, called, call)
        finally:
            thread.end_step()
