"""The calls that an `async def` body has made of its context: one at a time is performed, and none is forgotten.

Owned by the branch's async driver. A body may make a task of a call, cancel it, or never await it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

from ..exceptions import WrongContext
from .branch import Branch


class ContextCall:
    """What was called, and where. Its line is looked up only when it is asked for."""

    __slots__ = ("_verb", "_name", "_code", "_at")

    def __init__(self, verb: str, name: str, depth: int) -> None:
        """Note where the body stands: `depth` frames below this one."""
        self._verb, self._name = verb, name
        body = sys._getframe(depth)
        self._code, self._at = body.f_code, body.f_lasti

    @property
    def what(self) -> str:
        """The call as it is written: `ctx.step('charge')`."""
        return "handle.result()" if self._verb == "result" else f"ctx.{self._verb}({self._name!r})"

    @property
    def where(self) -> str:
        """The file and the line that it was made in."""
        lines = [line for begin, end, line in self._code.co_lines() if begin <= self._at < end]
        return f"{self._code.co_filename}:{lines[0] if lines else self._code.co_firstlineno}"


class Calls:
    """One branch's: which call is performed now, by which task, and which were made and not awaited."""

    def __init__(self, branch: Branch) -> None:
        self._branch = branch
        #: The body's own task, once it runs.
        self.task: asyncio.Task[Any] | None = None
        #: Whether the body has come to its end: no call may begin any more.
        self.over = False
        #: Calls not awaited yet, in their order.
        self._unawaited: dict[ContextCall, Coroutine[Any, Any, Any]] = {}
        self._under_way: ContextCall | None = None
        self._performer: asyncio.Task[Any] | None = None
        #: Resolved when a call that was cut off has ended.
        self._ended: asyncio.Future[None] | None = None

    def add(self, call: ContextCall, coroutine: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        """Note a call that the body has made; nothing of it has begun."""
        self._unawaited[call] = coroutine
        return coroutine

    def begin(self, call: ContextCall) -> None:
        """Refuse a call that is out of place, or note that it is under way."""
        task = asyncio.current_task()
        self._unawaited.pop(call, None)
        if task is not self.task or self._under_way is not None or self.over:
            self._refuse_wrong_use(call, task)
        if (leaving := self._branch.activation.leaving or self._branch.left) is not None:
            raise leaving
        self._under_way, self._performer = call, task

    def end(self) -> None:
        """Note that the call under way has ended."""
        self._under_way = None
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def leave_body(self) -> None:
        """Cancel the body if it is left from within a task that it made, and perhaps never looks at again."""
        if self._performer is not self.task and self.task is not None and self._performer is not None:
            self._performer.add_done_callback(_retrieve_error)
            self.task.cancel()

    def _refuse_wrong_use(self, call: ContextCall, task: asyncio.Task[Any] | None) -> None:
        run_id = self._branch.run.id
        if self.over:
            raise WrongContext(f"{call.what} of run {run_id} was awaited after its activation had ended")
        if self._under_way is not None:
            raise WrongContext(
                f"{call.what} of run {run_id} was awaited while {self._under_way.what} is under way: one context does "
                f"one thing at a time. ctx.gather is what does several side by side."
            )
        if task is None or (self.task is not None and task.get_loop() is not self.task.get_loop()):
            raise WrongContext(f"{call.what} of run {run_id} was awaited in another thread")

    # -- the body's end -----------------------------------------------------------------------

    def forgotten(self) -> ContextCall | None:
        """Return a call that was not awaited, or not to its end; none whose task the body has cancelled."""
        if self._under_way is not None and not self._is_given_up(self._performer):
            return self._under_way
        tasks = self._tasks()
        # One whose task was cancelled before it began was begun, and is over.
        unawaited = (call for call, made in self._unawaited.items() if made.cr_frame is not None)  # type: ignore[attr-defined]
        return next((call for call in unawaited if not self._is_given_up(tasks.get(self._unawaited[call]))), None)

    def _is_given_up(self, task: asyncio.Task[Any] | None) -> bool:
        return task is not None and task is not self.task and task.cancelling() > 0

    def _tasks(self) -> dict[Any, asyncio.Task[Any]]:
        """Return the tasks that the body has made of calls, and that have not begun yet, among others."""
        return {task.get_coro(): task for task in asyncio.all_tasks()} if self._unawaited else {}

    async def close(self) -> None:
        """Cut off what the body has left under way, and wait for that, as for any step in flight."""
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
            if self._branch.activation.abandoned:
                raise asyncio.CancelledError
            try:
                if self._under_way is not None:
                    await self._cut_off()
                else:  # Whatever the body's own cancellation has left to be delivered.
                    self.task.uncancel()
                    await asyncio.sleep(0)
            except asyncio.CancelledError:
                continue

    async def _cut_off(self) -> None:
        assert self._performer is not None
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
            self._performer.cancel()
        await asyncio.shield(self._ended)


def _retrieve_error(task: asyncio.Task[Any]) -> None:
    """Look at what a task has raised: the body that made it may have gone, and asyncio would complain."""
    if not task.cancelled():
        task.exception()


def this_task() -> asyncio.Task[Any] | None:
    """Return the task that runs; `None` where Python lets go of one that never will again."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
