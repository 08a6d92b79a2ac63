"""What a worker says while the database is away: one warning a minute, whichever of its parts meets it first.

Shared by the loop, the committer and the heartbeat of one worker.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ...observe import logs

SECONDS_BETWEEN_WARNINGS = 60.0


def first_line(error: BaseException) -> str:
    """What an error says; not the lines after the first one, in which PostgreSQL quotes the row."""
    return next(iter(str(error).splitlines()), "")


class OutageLog:
    """Logs the first of many complaints, and that it is over: the first answer ends the wait of all who wait for one.

    `on_back`: what is called, besides, whenever one of the worker's connections has an answer again.
    """

    def __init__(self) -> None:
        self.on_back: list[Callable[[], object]] = []
        self._back = threading.Condition()
        self._times = 0
        self._mutex = threading.Lock()
        self._warned_at = float("-inf")
        self._over = True

    def warn(
        self, logger: logs.Logger, message: str, *arguments: object, exc_info: BaseException | None = None
    ) -> None:
        """Log this warning, unless one was logged less than a minute ago."""
        with self._mutex:
            moment = time.monotonic()
            if moment - self._warned_at < SECONDS_BETWEEN_WARNINGS:
                return
            self._warned_at = moment
            self._over = False
        logger.warning(message, *arguments, exc_info=exc_info)

    def wait(self, seconds: float) -> bool:
        """Wait so long; True as soon as another of the worker's connections has an answer again."""
        with self._back:
            before = self._times
            return self._back.wait_for(lambda: self._times != before, seconds)

    def end(self, logger: logs.Logger, message: str) -> None:
        """One of them has an answer after it had none. Log that, if it was said that the database is away."""
        with self._back:
            self._times += 1
            self._back.notify_all()
        for call in self.on_back:
            call()
        with self._mutex:
            if self._over:
                return
            self._over = True
        logger.warning(message)
