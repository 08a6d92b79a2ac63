"""What a worker says while the database is away: one warning a minute, whichever of its parts meets it first.

Shared by the loop, the committer and the heartbeat of one worker.
"""

from __future__ import annotations

import threading
import time

from .. import logs

SECONDS_BETWEEN_WARNINGS = 60.0


def first_line(error: BaseException) -> str:
    """What an error says; not the lines after the first one, in which PostgreSQL quotes the row."""
    return next(iter(str(error).splitlines()), "")


class OutageLog:
    """Logs the first of many complaints, and that it is over."""

    def __init__(self) -> None:
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

    def end(self, logger: logs.Logger, message: str) -> None:
        """Log that the database is back, if it was said that it is away."""
        with self._mutex:
            if self._over:
                return
            self._over = True
        logger.warning(message)
