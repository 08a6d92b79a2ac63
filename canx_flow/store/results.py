"""Waiting for runs to end: one poller per process serves every waiter. Called by `client.result`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

from django.db import connections

from ..models import WorkflowRun
from ..states import ENDED
from .errors import is_outage

_FIRST, _MOST, _GROWTH = 0.005, 0.25, 1.5  # seconds between two looks


class Poller:
    """A thread that lives while somebody waits, and asks for all of them in one query."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: dict[tuple[str, UUID], list[Callable[[], object]]] = {}
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
        """The same in an event loop."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # The loop was closed meanwhile: nobody waits there any more.
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
            # Not alive: this process was forked, or the thread met an error that nobody expected.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._poll, name="canx_flow results", daemon=True)
                self._thread.start()

        def forget() -> None:
            with self._mutex:
                waiters = self._waiting.get(key, [])
                if tell in waiters:
                    waiters.remove(tell)
                if not waiters:
                    self._waiting.pop(key, None)

        return forget

    def _poll(self) -> None:
        pause = _FIRST
        while True:
            if self._news.wait(pause):
                self._news.clear()
                pause = _FIRST
            with self._mutex:
                wanted = list(self._waiting)
                if not wanted:
                    self._thread = None
                    break
            pause = _FIRST if self._tell_ended(wanted) else min(pause * _GROWTH, _MOST)
        connections.close_all()

    def _tell_ended(self, wanted: list[tuple[str, UUID]]) -> bool:
        told = False
        for alias in {alias for alias, _ in wanted}:
            ids = [run_id for name, run_id in wanted if name == alias]
            try:
                runs = WorkflowRun.objects.using(alias).filter(id__in=ids)
                states = dict(runs.values_list("id", "state"))
            except Exception as error:  # noqa: BLE001 - were this thread to end, its waiters would wait for ever
                connections[alias].close()
                if is_outage(error):
                    continue
                states = {}  # Schema, privilege: each waiter asks by itself, and its caller is told.
            # A run that is gone will never end: its waiter finds that out by itself.
            for run_id in (run_id for run_id in ids if states.get(run_id) in (None, *ENDED)):
                with self._mutex:
                    waiters = self._waiting.pop((alias, run_id), [])
                for tell in waiters:
                    tell()
                    told = True
        return told


poller = Poller()
