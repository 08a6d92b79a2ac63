"""Answers that are lost: what was asked is done, and whoever has asked is told that the connection is gone.

On every database, in the process of the test: a worker in a thread of it, and functions of the store that answer so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from canx_flow.store.db import engine
from canx_flow.worker.loop import WorkerLoop
from canx_flow.worker.options import Options

from .waiting import wait_until


class LostAnswer:
    """A function of a module, the answer of which is lost once: the first time that `when` says so.

    `before` and `meanwhile` are called around what it does: what others do while the asker waits for its answer.
    """

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        module: Any,
        name: str,
        *,
        when: Callable[..., bool] = lambda *_: True,
        before: Callable[[], object] = lambda: None,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> None:
        self.lost = threading.Event()
        self._patch = patch
        self._place = module, name
        self._real = getattr(module, name)
        self._when, self._before, self._meanwhile = when, before, meanwhile
        patch.setattr(module, name, self)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if self.lost.is_set() or not self._when(*arguments):
            return self._real(*arguments, **keywords)
        self.lost.set()
        _apart(self._before)
        self._real(*arguments, **keywords)
        _apart(self._meanwhile)
        if isinstance(arguments[0], BaseDatabaseWrapper):
            engine.reset(arguments[0])
        raise OperationalError("the connection was lost: nobody knows whether it was done")

    def wait(self) -> None:
        """Until it has happened."""
        assert self.lost.wait(20), f"{self._place} was not called"


def _apart(function: Callable[[], object]) -> None:
    """Call it in a thread of its own and close what it opens there: the worker closes only its own connections."""

    def call() -> None:
        try:
            function()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(max_workers=1) as pool:
        pool.submit(call).result()


class LostCommit:
    """The COMMIT that follows upon a function of a module is done, or not, and not answered: the first time only."""

    def __init__(self, patch: pytest.MonkeyPatch, module: Any, name: str, *, done: bool = True) -> None:
        self.lost = threading.Event()
        self._done = done
        self._real = getattr(module, name)
        patch.setattr(module, name, self)

    def __call__(self, place: Any, *arguments: Any) -> Any:
        """`place`: a connection, an alias, or something of the database of the settings."""
        answer = self._real(place, *arguments)
        if not self.lost.is_set():
            self._lose(place if isinstance(place, BaseDatabaseWrapper) else connections["default"])
        return answer

    def wait(self) -> None:
        """Until it has happened."""
        assert self.lost.wait(20), "there was no COMMIT after it"

    def _lose(self, connection: Any) -> None:
        commit = connection.commit

        def answerless() -> None:
            del connection.commit
            self.lost.set()
            if self._done:
                commit()
            connection.connection.close()
            raise OperationalError("the connection was lost: nobody knows whether it was done")

        connection.commit = answerless


class Worker:
    """A worker in a thread of this process."""

    def __init__(self, **options: Any) -> None:
        self.loop = WorkerLoop(Options(**{"concurrency": 4, "poll_seconds": 0.1, "shutdown_timeout": 10.0, **options}))
        self.code: int | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.code = self.loop.run()
        finally:
            connections.close_all()

    def stop(self) -> int | None:
        """Ask it to leave and wait until it has; its exit code."""
        self.loop.stop()
        wait_until(lambda: not self._thread.is_alive(), 20, message="the worker does not leave")
        return self.code


@contextmanager
def worker(**options: Any) -> Iterator[Worker]:
    """A worker for as long as this lasts."""
    working = Worker(**options)
    try:
        yield working
    finally:
        working.stop()
