"""The heartbeat: one thread with its own connection that renews the worker's lease.

Started once the worker is registered. How old the lease is, `lease` knows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from .. import conf
from ..core.backoff import Backoff
from ..observe import announce, facts
from ..store import leases
from ..store.db import engine, errors
from .lease import Lease, clock
from .outages import OutageLog

#: What a worker tells of itself: its activity as JSON, and its abandoned threads.
Snapshot = Callable[[], tuple[str, int]]

MOST_SECONDS_BETWEEN_BEATS = 5.0
_FIRST_PAUSE, _MOST_PAUSE = 0.1, 3.0  # seconds between a beat that failed and the next


def interval(lease: float) -> float:
    """Return the seconds between two beats for a lease of so many seconds."""
    return min(lease / 6, MOST_SECONDS_BETWEEN_BEATS)


class Heartbeat:
    """Renews the lease of `worker_id` until stopped or found dead.

    `on_dead` is called once, on this thread, when the worker has been found dead. `file` is touched at every
    round, also while the database is away: it says that this process is not stuck, nothing more.
    """

    def __init__(
        self,
        worker_id: UUID,
        *,
        snapshot: Snapshot | None = None,
        on_dead: Callable[[], object] | None = None,
        on_fresh: Callable[[], object] | None = None,
        file: Path | None = None,
        lease: float | None = None,
        outages: OutageLog | None = None,
    ) -> None:
        self.worker_id = worker_id
        self.lease = Lease(conf.get().lease_seconds if lease is None else lease)
        # The lease's own, without a call in between: asked before each step.
        self.is_fresh = self.lease.is_fresh
        self._snapshot = snapshot or _nothing
        self._on_dead = on_dead
        self._on_fresh = on_fresh
        self._file = file
        self._ended = threading.Event()
        self._backoff = Backoff(_FIRST_PAUSE, min(_MOST_PAUSE, interval(self.lease.seconds)))
        self._outages = outages or OutageLog()
        #: Ends a pause: it is stopped, or the database is back.
        self._hurry = threading.Event()
        self._outages.on_back.append(self._beat_now)
        self._thread = self._new_thread()

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="canx_flow heartbeat", daemon=True)

    def revive(self) -> bool:
        """Start its thread anew if that is dead though it was not stopped; return whether it was."""
        if self._ended.is_set() or self._thread.ident is None or self._thread.is_alive():
            return False
        self._thread = self._new_thread()
        self._thread.start()
        return True

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Beat no more. Waits `timeout` seconds at most for a beat that is on its way."""
        self._ended.set()
        self._hurry.set()
        if self._beat_now in self._outages.on_back:
            self._outages.on_back.remove(self._beat_now)
        self.lease.end()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def wait_fresh(self, timeout: float | None = None) -> bool:
        """Wait till the lease holds; return False if the worker was found dead or stopped, or if time ran out."""
        return self.lease.wait_fresh(timeout)

    def _run(self) -> None:
        with engine.use_engine_connection(conf.get().database) as connection:
            while not self._ended.is_set():
                if not touch(self._file):
                    self._file = None
                pause = self._round(connection)
                self._hurry.wait(pause)
                if not self._ended.is_set():
                    self._hurry.clear()

    def _round(self, connection: BaseDatabaseWrapper) -> float:
        """Beat once; return how many seconds to wait for the next beat."""
        sent = clock()
        try:
            activity, abandoned = self._describe()
            alive = leases.beat(self.worker_id, activity=activity, abandoned=abandoned)
        except Exception as exc:  # noqa: BLE001 - a heartbeat that ends by one odd error loses all the runs
            return self._stumble(connection, exc)
        if alive:
            self._succeed(sent)
        else:
            self._die()
        return interval(self.lease.seconds)

    def _describe(self) -> tuple[str, int]:
        try:
            return self._snapshot()
        except Exception as error:  # noqa: BLE001 - a description is no reason to miss a beat
            announce(facts.ActivityNotDescribed(error))
            return "{}", 0

    def _beat_now(self) -> None:
        if self._backoff.failures:
            self._hurry.set()

    def _succeed(self, sent: float) -> None:
        failures = self._backoff.failures
        self._backoff.reset()
        is_new = self.lease.renew(sent)
        if failures:
            self._outages.end("heartbeat")
        if self._on_fresh is not None and is_new:
            self._on_fresh()

    def _die(self) -> None:
        self._ended.set()
        self._hurry.set()
        self.lease.lose()
        if self._on_dead is None:
            return
        try:
            self._on_dead()
        except Exception as error:  # noqa: BLE001 - the main thread finds out at its next turn
            announce(facts.DeathNotPassedOn(error))

    def _stumble(self, connection: BaseDatabaseWrapper, exc: Exception) -> float:
        engine.reset(connection)
        self._warn(exc)
        return self._backoff.failed()

    def _warn(self, exc: Exception) -> None:
        if errors.is_deadlock(exc) and not self._backoff.failures:
            return  # The next beat comes at once, and mostly succeeds: no line is to alarm an operator.
        self._outages.warn(facts.BeatFailed(exc, self.lease.seconds))


def touch(file: Path | None) -> bool:
    """Touch the file, which says that this process is not stuck; return False if it cannot be touched."""
    try:
        if file is not None:
            file.touch()
    except OSError as exc:
        announce(facts.HeartbeatFileNotTouched(exc))
        return False
    return True


def _nothing() -> tuple[str, int]:
    return "{}", 0
