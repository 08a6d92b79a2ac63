"""What a worker announces while the database is away: one fact a minute, whichever of its parts meets it first.

Shared by the loop, the committer and the heartbeat of one worker.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..observe import announce, facts

SECONDS_BETWEEN_WARNINGS = 60.0


class OutageLog:
    """Announces the first of many outages, and the end: the first answer ends the wait of all parts that wait for one.

    `on_back`: what is called, besides, whenever one of the worker's connections has an answer again.
    """

    def __init__(self) -> None:
        self.on_back: list[Callable[[], object]] = []
        self._back = threading.Condition()
        self._times = 0
        self._mutex = threading.Lock()
        self._warned_at = float("-inf")
        self._over = True

    def warn(self, fact: facts.Outage) -> None:
        """Announce this outage, unless one was announced less than a minute ago."""
        with self._mutex:
            moment = time.monotonic()
            if moment - self._warned_at < SECONDS_BETWEEN_WARNINGS:
                return
            self._warned_at = moment
            self._over = False
        announce(fact)

    def wait(self, seconds: float) -> bool:
        """Wait so long; True as soon as another of the worker's connections has an answer again."""
        with self._back:
            before = self._times
            return self._back.wait_for(lambda: self._times != before, seconds)

    def end(self, part: str) -> None:
        """End every wait: this part of the worker has an answer. Announce it, if an outage was announced."""
        with self._back:
            self._times += 1
            self._back.notify_all()
        for call in self.on_back:
            call()
        with self._mutex:
            if self._over:
                return
            self._over = True
        announce(facts.OutageEnded(part))
