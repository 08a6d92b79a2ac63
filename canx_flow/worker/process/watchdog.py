"""The last resort of a worker that was told to leave: it may be waiting for a database that does not answer.

Put around the worker by the command, in a process that is the worker's own.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import time
from contextlib import suppress
from typing import NoReturn

from ...observe import announce, facts
from ..exitcodes import CLEAN, FORCED
from .orders import Stoppable

_STOP, _FORCE = "stop", "force"
#: What a worker told to leave at once gets before its process is ended, in seconds.
LAST_GRACE = 3.0
_LAST_WORDS = 1.0  # seconds that logging gets: a handler of the project's may wait for what does not answer


class Watched:
    """Hands every order on to `target`, and ends the process if it has not left in time.

    `grace`: seconds that it may take after `stop`; after `force`, and after that time, LAST_GRACE more. So long has the
    process as well that is to end because its target has: a thread that Python waits for may never do.
    """

    def __init__(self, target: Stoppable, grace: float) -> None:
        self._target = target
        self._grace = grace
        #: Orders, and the exit code once the target has one. Its put() may be called by a signal handler that
        #: interrupts another one's.
        self._orders: queue.SimpleQueue[str | int] = queue.SimpleQueue()

    def run(self) -> int:
        threading.Thread(target=self._watch, name="canx_flow watchdog", daemon=True).start()
        code = self._target.run()
        self._orders.put(code)
        return code

    def stop(self) -> None:
        self._orders.put(_STOP)
        self._target.stop()

    def force(self) -> None:
        self._orders.put(_FORCE)
        self._target.force()

    def _watch(self) -> None:
        order: str | int | None = self._orders.get()
        if order == CLEAN:
            return  # It has left unasked, and well.
        leaves_by = time.monotonic() + (self._grace if order == _STOP else 0.0)
        code = FORCED
        while order is not None:
            if order == _FORCE:
                leaves_by = min(leaves_by, time.monotonic())
            elif isinstance(order, int):
                code = order
            order = self._next(leaves_by + LAST_GRACE)
        leave_now(code, facts.WorkerStuck() if code == FORCED else facts.ProcessStuck())

    def _next(self, until: float) -> str | int | None:
        with suppress(queue.Empty):
            return self._orders.get(timeout=max(0.0, until - time.monotonic()))
        return None


def leave_now(code: int, last_words: facts.Fact | None = None) -> NoReturn:
    """End this process, whatever its threads do: what it has logged is written, if that can be done at once."""
    speaking = threading.Thread(target=_speak, args=(last_words,), daemon=True)
    with suppress(RuntimeError):
        speaking.start()
        speaking.join(_LAST_WORDS)
    os._exit(code)


def _speak(last_words: facts.Fact | None) -> None:
    if last_words is not None:
        announce(last_words)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
