"""Where the steps of one worker ask for their limits: whoever asks the database first asks for all that wait.

Asked by the worker's port, on the threads of runs. It has a connection of its own, which it opens for the first step
that has a limit.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

from django.db.backends.base.base import BaseDatabaseWrapper

from ..core.backoff import Backoff
from ..core.limits import Bucket, Request
from ..store import limits
from ..store.db import engine, errors
from ..store.db.errors import Verdict

#: Seconds that a start may be away for which its step waits with its place.
PATIENCE = 1.0
_TRIES = 8
_FIRST_PAUSE, _MOST_PAUSE = 0.005, 0.2  # seconds until the victim of a deadlock tries again


class LimitDesk:
    """Asks for all steps of this worker, one bucket at a time."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._connection: BaseDatabaseWrapper | None = None
        #: Held by the thread that asks the database.
        self._turn = threading.Lock()
        self._mutex = threading.Lock()
        self._requests: dict[Bucket, list[Request]] = defaultdict(list)

    def expect(self, request: Request) -> None:
        """Have this request answered by whoever asks its bucket next."""
        with self._mutex:
            self._requests[request.use.bucket].append(request)

    def admit(self, request: Request) -> None:
        """Answer a request that was expected, and all others for its bucket, unless that has happened meanwhile."""
        with self._turn:
            if not request.is_settled:
                self._answer(request)
        if request.error is not None:
            raise request.error

    def close(self) -> None:
        """Close the connection, if there is one."""
        with self._turn:
            if self._connection is not None:
                engine.reset(self._connection)

    def _answer(self, request: Request) -> None:
        bucket = request.use.bucket
        with self._mutex:
            requests = [each for each in self._requests.pop(bucket, ()) if not each.is_settled]
        if request not in requests:  # A thread that had taken it was ended.
            requests.append(request)
        try:
            unwanted = self._ask(bucket, requests)
        except Exception as error:  # noqa: BLE001 - each of those that wait is told
            if self._connection is not None:
                engine.reset(self._connection)
            for each in requests:
                each.error = error
            return
        if unwanted and self._connection is not None:
            with suppress(Exception):  # Else they are given back when their runs are left.
                limits.drop(self._connection, unwanted)

    def _ask(self, bucket: Bucket, requests: Sequence[Request]) -> list[Request]:
        """Settle these requests; return those that have a place, and that nobody waits for any more."""
        if self._connection is None:
            self._connection = engine.open_connection(self._alias)
        backoff = Backoff(_FIRST_PAUSE, _MOST_PAUSE)
        while True:
            try:
                answers = limits.admit(self._connection, bucket, requests, patience=PATIENCE)
            except Exception as error:
                if errors.verdict(error) is not Verdict.AGAIN or backoff.failures >= _TRIES:
                    raise
                time.sleep(backoff.failed())
            else:
                pairs = zip(requests, answers, strict=True)
                return [each for each, answer in pairs if not each.settle(answer) and answer.holds]
