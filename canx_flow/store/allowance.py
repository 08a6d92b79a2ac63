"""What the limits of one queue allow at a moment, while its row is locked: places, rates, and those of partitions.

Used by `filling`, which takes the runs. Owned runs are counted anew for each; windows of rates are read, counted up,
and written if anything was counted.
"""

from __future__ import annotations

from collections.abc import Collection

from ..core.windows import Window
from .db.portable import Portable
from .db.ready import Taker
from .db.tables import WORKER
from .partition_windows import PartitionWindows
from .queue_looks import Found
from .queue_rows import Locked, count_owned, write_window


class Allowance:
    """How many runs may be claimed, in all and of each partition, and how many of those for the first time."""

    def __init__(self, session: Portable, taker: Taker, locked: Locked) -> None:
        self._session = session
        self._locked = locked
        self._limits = locked.limits
        self._owned = count_owned(session, locked, taker.owner)
        rate = self._limits.rate
        self._window = None if rate is None else Window.read(rate, locked.window, locked.now)
        self._partitions = PartitionWindows(session, locked.name, self._limits.partition_rate, locked.now)
        self._started = 0
        #: How many places are left.
        self.places = 0

    def offer(self, free: int, ahead: int) -> None:
        """Offer as many places as this worker has free, and as many ahead as starve no other worker of one."""
        own = free + (self._ahead(ahead) if ahead else 0)
        if self._limits.per_worker is not None:
            own = min(own, self._limits.per_worker - self._owned.mine)
        left = self.left_for_all()
        self.places = max(0, own if left is None else min(own, left))

    def left_for_all(self) -> int | None:
        """Return how many more runs may be owned by all workers together; `None`: any number."""
        most = self._limits.concurrency
        return None if most is None else max(0, most - self._owned.all)

    def _ahead(self, ahead: int) -> int:
        """Return how many may be claimed beyond the slots so that every slot of every worker can still be filled."""
        if self._limits.of_partitions:  # A run that waits for a slot would have its partition's place.
            return 0
        left = [most for most in (self.left_for_all(), self.may_start()) if most is not None]
        if not left:
            return ahead
        statement = f"SELECT COALESCE(SUM(concurrency), 0) FROM {WORKER} WHERE state = 'alive'"
        ((slots,),) = self._session.prepared(statement, [])
        return max(0, min(ahead, min(left) - int(slots)))

    def may_start(self) -> int | None:
        """Return how many runs may be claimed for the first time; `None`: any number."""
        return None if self._window is None else self._window.free()

    def full_partitions(self) -> int:
        """Return how many partitions have as many owned runs as one may have."""
        most = self._limits.partition_concurrency
        return 0 if most is None else sum(count >= most for count in self._owned.partitions.values())

    def read(self, partitions: Collection[str | None]) -> None:
        """Read what is needed to tell what these partitions may do."""
        self._partitions.read({name for name in partitions if name is not None})

    def left_in(self, partition: str | None) -> int:
        """Return how many runs of this partition may be claimed."""
        most = self._limits.partition_concurrency
        if partition is None or most is None:
            return self.places
        return min(self.places, most - self._owned.partitions.get(partition, 0))

    def allows(self, found: Found) -> bool:
        """Return whether this run may be claimed now."""
        if self.left_in(found.partition) < 1:
            return False
        return not found.is_fresh or (self.may_start() != 0 and self._partitions.may_start(found.partition))

    def count(self, partition: str | None, *, is_fresh: bool, number: int = 1) -> None:
        """Count a run that is claimed, or (-1) one that was not after all."""
        self.places -= number
        self._owned.add(partition, number)
        if is_fresh:
            self._started += number
            if self._window is not None:
                self._window.add(number, self._locked.now)
            self._partitions.add(partition, number)

    def again_in(self) -> float | None:
        """Return in how many seconds a rate allows more than now; `None`: none holds anything up."""
        moments = [self._partitions.free_at()]
        if self._window is not None and self._window.free() == 0:
            moments.append(self._window.free_at())
        known = [moment for moment in moments if moment is not None]
        return max(0.0, min(known) - self._locked.now) if known else None

    def store(self) -> None:
        """Write what was counted of rates."""
        if self._window is not None and (self._started or self._window.is_moved):
            write_window(self._session, self._locked.name, self._window)
        self._partitions.store()
