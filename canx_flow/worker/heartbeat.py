"""The heartbeat: one thread with its own connection that renews the worker's lease, and knows how old it is.

Started by the loop once the worker is registered; asked before every call of a step function.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from .. import conf
from ..core.backoff import Backoff
from ..observe import announce, facts
from ..store import leases
from ..store.db import engine, errors
from .outages import OutageLog

#: What a worker says of itself: its activity as JSON, and its abandoned threads.
Snapshot = Callable[[], tuple[str, int]]

MOST_SECONDS_BETWEEN_BEATS = 5.0
_FIRST_PAUSE, _MOST_PAUSE = 0.1, 3.0  # seconds between a beat that failed and the next


_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def clock() -> float:
    """Seconds that never go back, and that also pass while the machine sleeps, where the system counts them."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


def interval(lease: float) -> float:
    """Seconds between two beats for a lease of so many seconds."""
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
        settings = conf.get()
        self.worker_id = worker_id
        self.lease = settings.lease_seconds if lease is None else lease
        self.started_at = clock()
        #: When the last beat that succeeded was sent, by `clock()`; minus infinity before the first.
        self.last_beat = float("-inf")
        self.dead = False
        self._alias = settings.database
        self._snapshot = snapshot or _nothing
        self._on_dead = on_dead
        self._on_fresh = on_fresh
        self._file = file
        self._ended = threading.Event()
        self._changed = threading.Condition()
        self._backoff = Backoff(_FIRST_PAUSE, min(_MOST_PAUSE, interval(self.lease)))
        self._outages = outages or OutageLog()
        #: Ends a pause: it is stopped, or the database is back.
        self._hurry = threading.Event()
        self._outages.on_back.append(self._beat_now)
        self._thread = self._new_thread()

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="canx_flow heartbeat", daemon=True)

    def revive(self) -> bool:
        """Start its thread anew if that is dead though it was not stopped; whether it was."""
        if self._ended.is_set() or self._thread.ident is None or self._thread.is_alive():
            return False
        self._thread = self._new_thread()
        self._thread.start()
        return True

    def start(self) -> None:
        self.started_at = clock()
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Beat no more. Waits `timeout` seconds at most for a beat that is on its way."""
        self._ended.set()
        self._hurry.set()
        if self._beat_now in self._outages.on_back:
            self._outages.on_back.remove(self._beat_now)
        with self._changed:
            self._changed.notify_all()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def is_fresh(self) -> bool:
        """Whether the lease certainly still holds: the last beat was sent less than a lease ago."""
        return not self.dead and clock() - self.last_beat < self.lease

    def wait_fresh(self, timeout: float | None = None) -> bool:
        """Wait till the lease holds; `False` if the worker was found dead or stopped, or time ran out."""
        with self._changed:
            self._changed.wait_for(lambda: self.dead or self._ended.is_set() or self.is_fresh(), timeout)
        return self.is_fresh()

    def _run(self) -> None:
        with engine.use_engine_connection(self._alias) as connection:
            while not self._ended.is_set():
                if not touch(self._file):
                    self._file = None
                pause = self._round(connection)
                self._hurry.wait(pause)
                if not self._ended.is_set():
                    self._hurry.clear()

    def _round(self, connection: BaseDatabaseWrapper) -> float:
        """One beat; returns how many seconds to wait for the next."""
        sent = clock()
        try:
            activity, abandoned = self._describe()
            alive = leases.beat(self.worker_id, activity=activity, abandoned=abandoned)
        except Exception as exc:  # noqa: BLE001 - A heart that stops for one odd error loses all the runs.
            return self._stumble(connection, exc)
        if alive:
            self._succeed(sent)
        else:
            self._die()
        return interval(self.lease)

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
        was_fresh = self.is_fresh()
        failures = self._backoff.failures
        self._backoff.reset()
        with self._changed:
            self.last_beat = sent
            self._changed.notify_all()
        if failures:
            self._outages.end("heartbeat")
        if self._on_fresh is not None and not was_fresh:
            self._on_fresh()

    def _die(self) -> None:
        self._ended.set()
        self._hurry.set()
        with self._changed:
            self.dead = True
            self._changed.notify_all()
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
            return  # The next beat comes at once, and mostly succeeds: nobody is to be frightened by it.
        self._outages.warn(facts.BeatFailed(exc, self.lease))


def touch(file: Path | None) -> bool:
    """Say that this process is not stuck; `False` if that cannot be said."""
    try:
        if file is not None:
            file.touch()
    except OSError as exc:
        announce(facts.HeartbeatFileNotTouched(exc))
        return False
    return True


def _nothing() -> tuple[str, int]:
    return "{}", 0
