"""A worker's process: it registers, lives until it is told to stop, and begins anew if it was found dead.

Called by `runflowworker`. Whatever may meet an absent database is tried again; only too many threads left behind, or
errors that no other connection mends, end a worker that was not told to stop.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from uuid import UUID

from django.db import connections

from .. import conf
from ..core import registry, schedules
from ..observe import announce, facts
from ..store import host, leases, queues
from ..store.db import engine
from .about import VERSION
from .agenda import Clock
from .capacity import Bounds
from .exitcodes import CLEAN
from .heartbeat import touch
from .lease import clock
from .life import Life
from .options import Options, Orders
from .outages import OutageLog
from .setbacks import Setbacks
from .wakeup import Listener

_SWITCH_SECONDS = 0.001


class WorkerLoop:
    """One worker process. `stop` and `force` may be called from signal handlers and other threads."""

    def __init__(self, options: Options, steady: Clock = clock) -> None:
        self.options = options
        self.alias = conf.get().database
        self.outages = OutageLog()
        self._steady = steady
        self._orders = Orders()
        self._bounds = Bounds(burst=options.burst, max_runs=options.max_runs)
        self._listener: Listener | None = None

    def stop(self) -> None:
        """Claim nothing more, let current steps finish, hand the runs back."""
        self._orders.stopping = True
        if self._listener is not None:
            self._listener.wake("stop")

    def force(self) -> None:
        """Leave now."""
        self._orders.forced = True
        self.stop()

    def run(self) -> int:
        """Work until told to stop; return the process's exit code."""
        with engine.use_engine_connection(self.alias), _prompt_threads():
            self._listener = Listener(f"{os.getpid()}-{os.urandom(4).hex()}", alias=self.alias)
            try:
                while True:
                    life = self.begin(self._listener)
                    code = CLEAN if life is None else life.live()
                    if code is not None:
                        return code
            finally:
                self._listener.close()

    def begin(self, listener: Listener) -> Life | None:
        """Register, and return the life that begins with that; `None` if the worker was told to stop before."""
        setbacks = Setbacks(self.outages, self._steady)
        while not self._orders.stopping:
            touch(self.options.heartbeat_file)
            try:
                owner = self._register(listener)
            except Exception as error:  # noqa: BLE001 - an outage, mostly: `Setbacks` tells them apart
                pause = setbacks.failed(error)
                engine.reset(connections[self.alias])
                listener.wait(pause)
            else:
                return Life(
                    owner, self.alias, self.options, self._orders, self._bounds, listener, self.outages, setbacks,
                    self._steady,
                )  # fmt: skip
        return None

    def _register(self, listener: Listener) -> UUID:
        queues.declare(self.alias)  # Before this worker's first claim.
        row = leases.register(
            **asdict(host.identify()), name=self.options.name, queues=self.options.queues,
            workflows=registry.identities(), schedules=schedules.names(),
            concurrency=self.options.concurrency, socket=listener.address,
            version=VERSION,
        )  # fmt: skip
        announce(facts.WorkerStarted(row.id, self.options.name))
        return row.id


@contextmanager
def _prompt_threads() -> Iterator[None]:
    """Let a thread whose database has answered go on soon, though others compute.

    Python would make it wait for the GIL for five milliseconds, which is longer than a commit, and whole batches wait
    with it.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, _SWITCH_SECONDS))
    try:
        yield
    finally:
        sys.setswitchinterval(before)
