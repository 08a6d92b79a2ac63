"""Where a worker pauses until its time has come or it is woken.

Three ways lead here: `wake` from a thread or signal handler of this process, a datagram from a process of
this host, and NOTIFY from PostgreSQL, on a channel of this worker's own: what others are told wakes it not. None of
them is needed: without any, the worker polls.
"""

from __future__ import annotations

import os
import selectors
import socket
import stat
import tempfile
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from ..core.backoff import Backoff
from ..observe import announce, facts
from ..store.db import engine, errors
from ..store.db.databases import session_of
from ..store.telling import channel

#: Longest path that every system takes for a Unix socket.
_LONGEST_PATH = 100
_STALE_AFTER = 60.0
_FIRST_PAUSE, _MOST_PAUSE = 0.5, 30.0  # seconds until it LISTENs again
_ASK_SECONDS = 30.0  # without a word, after which the connection for LISTEN is asked whether it is still there


class Listener:
    """What wakes one worker. `name` becomes its socket's file name; `alias` names the database to LISTEN on, if any.

    One thread waits; any thread and any signal handler may wake it.
    """

    def __init__(self, name: str, *, alias: str | None = None) -> None:
        self._reasons: deque[str] = deque()
        #: Woken, and it has not heard that yet: once is enough, and each time takes the GIL from the thread that wakes.
        self._is_woken = False
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._closed = False
        self._socket = _open_socket(name)
        #: Where other processes of this host reach it; empty where that is not possible.
        self.path = ""
        if self._socket is not None:
            self.path = str(self._socket.getsockname())
            self._selector.register(self._socket, selectors.EVENT_READ)
        #: What tells others how to reach it, by the socket or by PostgreSQL.
        self.address = self.path or name
        self._notified = _start_notified(alias, self.address, self.wake) if alias else None

    def wait(self, timeout: float | None = None) -> set[str]:
        """Sleep `timeout` seconds, or until woken; return every reason given since the last call.

        Empty after the timeout. At once if it was woken before.
        """
        if self._closed:
            return set()
        # The selector's own timeout, not a deadline of ours: it passes under a frozen clock, too.
        for key, _events in self._selector.select(timeout):
            if key.fileobj is self._socket:
                self._reasons.extend(_drain(self._socket))
            else:
                _drain(self._woken)
                self._is_woken = False  # Before the reasons are taken: one that is given later wakes again.
        return self._take_reasons()

    def wake(self, reason: str = "") -> None:
        """End a `wait`, the current one or the next. Safe in threads and in signal handlers; never blocks."""
        self._reasons.append(reason)
        if not self._is_woken:
            self._is_woken = True
            # Full: it is awake already. Closed: the worker has ended.
            with suppress(OSError):
                self._waker.send(b"!")

    def hurry(self) -> None:
        """LISTEN again now: the database is back."""
        if self._notified is not None:
            self._notified.hurry()

    def revive(self) -> bool:
        """Start the thread that LISTENs anew if it is dead and has not given up; return whether it was."""
        if self._closed or self._notified is None or not self._notified.has_died():
            return False
        self._notified = _start_notified(self._notified.alias, self.address, self.wake)
        return True

    def close(self) -> None:
        """Listen no more and remove the socket's file."""
        if self._closed:
            return
        self._closed = True
        if self._notified is not None:
            self._notified.stop()
        self._selector.close()
        if self._socket is not None:
            with suppress(OSError):
                Path(self.path).unlink()
            self._socket.close()
        self._woken.close()
        self._waker.close()

    def _take_reasons(self) -> set[str]:
        reasons = set()
        while self._reasons:
            reasons.add(self._reasons.popleft())
        return reasons


def _drain(readable: socket.socket) -> list[str]:
    received = []
    with suppress(BlockingIOError):
        while data := readable.recv(4096):
            received.append(data.decode(errors="replace"))
    return received


def _open_socket(name: str) -> socket.socket | None:
    """Open a datagram socket in this user's private folder; return `None` where there can be none."""
    if not hasattr(socket, "AF_UNIX"):
        return None
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bound.setblocking(False)
    try:
        path = _private_folder() / name
        if len(os.fsencode(path)) >= _LONGEST_PATH:
            raise OSError(f"{path} is too long for a socket")
        bound.bind(str(path))
    except OSError as exc:
        announce(facts.NoWakeSocket(exc))
        bound.close()
        return None
    return bound


