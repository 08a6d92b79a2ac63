"""A deadline of the client's own for each statement on an engine connection, whatever the server does or does not say.

A server that is gone is noticed by TCP; one behind a proxy or pooler that hangs, or a backend that was stopped,
acknowledges everything and never answers. A thread of this module checks all engine connections of the process, and
shuts the socket of one whose statement has been under way for too long: to its thread the connection is then lost.

Made by `own`; a statement costs two more attributes that are set.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import DatabaseErrorWrapper

from ...observe import announce, facts
from .patience import patience

_CHECKS = 20  # of a connection, in the time that a statement may take
_SLOW_CHECKS = 4  # after so many, `on_slow` is called: there is no answer yet


class Watch(DatabaseErrorWrapper):
    """Around every statement of one connection, in place of Django's own: notes that one is under way.

    `on_slow` is called once for a statement that has had no answer for a fifth of its time, with how many seconds.
    It is called, and what is cut announced, on a thread that nothing waits for.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        super().__init__(connection)  # type: ignore[arg-type]
        self.alias = connection.alias
        self.patience = patience()
        self.on_slow: Callable[[float], object] | None = None
        self._number = 0
        self._busy = False
        #: The statement that was under way at the last check, and at how many checks it has been the same one.
        self._seen = 0
        self._checks = 0
        #: Of the connection's socket, a descriptor of our own: the driver's may be closed, and be another one's by now.
        self._socket: int | None = None
        self._mutex = threading.Lock()

    def __enter__(self) -> None:
        self._number += 1
        self._busy = True

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._busy = False
        super().__exit__(exc_type, exc_value, traceback)

    def attach(self, raw: Any) -> None:
        """Watch this connection of the driver's from now on."""
        self.detach()
        with self._mutex:
            self._socket = _descriptor(raw)
        _watchman.add(self)

    def detach(self) -> None:
        """Watch it no more: it is closed, or about to be."""
        _watchman.remove(self)
        with self._mutex:
            number, self._socket = self._socket, None
        if number is not None:
            os.close(number)

    def check(self, pause: float) -> None:
        """Cut the connection if the statement of the last checks is still under way, and has had its time.

        Checks are counted, `pause` seconds apart: a clock may stand still, or jump.
        """
        number, busy = self._number, self._busy
        self._checks = self._checks + 1 if busy and number == self._seen else 0
        self._seen = number
        if self._checks == 0:
            return
        waited = self._checks * pause
        if self._checks == _SLOW_CHECKS and self.on_slow is not None:
            _apart(self.on_slow, waited)
        # Again and again: it may be connecting anew, by a hook of the driver's.
        if waited >= self.patience:
            self._checks = 0
            if self.cut():
                _apart(announce, facts.ConnectionCut(self.alias, waited))

    def cut(self) -> bool:
        """Shut the connection's socket: the thread that waits for an answer there learns that it is lost."""
        with self._mutex:
            if self._socket is None:
                return False
            with suppress(OSError), socket.socket(fileno=os.dup(self._socket)) as shutting:
                shutting.shutdown(socket.SHUT_RDWR)
        return True


def _apart(call: Callable[..., object], *arguments: object) -> None:
    """Call this on a thread of its own: it may be the project's logging, and wait for the very database."""
    with suppress(RuntimeError):  # No thread can be started: then it is not told.
        threading.Thread(target=_unharmed, args=(call, *arguments), name="canx_flow telling", daemon=True).start()


def _unharmed(call: Callable[..., object], *arguments: object) -> None:
    try:
        call(*arguments)
    except Exception as error:  # noqa: BLE001 - nothing waits for this thread
        announce(facts.SlowStatementNotTold(error))


def _descriptor(raw: Any) -> int | None:
    """Return a descriptor of our own for the driver's socket; `None` where it has none, or hides it."""
    holders: tuple[Any, ...] = (raw, getattr(raw, "_sock", None))  # PyMySQL's has it one level down.
    for holder in holders:
        with suppress(Exception):
            return os.dup(holder.fileno())
    return None


class _Watchman:
    """The thread that checks. It lives while there is a connection to check."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._watches: set[Watch] = set()
        self._thread: threading.Thread | None = None

    def add(self, watch: Watch) -> None:
        with self._mutex:
            self._watches.add(watch)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="canx_flow deadlines", daemon=True)
                self._thread.start()

    def remove(self, watch: Watch) -> None:
        with self._mutex:
            self._watches.discard(watch)

    def _run(self) -> None:
        pausing = threading.Event()
        while pause := self._pause():
            pausing.wait(pause)
            for watch in list(self._watches):
                with suppress(Exception):
                    watch.check(pause)

    def _pause(self) -> float:
        """Return the seconds until the next check; none if no connection is left: the thread ends."""
        with self._mutex:
            if not self._watches:
                self._thread = None
                return 0.0
            return min(watch.patience for watch in self._watches) / _CHECKS


_watchman = _Watchman()
