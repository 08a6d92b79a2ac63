"""How many runs of each partition of one queue were first claimed of late. Used by `allowance`, under the queue's lock.

A row for each partition that has started runs within the last window; those that are over are deleted on the way.
"""

from __future__ import annotations

from collections.abc import Collection

from ..core.windows import PARTS, Rate, Window
from .db.portable import Portable
from .db.tables import PARTITION_WINDOW, placeholders

_DELETED = 200  # rows in one claim


class PartitionWindows:
    """The windows of those partitions that a claim asks for; without a rate there are none."""

    def __init__(self, session: Portable, queue: str, rate: Rate | None, now: float) -> None:
        self._session = session
        self._queue = queue
        self._rate = rate
        self._now = now
        self._windows: dict[str, Window] = {}
        self._stored: set[str] = set()
        self._changed: set[str] = set()

    def read(self, partitions: Collection[str]) -> None:
        """Read those of these partitions that were not read yet."""
        if self._rate is None:
            return
        missing = sorted(set(partitions) - self._windows.keys())
        if not missing:
            return
        statement = f"SELECT partition_key, {self._column} FROM {PARTITION_WINDOW} WHERE queue = %s AND partition_key"
        rows = self._session.fetch(f"{statement} IN ({placeholders(missing)})", [self._queue, *missing])
        found = dict(rows)
        self._stored |= found.keys()
        for name in missing:
            window = self._windows[name] = Window.read(self._rate, found.get(name, ""), self._now)
            if window.is_moved:
                self._changed.add(name)

    @property
    def _column(self) -> str:
        return str(self._session.connection.ops.quote_name("window"))  # To MySQL this is a word of its own.

    def may_start(self, partition: str | None) -> bool:
        """Return whether the rate of a partition, which was read, allows a first claim."""
        return self._rate is None or partition is None or self._windows[partition].free() > 0

    def add(self, partition: str | None, number: int) -> None:
        """Count first claims."""
        if self._rate is not None and partition is not None:
            self._windows[partition].add(number, self._now)
            self._changed.add(partition)

    def free_at(self) -> float | None:
        """Return when the first of those that were found full may start a run again."""
        return min((window.free_at() for window in self._windows.values() if not window.free()), default=None)

    def store(self) -> None:
        """Write what was counted; delete some of those that are over."""
        if self._rate is None or not self._changed:
            return
        ends_at = self._now + self._rate.seconds * (PARTS + 1) / PARTS
        new, known = self._changed - self._stored, self._changed & self._stored
        self._session.execute_many(
            f"INSERT INTO {PARTITION_WINDOW} (queue, partition_key, {self._column}, ends_at) VALUES (%s, %s, %s, %s)",
            [(self._queue, name, self._windows[name].text(), ends_at) for name in sorted(new)],
        ) if new else None
        self._session.execute_many(
            f"UPDATE {PARTITION_WINDOW} SET {self._column} = %s, ends_at = %s WHERE queue = %s AND partition_key = %s",
            [(self._windows[name].text(), ends_at, self._queue, name) for name in sorted(known)],
        ) if known else None
        self._delete()

    def _delete(self) -> None:
        statement = (
            f"SELECT id FROM {PARTITION_WINDOW} WHERE queue = %s AND ends_at < %s ORDER BY ends_at LIMIT {_DELETED}"
        )
        rows = self._session.fetch(statement, [self._queue, self._now])
        self._session.delete(PARTITION_WINDOW, "id", [row_id for (row_id,) in rows])
