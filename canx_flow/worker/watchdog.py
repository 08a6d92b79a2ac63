"""The last resort of a worker that was told to leave: it may be waiting for a database that does not answer.

Put around the worker by the command, in a process that is the worker's own.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from contextlib import suppress

from .. import logs
from .supervisor import FORCED, Stoppable

logger = logs.logger("canx_flow.worker")

_STOP, _FORCE = "stop", "force"
#: What a worker told to leave at once gets before its process is ended, in seconds.
LAST_GRACE = 3.0


class Watched:
    """Hands every order on to `target`, and ends the process if it has not left in time.

    `grace`: seconds that it may take after `stop`; after `force`, and after that time, LAST_GRACE more.
    """

    def __init__(self, target: Stoppable, grace: float) -> None:
        self._target = target
        self._grace = grace
        # Its put() may be called by a signal handler that interrupts another one's.
        self._orders: queue.SimpleQueue[str] = queue.SimpleQueue()

    def run(self) -> int:
        threading.Thread(target=self._watch, name="canx_flow watchdog", daemon=True).start()
        return self._target.run()

    def stop(self) -> None:
        self._orders.put(_STOP)
        self._target.stop()

    def force(self) -> None:
        self._orders.put(_FORCE)
        self._target.force()

    def _watch(self) -> None:
        if self._orders.get() == _STOP:
            self._wait_for_more(self._grace)
        threading.Event().wait(LAST_GRACE)
        logger.error("This worker does not leave, perhaps the database does not answer: its process is ended")
        logging.shutdown()
        os._exit(FORCED)

    def _wait_for_more(self, seconds: float) -> None:
        with suppress(queue.Empty):
            self._orders.get(timeout=seconds)
