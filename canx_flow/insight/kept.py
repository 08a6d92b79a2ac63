"""What a process has read, shown again for some seconds: however many pages ask for it, one thread reads it.

Called by what every page shows: the banner, the graph of a workflow, the dashboard in short.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

Key = TypeVar("Key", bound=Hashable)
Found = TypeVar("Found")

#: If reading takes long, what was found is shown for so many times as long.
COST = 20
#: Seconds past which nobody is shown what is there while another thread reads: they wait for that one.
STALE = 60.0


class _Entry(Generic[Found]):
    """What was found, until when it is shown, and who reads it anew."""

    __slots__ = ("found", "reading", "until")

    def __init__(self) -> None:
        self.reading = threading.Lock()
        self.until = float("-inf")
        self.found: list[Found] = []


class Kept(Generic[Key, Found]):
    """What was found for each key, for `most` of them: the one that was asked for first makes room."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: dict[Key, _Entry[Found]] = {}
        self._changing = threading.Lock()
        _all.add(self)

    def get(self, key: Key, read: Callable[[], Found], fresh: float) -> Found:
        """Return what was found within the last `fresh` seconds, else what `read` returns.

        One thread reads at a time. The others are given what was found before, unless that is too old.
        """
        entry = self._entry(key)
        now = time.monotonic()
        if now < entry.until:
            return entry.found[0]
        if not entry.reading.acquire(blocking=now >= entry.until + STALE):
            return entry.found[0]
        try:
            if time.monotonic() >= entry.until:  # Else another thread has read it meanwhile.
                self._read(entry, read, fresh)
            return entry.found[0]
        finally:
            entry.reading.release()

    def put(self, key: Key, found: Found, fresh: float) -> None:
        """Have this shown from now on: somebody has just read it."""
        entry = self._entry(key)
        entry.found, entry.until = [found], time.monotonic() + fresh

    def forget(self) -> None:
        """Read everything anew when it is asked for next."""
        with self._changing:
            self._entries.clear()

    def _entry(self, key: Key) -> _Entry[Found]:
        entry = self._entries.get(key)
        if entry is not None:
            return entry
        with self._changing:
            while key not in self._entries and len(self._entries) >= self._most:
                del self._entries[next(iter(self._entries))]
            return self._entries.setdefault(key, _Entry())

    def _read(self, entry: _Entry[Found], read: Callable[[], Found], fresh: float) -> None:
        began = time.monotonic()
        entry.found = [read()]
        ended = time.monotonic()
        entry.until = ended + max(fresh, COST * (ended - began))


_all: WeakSet[Kept[Any, Any]] = WeakSet()


def forget() -> None:
    """Have everything read anew; for tests."""
    for kept in list(_all):
        kept.forget()