def _private_folder() -> Path:
    """Return a folder of this user's, the same for all workers, so that what killed ones left is found and removed."""
    base = Path(tempfile.gettempdir())
    if len(os.fsencode(base)) > _LONGEST_PATH // 2:
        base = Path("/tmp")  # noqa: S108 - The folder in it is checked to be ours and private.
    folder = base / f"canx_flow-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == 0o700
    if not private:
        # Another user was here first. A folder of its own is not tidied up after a kill, but it is private.
        return Path(tempfile.mkdtemp(prefix="canx_flow-", dir=base))
    _sweep(folder)
    return folder


def _sweep(folder: Path) -> None:
    """Remove the sockets of workers that were killed: no process listens at them."""
    for path in folder.iterdir():
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as caller:
            # Not a young one: between bind and its first wait it seems dead, too.
            if time.time() - path.lstat().st_mtime < _STALE_AFTER:
                continue
            try:
                caller.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()


def _start_notified(alias: str, address: str, wake: Any) -> _Notified | None:
    connection = engine.open_connection(alias)
    if not session_of(connection).notifies:
        return None
    notified = _Notified(connection, channel(address), wake)
    notified.start()
    return notified


class _Notified(threading.Thread):
    """LISTENs on a connection of its own; gives up silently where that cannot work."""

    def __init__(self, connection: BaseDatabaseWrapper, channel: str, wake: Any) -> None:
        super().__init__(name="canx_flow listen", daemon=True)
        self._connection = connection
        self._channel = channel
        self._wake = wake
        self._backoff = Backoff(_FIRST_PAUSE, _MOST_PAUSE)
        self.alias = connection.alias
        self._over = False
        self._stopped, self._stopper = socket.socketpair()

    def stop(self) -> None:
        self._stopper.close()
        self.join(5.0)

    def hurry(self) -> None:
        with suppress(OSError):  # It has ended.
            self._stopper.send(b"!")

    def has_died(self) -> bool:
        return self.ident is not None and not self.is_alive() and not self._over

    def run(self) -> None:
        while not self._attempt():
            pass
        self._over = True
        engine.reset(self._connection)
        self._stopped.close()

    def _attempt(self) -> bool:
        """LISTEN till the connection is lost; return whether that was all."""
        try:
            self._listen()
        except Exception as exc:  # noqa: BLE001 - whatever it is, polling does
            if not _is_lost(exc):
                announce(facts.ListenRefused(exc))
                return True
            announce(facts.ListenLost(exc))
            return self._stops_within(self._backoff.failed())
        return True

    def _listen(self) -> None:
        engine.reset(self._connection)
        with self._connection.cursor() as cursor:
            cursor.execute(f'LISTEN "{self._channel}"')
        wire = self._connection.connection.pgconn
        self._backoff.reset()
        self._wake("listening")  # No connection has heard what was sent before.
        with selectors.DefaultSelector() as selector:
            selector.register(wire.socket, selectors.EVENT_READ)
            selector.register(self._stopped, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _events in selector.select(_ASK_SECONDS)]
                if self._stopped in ready and not self._stopped.recv(16):
                    return
                if wire in ready or wire.socket in ready:
                    self._pass_on(wire)
                elif not ready:
                    self._ask()

    def _ask(self) -> None:
        """Ask whether the server is still there: a connection that only LISTENs would never find out."""
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        self._wake("listening")  # What has come meanwhile, psycopg may have read.

    def _pass_on(self, wire: Any) -> None:
        wire.consume_input()
        while (notice := wire.notifies()) is not None:
            self._wake(bytes(notice.extra).decode(errors="replace"))

    def _stops_within(self, seconds: float) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stopped, selectors.EVENT_READ)
            return bool(selector.select(seconds)) and not self._stopped.recv(16)


def _is_lost(exc: Exception) -> bool:
    """Return whether the connection was lost, as Django or as the driver itself says it."""
    return errors.is_outage(exc) or type(exc).__name__ in ("OperationalError", "InterfaceError")
