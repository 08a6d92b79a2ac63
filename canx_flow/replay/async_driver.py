"""What differs for an `async def` workflow: its task suspends in the worker's event loop, and steps run there, or in
threads. Used by the executor and by `AsyncContext`.

What comes to a step from outside, as by a timeout that the body has put around its call, cuts it off and is recorded
as nothing: the step is called again when it is asked for again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, suppress
from contextvars import Context as Variables
from contextvars import copy_context
from functools import partial
from typing import Any

from ..core import current
from ..core.callables import is_async, is_awaitable
from ..core.changes import Outcome, Settle
from ..exceptions import InsideTransaction, NotAwaited
from ..store.db import lending
from .activation import Leave
from .awaiting import in_context, limited
from .beside import Line, Member, Signal
from .branch import Branch
from .call import Call, Gate, Raised
from .calls import Calls, ContextCall, this_task
from .connections import Transactions, closed
from .driver import Driver
from .port import Port, Ticket
from .team import Team

_DEPTH = 5  # of the body, seen from ContextCall: verb, shared verb, perform, make


class _LoopSignal:
    """Waited for by a task; set by any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def set(self) -> None:
        if asyncio._get_running_loop() is self._loop:
            self._event.set()
            return
        with suppress(RuntimeError):  # The loop has broken at this moment, and the run with it.
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self) -> None:
        await self._event.wait()
        self._event.clear()


