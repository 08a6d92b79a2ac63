"""The one place through which every statement of a process passes, and its death there.

Django and the engine put the same thing around each statement, also around those that go to the driver past Django's
cursor: what turns the driver's errors into Django's. Here that counts the writes, and at one of them it kills.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from collections import Counter
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from django.db.backends.base import base
from django.db.backends.signals import connection_created
from django.db.utils import DatabaseErrorWrapper

from canx_flow.store.db import own

_WRITES = re.compile(r"\b(?:INSERT\s+(?:OR\s+)?(?:IGNORE\s+)?INTO\b|DELETE\b|UPDATE\s+[\"`]?\w+)", re.IGNORECASE)
#: A statement as SQLite traces it, with its values.
_TRACED_WRITE = re.compile(r"\s*(?:INSERT|REPLACE|UPDATE|DELETE|COMMIT)\b", re.IGNORECASE)
_LOCKS = re.compile(r"FOR\s+(?:NO\s+KEY\s+)?UPDATE(?:\s+SKIP\s+LOCKED)?", re.IGNORECASE)
#: What is within one of these and is no statement: a connection is opened or closed, rows are fetched, a transaction
#: begins or is rolled back.
_NO_WRITES = frozenset((
    "begin", "close", "connect", "ensure_connection", "inner", "cursor", "create_cursor", "chunked_cursor", "_cursor",
    "_prepare_cursor", "_close", "_rollback", "_set_autocommit", "set_autocommit", "is_usable", "init_connection_state",
    "_savepoint", "fetch", "check_database_version_supported", "get_database_version", "ensure_timezone",
    "_start_transaction_under_autocommit", "_configure_connection",
))  # fmt: skip
_COMMIT, _LENGTH = "COMMIT", 100
#: Its statement is no variable of the function that sends it.
_ONE_WRITE = "write_single"

BEFORE, AFTER = "before", "after"


class Point(NamedTuple):
    """A moment of a worker's life, found again in the next one's: threads may have another order there."""

    when: str
    write: str
    #: The how manyth of these it is, from 1.
    number: int

    def __str__(self) -> str:
        return f"{self.when} {self.write} ({self.number})"


class Writes:
    """Counts the writes of this process; it dies at `point`."""

    def __init__(self, point: Point | None = None, note: Path | None = None) -> None:
        #: How often each was sent, and all of them in their order, with the how manyth of its kind each was.
        self.sent: Counter[str] = Counter()
        self.order: list[tuple[str, int]] = []
        #: What SQLite was sent past this place.
        self.missed: list[str] = []
        self._point = point
        self._note = note
        self._mutex = threading.Lock()
        self._local = threading.local()

    def install(self) -> None:
        """Have every statement of this process pass here, from now to its end."""
        base.DatabaseErrorWrapper = _seen(DatabaseErrorWrapper, self)  # type: ignore[misc]
        own.Watch = _seen(own.Watch, self)  # type: ignore[misc]
        connection_created.connect(self._trace, weak=False)

    def begin(self, write: str) -> int:
        """Count it; return how many of these there have been."""
        self._local.inside = True
        with self._mutex:
            self.sent[write] += 1
            number = self.sent[write]
            self.order.append((write, number))
            self._die_at(Point(BEFORE, write, number))
        return number

    def end(self, write: str, number: int) -> None:
        """Take note that the database has done it."""
        self._local.inside = False
        with self._mutex:
            self._die_at(Point(AFTER, write, number))

    def _trace(self, connection: Any, **_: Any) -> None:
        """Have SQLite tell what it is sent, whoever sends it. It waits for no disk: the machine does not die."""
        if connection.vendor == "sqlite":
            connection.connection.execute("PRAGMA synchronous = OFF")
            connection.connection.set_trace_callback(self._traced)

    def _traced(self, statement: str) -> None:
        if _TRACED_WRITE.match(statement) and not getattr(self._local, "inside", False):
            self.missed.append(statement[:90])

    def _die_at(self, point: Point) -> None:
        if point == self._point:
            if self._note is not None:
                if point.when == BEFORE:  # It was counted, and not sent.
                    self.sent[point.write] -= 1
                told = f"{point}, on thread {threading.current_thread().name!r}"
                self._note.write_text(json.dumps({"told": told, "sent": self.sent}))
            os.kill(os.getpid(), signal.SIGKILL)


def _seen(wrapper: Any, writes: Writes) -> Any:
    """Return this class of wrappers, whose objects tell `writes` what they are put around."""

    class Seen(wrapper):  # type: ignore[misc]
        _under_way: tuple[str, int] | None = None
        #: The last write on this connection: a COMMIT is of that.
        _last = ""

        def __enter__(self) -> None:
            write = _write_of(sys._getframe(1), self._last)
            if write is not None and not write.startswith(_COMMIT):
                self._last = write
            self._under_way = None if write is None else (write, writes.begin(write))
            super().__enter__()

        def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
            if self._under_way is not None and exc_type is None:
                writes.end(*self._under_way)
            super().__exit__(exc_type, exc_value, traceback)

    return Seen


def _write_of(frame: FrameType, before: str) -> str | None:
    """Return what this frame is about to send if that is a write. What is not known is taken for one."""
    name = frame.f_code.co_name
    if name == "_commit":
        return f"{_COMMIT} of {before}"[:_LENGTH]
    sent = frame.f_locals.get("sql", frame.f_locals.get("statement"))
    text = getattr(sent, "text", sent)
    if text is not None:
        return _told(str(text))
    if name == _ONE_WRITE:
        return "INSERT of one record"
    return None if name in _NO_WRITES else f"something in {name}()"


@cache
def _told(text: str) -> str | None:
    """Return how the first write in this statement begins; `None` if there is none."""
    words = " ".join(_LOCKS.sub("", text).split())
    found = _WRITES.search(words)
    return words[found.start() :][:_LENGTH] if found else None
