"""Threads for step functions: kept while there is work, left behind when a function outlives its timeout.

Used by the worker's port: for plain steps of async workflows, and for every plain step with a timeout.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any

from ..replay.drivers import Gate, timed_out
from .upkeep import close_connections, keep_connections

_IDLE_SECONDS = 10.0
_CLOSING_SECONDS = 2.0  # at most: a server that is away may keep a thread from closing its connection


class StepThreads:
    """A pool without a limit of its own: who calls is limited already. `abandoned` counts those left behind."""

    def __init__(self, on_abandoned: Callable[[], object]) -> None:
        self._idle: list[tuple[SimpleQueue[Any], threading.Thread]] = []
        self._closed = False
        self._mutex = threading.Lock()
        self._on_abandoned = on_abandoned
        self.abandoned = 0

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Run `call` in a thread; the future of its result."""
        future: Future[Any] = Future()
        with self._mutex:
            inbox = self._idle.pop()[0] if self._idle else None
        if inbox is None:
            inbox = SimpleQueue()
            threading.Thread(target=self._serve, args=(inbox,), name="canx_flow step", daemon=True).start()
        inbox.put((call, future))
        return future

    def limited(self, call: Callable[[Gate], Any], timeout: float) -> Any:
        """The result of `call(gate)`, or StepTimeout after `timeout` seconds; then the thread is left behind.

        An atomic step that has passed the gate is about to commit: it is waited for, for its result is first.
        """
        gate = Gate()
        ended = threading.Event()

        def run() -> Any:
            try:
                return call(gate)
            finally:
                ended.set()

        future = self.submit(run)
        if ended.wait(min(timeout, threading.TIMEOUT_MAX)) or not gate.shut():
            return future.result()
        self._abandon(future)
        raise timed_out(timeout)

    def close(self) -> None:
        """Let go of idle threads, which close their connections; one that is at work ends when its call has."""
        with self._mutex:
            self._closed = True
            idle, self._idle = self._idle, []
        for inbox, _thread in idle:
            inbox.put(None)
        for _inbox, thread in idle:
            thread.join(_CLOSING_SECONDS)

    def _abandon(self, future: Future[Any]) -> None:
        with self._mutex:
            self.abandoned += 1
        future.add_done_callback(self._came_back)
        self._on_abandoned()

    def _came_back(self, _future: Future[Any]) -> None:
        with self._mutex:
            self.abandoned -= 1

    def _serve(self, inbox: SimpleQueue[Any]) -> None:
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
            _run(*work)
            del work
            with self._mutex:
                if self._closed:
                    break
                self._idle.append(this)
        close_connections()


def _run(call: Callable[[], Any], future: Future[Any]) -> None:
    if not future.set_running_or_notify_cancel():  # Who asked has gone already.
        return
    keep_connections()
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 - it is the caller's, whatever it is
        future.set_exception(error)