class AsyncDriver(Driver):
    """Drives a branch of an `async def` workflow, in its task or in a task that its body made of a call."""

    awaits = True

    def __init__(self, branch: Branch, port: Port) -> None:
        super().__init__(branch, port)
        self.calls = Calls(branch)
        self._sync_code = port.threads.sync_code()

    def outcome(self, ticket: Ticket) -> Coroutine[Any, Any, Outcome]:
        """Suspend until it is known."""
        return ticket.wait_async()

    async def apart(self, call: Callable[[], Any]) -> Any:
        """Call it in a thread."""
        return await self.port.threads.beside(call)

    async def ask(self, call: Callable[[], Any]) -> Any:
        """Call it in one of a few threads."""
        return await self.port.threads.ask_beside(call)

    async def pause(self, seconds: float) -> None:
        """Let other tasks go on meanwhile."""
        await asyncio.sleep(seconds)

    async def depart(self, settle: Settle) -> None:
        """Go on at once: a task that waits holds no thread."""

    def make(self, verb: str, name: str, operation: Callable[..., Any], *arguments: Any) -> Coroutine[Any, Any, Any]:
        """Return what the body awaits, or makes a task of: nothing of it has begun."""
        call = ContextCall(verb, name, _DEPTH)
        return self.calls.add(call, self._perform(call, operation, arguments))

    async def _perform(self, call: ContextCall, operation: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Do what a call asks for. One at a time: they are numbered and stored in their order."""
        self.calls.begin(call)
        try:
            if self._sync_code.used and (taken_back := self._sync_code.take_back("")) is not None:
                # What the body itself has left open would wait for this very call, on SQLite for ever.
                await taken_back
            return await operation(self, *arguments)
        except Leave:
            self.calls.leave_body()
            raise
        finally:
            self.calls.end()

    # -- branches beside it -------------------------------------------------------------------

    def signal(self) -> Signal:
        """Return one that a task waits for."""
        return _LoopSignal()

    def launch(self, member: Member) -> None:
        """Enter it in a task of its own."""
        tasks, variables = member.team.tasks, member.team.variables.copy()
        task = asyncio.get_running_loop().create_task(self._serve(member), context=variables)
        tasks.add(task)
        task.add_done_callback(partial(_ended, member))

    async def _serve(self, member: Member) -> None:
        following: Member | None = member
        with self.port.threads.own_code():
            # Items of one map follow each other in one task: steps set nothing in it.
            while following is member or (following and following.shares_task and following.team is member.team):
                following = await following.serve()
        if following is not None:
            following.launch()

    async def in_turn(self, member: Line) -> None:
        """Enter it in a task of its own, which is cut off with this one."""
        loop, variables = asyncio.get_running_loop(), member.team.variables.copy()
        if (error := await loop.create_task(self._alone(member), context=variables)) is not None:
            raise error

    async def _alone(self, member: Line) -> BaseException | None:
        """Enter it; return what it raises: Ctrl-C that leaves a task breaks its event loop."""
        with self.port.threads.own_code():
            try:
                await member.enter()
            except BaseException as error:  # noqa: BLE001
                return error
        return None

    async def awaited(self, value: Any) -> Any:
        """Await it in the branch's task."""
        return await value

    async def one_by_one(self, look: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Do this while no other branch does the like."""
        beside = self.activation.beside
        if beside is None:
            return await look()
        async with beside.looking:
            return await look()

    async def cut_off(self, team: Team) -> None:
        """Cancel their tasks, and wait for these, whoever cancels that."""
        for task in list(team.tasks):
            task.cancel()
        while team.running and not self.activation.abandoned:
            with suppress(asyncio.CancelledError):
                await team.signal.wait()

    # -- the body -----------------------------------------------------------------------------

    async def isolated(self, replay: Coroutine[Any, Any, Settle | None]) -> Settle | None:
        """Run it here: a task has variables of its own."""
        return await replay

    async def end_body(self, raised: BaseException | None) -> BaseException | None:
        """Refuse an end with calls that were not awaited; end those, and what the body has begun in threads."""
        if raised is None:
            raised = self.not_awaited("returned")
        await self.calls.close()
        left_open = await self._take_back()
        return raised or left_open

    def not_awaited(self, did: str) -> NotAwaited | None:
        """Return the error of a body that has ended without what it asked for: its run must not be completed then.

        `did`: how it has ended.
        """
        call = self.calls.forgotten()
        if call is None:
            return None
        return NotAwaited(
            f"run {self.branch.run.id} {did} before {call.what} at {call.where} was awaited to its end: write "
            f"`await {call.what.partition('(')[0]}(…)`"
        )

    async def _take_back(self) -> Exception | None:
        """Have the thread of the body's sync code take its connections back; return what was left open there.

        However the body has ended: on SQLite, and behind a row lock, the run's own end would wait for it without end.
        """
        try:
            if (taken_back := self._sync_code.take_back("")) is not None:
                await taken_back
        except Exception as error:  # noqa: BLE001 - the body's, whatever it is
            return error
        return None

    def let_go(self) -> None:
        """Do nothing: `end_body` has taken everything back."""

    def closes(self, error: BaseException) -> bool:
        """Return whether this ends the body's task from outside: the worker leaves, or Python lets go of the task."""
        if isinstance(error, asyncio.CancelledError):
            return self.activation.abandoned
        interrupted = self.port.threads.interrupted(error)
        return interrupted or (isinstance(error, GeneratorExit) and this_task() is not self.calls.task)

    # -- steps --------------------------------------------------------------------------------

    def call(self, call: Call) -> Coroutine[Any, Any, Any]:
        """Call it in this task, or a plain one in a thread; in a copy of the body's variables."""
        guard = self.port.threads.guard()
        return self._call(call) if guard is None else self._call_guarded(call, guard)

    async def _call(self, call: Call) -> Any:
        task = asyncio.current_task()
        assert task is not None
        cancelled = task.cancelling()
        sync_code = self._sync_code
        within = copy_context()
        within.run(current.step.set, call.step)
        try:
            if not is_async(call.function):
                answer = await self._call_plain(call, within)
            elif call.timeout is None:
                answer = await in_context(within, call)
            else:
                answer = await limited(in_context(within, call), call.timeout)
            if sync_code.used and (taken_back := sync_code.take_back(call.step.name)) is not None:
                await taken_back
            return answer
        except BaseException as error:
            if self._cuts_off(error, task, cancelled):
                raise
            if (taken_back := sync_code.take_back(call.step.name)) is not None:
                with suppress(InsideTransaction):  # Its own error is told.
                    await taken_back
            return Raised(error)
        finally:
            if sync_code.used:
                sync_code.leave_behind()

    async def _call_guarded(self, call: Call, guard: AbstractContextManager[object]) -> Any:
        """Call it with something held around it."""
        await self.apart(guard.__enter__)
        try:
            answer = await self._call(call)
        except BaseException as error:
            await self.apart(partial(guard.__exit__, type(error), error, error.__traceback__))
            raise
        raised = answer.error if type(answer) is Raised else None
        try:
            await self.apart(partial(guard.__exit__, None if raised is None else type(raised), raised, None))
        except Exception as error:  # noqa: BLE001 - the step has left its connection so that it cannot be given back
            return Raised(error)
        return answer

    def _cuts_off(self, error: BaseException, task: asyncio.Task[Any], cancelled: int) -> bool:
        """Return whether this came to the step from outside, as by a timeout around its call."""
        if isinstance(error, asyncio.CancelledError):
            return self.activation.abandoned or task.cancelling() > cancelled
        if isinstance(error, GeneratorExit):
            return this_task() is not task
        return self.is_ours(error)

    async def _call_plain(self, call: Call, within: Variables) -> Any:
        answer = await self.port.threads.beside_limited(
            lambda gate: within.run(self._call_apart, call, gate), call.timeout
        )
        if type(answer) is Raised or not is_awaitable(answer):
            return answer
        return await limited(in_context(within, call, answer), call.timeout)

    def _call_apart(self, call: Call, gate: Gate) -> Any:
        """Call it in a thread: return what was raised, for there are errors that no future takes."""
        thread = lending.this_thread()
        thread.begin_step()
        try:
            if call.commit is not None:
                return self.call_atomic(call, gate)
            return closed(Transactions(), call.step.name, call.function, *call.arguments)
        except BaseException as error:
            if self.is_ours(error):
                raise
            return Raised(error)
        finally:
            thread.end_step()


def _ended(member: Member, task: asyncio.Task[None]) -> None:
    """Forget the task of a branch or an item. One that was cancelled before it began has had a place all the same."""
    member.team.tasks.discard(task)
    if task.cancelled():
        member.places.give_back()
        member.team.stop()
