"""Threads for step functions: kept while there is work, left behind when a function outlives its timeout.

Used by the worker's port: for plain steps of async workflows, for every step with a timeout of a `def` workflow, and
for the sync code of async steps.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context
from queue import Empty, SimpleQueue
from typing import Any

from asgiref.sync import SyncToAsync

from ..observe import announce, facts
from ..replay.awaiting import timed_out
from ..replay.call import Gate
from .upkeep import begin_work, close_connections, end_work

_IDLE_SECONDS = 10.0
_CLOSING_SECONDS = 2.0  # at most: a server that is away may keep a thread from closing its connection

#: What to call, where its result goes; is it the first for this user, and the last; is the thread free after it.
_Work = tuple[Callable[[], Any], "Future[Any]", bool, bool, bool]
_Inbox = SimpleQueue["_Work | None"]
_Thread = tuple[_Inbox, threading.Thread]


class StepThreads:
    """A pool without a limit of its own: who calls is limited already. `abandoned` counts those left behind."""

    def __init__(self, on_abandoned: Callable[[], object]) -> None:
        self._idle: list[_Thread] = []
        self._closed = False
        self._mutex = threading.Lock()
        self._on_abandoned = on_abandoned
        self.abandoned = 0

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Run `call` in a thread; the future of its result."""
        future: Future[Any] = Future()
        self.run(call, future)
        return future

    def run(self, call: Callable[[], Any], future: Future[Any]) -> None:
        """Call it in a thread of its own, for a future that exists already."""
        self._take()[0].put((call, future, True, True, True))

    def lend(self) -> Lent:
        """Lend a thread for several calls, one after another, until it is given back."""
        return Lent(self, self._take())

    def limited(self, call: Callable[[Gate], Any], timeout: float, grace: float = 0.0) -> Any:
        """Return the result of `call(gate)`; after `timeout` seconds leave the thread behind and raise StepTimeout.

        An atomic step that has passed the gate is about to commit: it is waited for, for its result is first.
        `grace`: seconds more for a call that ends by itself at its timeout.
        """
        gate = Gate()
        ended = threading.Event()

        def run() -> Any:
            try:
                return call(gate)
            finally:
                ended.set()

        future = self.submit(run)
        if ended.wait(min(timeout + grace, threading.TIMEOUT_MAX)) or not gate.shut():
            return future.result()
        self.abandon(future)
        raise timed_out(timeout)

    async def awaited(self, call: Callable[[Gate], Any], timeout: float | None) -> Any:  # noqa: ASYNC109
        """Call it as `limited` does, for the event loop. Cancelled, its caller leaves the thread behind, too."""
        gate = Gate()
        future = self.submit(lambda: call(gate))
        waiter = asyncio.wrap_future(future)
        try:
            if timeout is None:
                return await waiter
            await asyncio.wait((waiter,), timeout=timeout)
        except asyncio.CancelledError:
            if not future.done() and not self._leave(gate, future):
                await _ended(future)
            raise
        if waiter.done() or not self._leave(gate, future):
            return await waiter
        raise timed_out(timeout)

    def abandon(self, future: Future[Any]) -> None:
        """Count the thread that works for this future, until it comes back."""
        with self._mutex:
            self.abandoned += 1
            abandoned = self.abandoned
        announce(facts.ThreadAbandoned(abandoned))
        future.add_done_callback(self._came_back)
        self._on_abandoned()

    def close(self) -> None:
        """Let go of idle threads, which close their connections; one that is at work ends when its call has."""
        with self._mutex:
            self._closed = True
            idle, self._idle = self._idle, []
        for inbox, _thread in idle:
            inbox.put(None)
        for _inbox, thread in idle:
            thread.join(_CLOSING_SECONDS)

    def give_back(self, thread: _Thread) -> None:
        """Take back a thread that has nothing more to do for its borrower."""
        with self._mutex:
            if not self._closed:
                self._idle.append(thread)
                return
        thread[0].put(None)

    def _take(self) -> _Thread:
        with self._mutex:
            if self._idle:
                return self._idle.pop()
        inbox: _Inbox = SimpleQueue()
        thread = threading.Thread(target=self._serve, args=(inbox,), name="canx_flow step", daemon=True)
        thread.start()
        return inbox, thread

    def _leave(self, gate: Gate, future: Future[Any]) -> bool:
        """Leave the thread behind; False if its atomic step is about to commit."""
        if not gate.shut():
            return False
        if not future.cancel() and not future.done():
            self.abandon(future)
        return True

    def _came_back(self, _future: Future[Any]) -> None:
        with self._mutex:
            self.abandoned -= 1

    def _serve(self, inbox: _Inbox) -> None:
        this = (inbox, threading.current_thread())
        while True:
            try:
                work = inbox.get(timeout=_IDLE_SECONDS)
            except Empty:
                with self._mutex:
                    if this in self._idle:
                        self._idle.remove(this)
                        break
                continue
            if work is None:
                break
            call, future, anew, ends, returns = work
            _run(call, future, anew=anew, ends=ends)
            del work, call, future
            if returns:
                self.give_back(this)
        close_connections()


class Lent:
    """A thread that does the calls of one run only, one after another, until it is given back."""

    def __init__(self, threads: StepThreads, thread: _Thread) -> None:
        self._threads = threads
        self._thread = thread
        self._used = False

    def run(self, call: Callable[[], Any], future: Future[Any]) -> None:
        # In the midst of a run, what it has done to its connections is its own.
        self._thread[0].put((call, future, not self._used, False, False))
        self._used = True

    def give_back(self, *, busy: bool) -> None:
        """Give it back to the pool; if it is `busy`, once its call has ended."""
        # What the run has told its sessions ends with it: that is the thread's to see to, before its next user's calls.
        self._thread[0].put((_nothing, Future(), False, True, busy))
        if not busy:  # At once: the next run would else take another thread, and that one a connection more.
            self._threads.give_back(self._thread)


def _nothing() -> None: ...


def _run(call: Callable[[], Any], future: Future[Any], *, anew: bool = True, ends: bool = True) -> None:
    if not future.set_running_or_notify_cancel():  # Who asked has gone already.
        return
    try:
        if anew:
            begin_work()
            # asgiref remembers in a thread for which event loop it works: its next user works for none.
            vars(SyncToAsync.threadlocal).clear()
        try:
            result = Context().run(call)
        finally:
            if ends:
                end_work()
    except BaseException as error:  # noqa: BLE001 - it is the caller's, whatever it is
        future.set_exception(error)
    else:
        future.set_result(result)


async def _ended(future: Future[Any]) -> None:
    """Wait for it, whoever cancels that."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    future.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.cancel))
    while not ended.done():
        try:
            await asyncio.wait((ended,))
        except asyncio.CancelledError:
            continue
