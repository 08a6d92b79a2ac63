"""The async driver: an `async def` workflow's operations in the worker's event loop. Used by the executor.

What comes to a step from outside, as by a timeout that the body has put around its call, cuts it off and is recorded
as nothing: the step is called again when it is asked for again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractContextManager, suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Any

from ..core import current
from ..core.callables import is_async, is_awaitable
from ..core.changes import Outcome, Settle
from ..exceptions import InsideTransaction, WrongContext
from ..store.db import lending
from . import reports
from .activation import Activation, Leave
from .awaiting import in_context
from .calls import ContextCall
from .connections import Transactions, closed
from .drivers import Driver, Gate, Port, limited
from .operations import Barrier, Call, Look, MayStart, Operation, Raised, Submit, Synced


class AsyncDriver(Driver):
    """Runs an `async def` workflow's operations, as part of its task or of a task that its body made of a call."""

    def __init__(self, activation: Activation, port: Port) -> None:
        super().__init__(activation, port)
        self._sync_code = port.sync_code()
        #: The body's own, once it runs.
        self.task: asyncio.Task[Any] | None = None
        #: Calls that the body has made and not awaited yet, in their order.
        self._unawaited: dict[ContextCall, Coroutine[Any, Any, Any]] = {}
        self._under_way: ContextCall | None = None
        self._performer: asyncio.Task[Any] | None = None
        self._performed: asyncio.Future[None] | None = None
        #: The body has come to its end: none of its calls may begin any more.
        self.over = False

    def call(self, verb: str, name: str, operation: Operation) -> Coroutine[Any, Any, Any]:
        """What the body awaits, or makes a task of: nothing of it has begun before."""
        call = ContextCall(verb, name, depth=3)
        coroutine = self._unawaited[call] = self._perform(call, operation)
        return coroutine

    async def _perform(self, call: ContextCall, operation: Operation) -> Any:  # noqa: C901, PLR0912 - one coroutine
        """Do what a call asks for. One at a time: they are numbered and stored in their order.

        All of it in one coroutine: each more would cost every step half a microsecond, and its waits another layer.
        """
        self._begin(call)
        answer: Any
        try:
            if self._sync_code.used and (settled := self._sync_code.settle("")) is not None:
                await settled  # What the body itself has left open would wait for this very call, on SQLite for ever.
            request = next(operation)
            while True:
                answer = None
                try:
                    # The first three are every step's: no coroutine more than needed.
                    if type(request) is Call:
                        guard = self.port.guard()
                        answer = await (self._call(request) if guard is None else self._call_guarded(request, guard))
                    elif request is Barrier:
                        self.submit()
                        if not self._asked:
                            self._ask()
                        if self._tickets:
                            await self.sync()
                        self._refuse_start()
                        if not self.port.lease_is_fresh():
                            await self._confirm_lease()
                    elif request is Submit:
                        self.submit()
                    else:
                        answer = await self._answer(request)
                except BaseException as error:  # noqa: BLE001 - the operation decides, whatever it is
                    request = operation.throw(error)
                else:
                    request = operation.send(answer)
        except StopIteration as stop:
            return stop.value
        except Leave:
            self._leave_body()
            raise
        finally:
            self._under_way = None
            if self._performed is not None:
                self._tell_of_end()

    def _begin(self, call: ContextCall) -> None:
        """Refuse a call that is out of place, or note that it is under way."""
        task = asyncio.current_task()
        self._unawaited.pop(call, None)
        if task is not self.task or self._under_way is not None or self.over:
            self._refuse_wrong_use(call, task)
        if self.activation.leaving is not None:
            raise self.activation.leaving
        self._under_way, self._performer = call, task

    def _tell_of_end(self) -> None:
        assert self._performed is not None
        if not self._performed.done():
            self._performed.set_result(None)

    def _refuse_wrong_use(self, call: ContextCall, task: asyncio.Task[Any] | None) -> None:
        run_id = self.activation.run.id
        if self.over:
            raise WrongContext(f"{call.what} of run {run_id} was awaited after its activation had ended")
        if self._under_way is not None:
            raise WrongContext(
                f"{call.what} of run {run_id} was awaited while {self._under_way.what} is under way: one context does "
                f"one thing at a time. ctx.gather is what does several side by side."
            )
        if task is None or (self.task is not None and task.get_loop() is not self.task.get_loop()):
            raise WrongContext(f"{call.what} of run {run_id} was awaited in another thread")

    def _leave_body(self) -> None:
        """The activation is left from within a task that the body made, and perhaps never looks at again."""
        if self._performer is not self.task and self.task is not None and self._performer is not None:
            self._performer.add_done_callback(_looked_at)
            self.task.cancel()

    def forgotten(self) -> ContextCall | None:
        """A call that the body has not awaited, or not to its end; none whose task it has cancelled."""
        if self._under_way is not None and not self._is_given_up(self._performer):
            return self._under_way
        tasks = self._tasks()
        # One whose task was cancelled before it began was begun, and is over.
        unawaited = (call for call, made in self._unawaited.items() if made.cr_frame is not None)  # type: ignore[attr-defined]
        return next((call for call in unawaited if not self._is_given_up(tasks.get(self._unawaited[call]))), None)

    def _is_given_up(self, task: asyncio.Task[Any] | None) -> bool:
        return task is not None and task is not self.task and task.cancelling() > 0

    def _tasks(self) -> dict[Any, asyncio.Task[Any]]:
        """The tasks that the body has made of calls, and that have not begun yet, among others."""
        return {task.get_coro(): task for task in asyncio.all_tasks()} if self._unawaited else {}

    async def end(self) -> None:
        """The body has ended: cut off what it has left under way, and wait for that, as for any step in flight."""
        self.over = True
        tasks = self._tasks()
        for coroutine in self._unawaited.values():
            if coroutine in tasks:
                tasks[coroutine].cancel()
            else:
                coroutine.close()  # Python would warn of each, when the engine has told of the first, or of worse.
        self._unawaited.clear()
        if self.task is None:
            return
        while self._under_way is not None or self.task.cancelling():
            if self.activation.abandoned:
                raise asyncio.CancelledError
            try:
                if self._under_way is not None:
                    await self._cut_off()
                else:  # Whatever the body's own cancellation has left to be delivered.
                    self.task.uncancel()
                    await asyncio.sleep(0)
            except asyncio.CancelledError:
                continue

    async def give_back(self) -> Exception | None:
        """Have the thread of the body's sync code take its connections back, and tell what was left open there.

        However the body has ended: on SQLite, and behind a row lock, the run's own end would wait for it without end.
        """
        try:
            if (settled := self._sync_code.settle("")) is not None:
                await settled
        except Exception as error:  # noqa: BLE001 - the body's, whatever it is
            return error
        return None

    async def _cut_off(self) -> None:
        assert self._performer is not None
        if self._performed is None:
            self._performed = asyncio.get_running_loop().create_future()
            self._performer.cancel()
        await asyncio.shield(self._performed)

    def closes(self, error: BaseException) -> bool:
        """Whether this ends the body's task from outside: the worker leaves, or the interpreter lets go of it."""
        if isinstance(error, asyncio.CancelledError):
            return self.activation.abandoned
        return self.port.interrupted(error) or (isinstance(error, GeneratorExit) and this_task() is not self.task)

    async def settle(self, settle: Settle) -> Outcome:
        """Store the end of this activation, with everything before it."""
        self.submit(settle)
        outcome = await self.sync()
        assert outcome is not None
        return outcome

    async def sync(self) -> Outcome | None:
        """As `SyncDriver.sync`."""
        outcome = None
        while self._tickets:
            change, ticket = self._tickets[0]
            # Should the body's own timeout cut this off, it is still there for the next call to wait for.
            answer = await ticket.wait_async()
            del self._tickets[0]
            outcome = self._learn(change, answer)
            if change.failed or reports.steps_listened_to():  # In a thread: receivers and handlers may block.
                await self.port.in_thread(partial(reports.stored, self.activation, change))
            self._go_on_if_ours(outcome)
        return outcome

    async def _answer(self, request: Any) -> Any:
        if request is Synced:
            self.submit()
            return await self.sync()
        if request is MayStart:
            return self.may_start()
        if isinstance(request, Look):
            return await self.port.in_thread(partial(self._look, request))
        return self.block(request)

    async def _confirm_lease(self) -> None:
        if not await self.port.in_thread(self.port.confirm_lease):
            self.activation.lost("the lease ran out")

    async def _call(self, call: Call) -> Any:
        """What a step's function returns, or `Raised`."""
        task, sync_code = self._performer, self._sync_code
        assert task is not None
        cancelled = task.cancelling()
        within = copy_context()
        within.run(current.step.set, call.step)
        try:
            if not is_async(call.function):
                answer = await self._call_plain(call, within)
            elif call.timeout is None:
                answer = await in_context(within, call)
            else:
                answer = await limited(in_context(within, call), call)
            if sync_code.used and (settled := sync_code.settle(call.step.name)) is not None:
                await settled
            return answer
        except BaseException as error:
            if self._cuts_off(error, task, cancelled):
                raise
            if (settled := sync_code.settle(call.step.name)) is not None:
                with suppress(InsideTransaction):  # Its own error is told.
                    await settled
            return Raised(error)
        finally:
            if sync_code.used:
                sync_code.leave_behind()

    async def _call_guarded(self, call: Call, guard: AbstractContextManager[object]) -> Any:
        """The same with something held around it."""
        await self.port.in_thread(guard.__enter__)
        try:
            answer = await self._call(call)
        except BaseException as error:
            await self.port.in_thread(partial(guard.__exit__, type(error), error, error.__traceback__))
            raise
        raised = answer.error if type(answer) is Raised else None
        try:
            await self.port.in_thread(partial(guard.__exit__, None if raised is None else type(raised), raised, None))
        except Exception as error:  # noqa: BLE001 - the step has left its connection so that it cannot be given back
            return Raised(error)
        return answer

    def _cuts_off(self, error: BaseException, task: asyncio.Task[Any], cancelled: int) -> bool:
        """Whether this came to the step from outside, as by a timeout around its call: then it is no failure of it."""
        if isinstance(error, asyncio.CancelledError):
            return self.activation.abandoned or task.cancelling() > cancelled
        if isinstance(error, GeneratorExit):
            return this_task() is not task
        return self._is_ours(error)

    async def _call_plain(self, call: Call, within: Context) -> Any:
        answer = await self.port.call_in_thread(lambda gate: within.run(self._invoke, call, gate), call.timeout)
        if type(answer) is Raised or not is_awaitable(answer):
            return answer
        return await limited(in_context(within, call, answer), call)

    def _invoke(self, call: Call, gate: Gate) -> Any:
        """What a thread does: it hands back what was raised, for there are errors that no future takes."""
        thread = lending.this_thread()
        thread.begin_step()
        try:
            if call.commit is not None:
                return self._atomic(call, gate)
            return closed(Transactions(), call.step.name, call.function, *call.arguments)
        except BaseException as error:
            if self._is_ours(error):
                raise
            return Raised(error)
        finally:
            thread.end_step()


def _looked_at(task: asyncio.Task[Any]) -> None:
    """Whoever made the task may have gone: what it has raised is known all the same."""
    if not task.cancelled():
        task.exception()


def this_task() -> asyncio.Task[Any] | None:
    """The task that runs; `None` where Python lets go of one that never will again."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
