"""The sync code of async steps: each run has threads of its own for it, so that one that blocks stops no other run.

`sync_to_async` and Django's async ORM use one thread, as Django wants it, that the run borrows when it first needs it;
`asyncio.to_thread` uses others. Entered by slots for each activation, and by `run` for async steps of `def` workflows.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext

from ..replay import connections
from .threads import Lent, StepThreads

#: Calls of `asyncio.to_thread` at once, as Python bounds them; here for each run.
_MOST_AT_ONCE = min(32, (os.cpu_count() or 1) + 4)


class SyncCode(Executor):
    """What one run has under way in threads. asgiref submits to it what is to be done in the run's one thread."""

    def __init__(self, threads: StepThreads) -> None:
        self._threads = threads
        #: Made when the run first has sync code: most async runs never do.
        self._own: _Line | None = None
        self._others: _Line | None = None
        self._lent: Lent | None = None
        self._closed = False
        #: Whether anything was done here yet.
        self.used = False
        #: Whether the run's one thread has done something since `take_back`.
        self._unsettled = False

    def enter(self) -> None:
        """Have this task's sync code, and that of the tasks it makes, called here from now on."""
        context = ThreadSensitiveContext()
        SyncToAsync.context_to_thread_executor[context] = self
        SyncToAsync.thread_sensitive_context.set(context)
        _current.set(self)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.used = True
        if self._own is None:
            self._own = _Line(self, 1)
        return self._own.add(partial(fn, *args, **kwargs))

    def beside(self, call: Callable[[], Any]) -> Future[Any]:
        """Do it in any other thread."""
        self.used = True
        if self._others is None:
            self._others = _Line(self, _MOST_AT_ONCE)
        return self._others.add(call)

    def take_back(self, step: str) -> Awaitable[None] | None:
        """Have the run's one thread take its connections back, after a step; `None`: it has not done anything."""
        own = self._own
        if own is None or self._lent is None or not self._unsettled or own.busy:
            return None
        settled = asyncio.wrap_future(own.add(partial(connections.take_back, step)))
        self._unsettled = False
        return settled

    def leave_behind(self) -> None:
        """Leave behind what is under way: the next call gets another thread."""
        if self._own is not None:
            self._own.leave_behind()
        if self._others is not None:
            self._others.leave_behind()

    def close(self) -> None:
        """Close it: the run has been left."""
        self._closed = True
        self.leave_behind()
        self._give_back(busy=False)

    def begin(self, line: _Line, call: Callable[[], Any], future: Future[Any]) -> None:
        """Have a thread do it."""
        if line is self._others:
            self._threads.run(call, future)
            return
        if self._lent is None:
            self._lent = self._threads.lend()
        self._unsettled = True
        self._lent.run(call, future)
        if self._closed:  # It comes from a task that has outlived its run.
            self._give_back(busy=True)

    def abandon(self, line: _Line, future: Future[Any]) -> None:
        """Note that its caller waits no more, and that it cannot be stopped."""
        if line is self._own:
            self._give_back(busy=True)
        self._threads.abandon(future)

    def _give_back(self, *, busy: bool) -> None:
        lent, self._lent = self._lent, None
        if lent is not None:
            lent.give_back(busy=busy)


@contextmanager
def entered(threads: StepThreads) -> Iterator[SyncCode]:
    """Give this task, and those it makes, sync code of its own."""
    code = SyncCode(threads)
    code.enter()
    try:
        yield code
    finally:
        code.close()


class _Line:
    """Calls that are done so many at once, the others waiting. One that is given up makes room for the next."""

    def __init__(self, code: SyncCode, most: int) -> None:
        self._code = code
        self._most = most
        self._mutex = threading.RLock()
        self._waiting: deque[tuple[Callable[[], Any], _Call]] = deque()
        self._under_way: set[Future[Any]] = set()
        self._going_on = False

    def add(self, call: Callable[[], Any]) -> Future[Any]:
        future = _Call(self)
        with self._mutex:
            self._waiting.append((call, future))
            self._go_on()
        return future

    @property
    def busy(self) -> bool:
        """Whether something is under way, or waits."""
        return bool(self._under_way or self._waiting)

    def given_up(self, future: Future[Any]) -> None:
        """Tell whether its caller waits no more while it is being called."""
        with self._mutex:
            if future in self._under_way:
                self._under_way.discard(future)
                self._code.abandon(self, future)
                self._go_on()

    def leave_behind(self) -> None:
        if not self._under_way and not self._waiting:
            return
        with self._mutex:
            waiting, under_way = list(self._waiting), list(self._under_way)
            self._waiting.clear()
        for _call, future in waiting:
            future.cancel()
        for begun in under_way:
            begun.cancel()  # Or else it is given up.

    def _ended(self, future: Future[Any]) -> None:
        with self._mutex:
            self._under_way.discard(future)
            self._go_on()

    def _go_on(self) -> None:
        if self._going_on:  # One that ended at once has called us from within.
            return
        self._going_on = True
        while self._waiting and len(self._under_way) < self._most:
            self._begin(*self._waiting.popleft())
        self._going_on = False

    def _begin(self, call: Callable[[], Any], future: Future[Any]) -> None:
        self._under_way.add(future)
        try:
            self._code.begin(self, call, future)
        except BaseException as error:  # noqa: BLE001 - no thread can be started: who asked is told
            self._under_way.discard(future)
            future.set_exception(error)
        else:
            future.add_done_callback(self._ended)


class _Call(Future[Any]):
    """The future of a call, which knows when nobody waits for it any more."""

    def __init__(self, line: _Line) -> None:
        super().__init__()
        self._line = line

    def cancel(self) -> bool:
        if super().cancel():
            return True
        if self.running():
            self._line.given_up(self)
        return False


_current: ContextVar[SyncCode | None] = ContextVar("canx_flow_sync_code", default=None)


class ToThread(ThreadPoolExecutor):
    """What an event loop does `asyncio.to_thread` with: the threads of whichever run asks."""

    def __init__(self, threads: StepThreads) -> None:
        super().__init__(max_workers=1)  # It starts none: all is done by others.
        self._threads_of_steps = threads

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        run, call = _current.get(), partial(fn, *args, **kwargs)
        return self._threads_of_steps.submit(call) if run is None else run.beside(call)


class _NoSyncCode:
    """That of a task which no worker has entered: there is none to take back."""

    used = False

    def take_back(self, step: str) -> None:
        """Take nothing back."""

    def leave_behind(self) -> None:
        """Leave nothing behind."""


_NONE = _NoSyncCode()


def of_this_task() -> SyncCode | _NoSyncCode:
    """Return that of this task's run, if it has any."""
    return _current.get() or _NONE


def run(threads: StepThreads, make: Callable[[], Coroutine[Any, Any, Any]], step: str) -> Any:
    """Run a coroutine to its end in this thread, in an event loop of its own."""
    code = SyncCode(threads)

    async def main() -> Any:
        code.enter()
        value = await make()
        if (settled := code.take_back(step)) is not None:
            await settled
        return value

    try:
        with asyncio.Runner() as runner:
            runner.get_loop().set_default_executor(ToThread(threads))
            return runner.run(main())
    finally:
        code.close()
