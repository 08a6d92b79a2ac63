"""Waiting for runs to end: one thread per process polls the database for every waiter. Called by `client.results`."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from uuid import UUID

from django.db import connections

from ..models import WorkflowRun
from ..states import ENDED
from ..store.db.errors import is_outage

_FIRST, _MOST, _GROWTH = 0.005, 0.25, 1.5  # seconds between two polls
_AT_ONCE = 500

_Key = tuple[str, UUID]


class Poller:
    """A thread that lives while a caller waits, and reads the states of all awaited runs in one query."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin with no waiter and no thread; also in a forked process, which has neither of its parent's."""
        self._mutex = threading.Lock()
        self._waiting: dict[_Key, list[Callable[[], object]]] = {}
        self._news = threading.Event()
        self._thread: threading.Thread | None = None

    def wait(self, alias: str, run_id: UUID, timeout: float | None) -> bool:
        """Block until the run has ended; `False` after `timeout` seconds."""
        ended = threading.Event()
        forget = self._add(alias, run_id, ended.set)
        try:
            return ended.wait(None if timeout is None else min(timeout, threading.TIMEOUT_MAX))
        finally:
            forget()

    async def wait_async(self, alias: str, run_id: UUID, timeout: float | None) -> bool:  # noqa: ASYNC109
        """Wait in an event loop, without a thread of the caller's; `False` after `timeout` seconds."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # The loop was closed meanwhile, and its waiters with it.
                loop.call_soon_threadsafe(ended.set)

        forget = self._add(alias, run_id, tell)
        try:
            async with asyncio.timeout(timeout):
                await ended.wait()
        except TimeoutError:
            return False
        finally:
            forget()
        return True

    def _add(self, alias: str, run_id: UUID, tell: Callable[[], object]) -> Callable[[], None]:
        key = (alias, run_id)
        with self._mutex:
            self._waiting.setdefault(key, []).append(tell)
            self._news.set()

        def forget() -> None:
            with self._mutex:
                waiters = self._waiting.get(key, [])
                if tell in waiters:
                    waiters.remove(tell)
                if not waiters:
                    self._waiting.pop(key, None)

        try:
            self._start()
        except BaseException:  # The thread could not start: nothing would ever tell this waiter.
            forget()
            raise
        return forget

    def _start(self) -> None:
        with self._mutex:
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._poll, name="canx_flow results", daemon=True)
                thread.start()
                self._thread = thread

    def _poll(self) -> None:
        pause, sound = _FIRST, True
        while True:
            if not sound:  # Waiters that a failed poll has told may wait again at once: no hurry.
                time.sleep(pause)
            elif self._news.wait(pause):
                pause = _FIRST
            self._news.clear()
            with self._mutex:
                wanted = list(self._waiting)
                if not wanted:
                    self._thread = None
                    break
            told, sound = self._poll_once(wanted)
            pause = _FIRST if told and sound else min(pause * _GROWTH, _MOST)
        with suppress(Exception):
            connections.close_all()

    def _poll_once(self, wanted: Sequence[_Key]) -> tuple[bool, bool]:
        """Tell the waiters whose runs have ended; return whether there was one, and whether every query was answered.

        No error may end this thread: its waiters would wait for ever.
        """
        told, sound = False, True
        for alias in {alias for alias, _ in wanted}:
            ids = [run_id for name, run_id in wanted if name == alias]
            try:
                # A run that is gone will never end: its waiter reads that for itself.
                ended = [key for key, state in _states(alias, ids).items() if state in (None, *ENDED)]
            except Exception as error:  # noqa: BLE001 - whatever it is
                sound = False
                with suppress(Exception):  # A connection that is lost may not even close.
                    connections[alias].close()
                # Schema or privilege: each waiter reads the run itself, and the error reaches its caller.
                ended = [] if is_outage(error) else [(alias, run_id) for run_id in ids]
            for key in ended:
                told = self._tell(key) or told
        return told, sound

    def _tell(self, key: _Key) -> bool:
        with self._mutex:
            waiters = self._waiting.pop(key, [])
        for tell in waiters:
            tell()
        return bool(waiters)


def _states(alias: str, ids: Sequence[UUID]) -> dict[_Key, str | None]:
    """Read the state of each run, `None` for one that is not there; as many in a query as every database takes."""
    found: dict[_Key, str | None] = {(alias, run_id): None for run_id in ids}
    for begin in range(0, len(ids), _AT_ONCE):
        runs = WorkflowRun.objects.using(alias).filter(id__in=ids[begin : begin + _AT_ONCE])
        found.update({(alias, run_id): state for run_id, state in runs.values_list("id", "state")})
    return found


poller = Poller()
os.register_at_fork(after_in_child=poller.begin)
